"""The decoder as a function: cache, shared prompts, masks, remat, dtypes, the parameter tree."""

import dataclasses

import jax
import jax.numpy as jnp
import model_cases
import numpy as np
import pytest

from gtalign_jax.models import decoder, decoding, prefix
from gtalign_jax.models.variants import TINY
from gtalign_jax.types import Context, Prompts

G, PROMPT, COMPLETION = 3, 14, 9


@pytest.fixture(scope="module")
def params():
  return jax.jit(decoder.init, static_argnums=0)(TINY, jax.random.key(3))


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("name", ["llama3", "qwen3_bias_window", "mistral", "gemma3"])
def test_prefill_and_steps_equal_one_pass(name, layout):
  arch, made = model_cases.build(name)
  inputs = model_cases.inputs()
  hidden_BTD, _ = model_cases.forward(arch, made, *inputs)
  whole_BTV = decoder.unembed(arch, made, hidden_BTD)[:, 20:]
  steps_BTV = model_cases.through_cache(arch, made, *inputs, prefill=20, layout=layout)
  assert model_cases.relative_gap(steps_BTV, whole_BTV, inputs[2][:, 20:]) < 1e-5


@pytest.mark.parametrize("name", ["llama3", "gemma3"])
def test_both_layouts_decode_alike_in_bf16(name):
  """Rows and columns round the same products once each; bf16 holds 8 bits."""
  arch, made = model_cases.build(name)
  made = jax.tree.map(lambda x: x.astype(jnp.bfloat16), made)
  rows, columns = (
    model_cases.through_cache(
      arch, made, *model_cases.inputs(), prefill=20, layout=layout, dtype="bfloat16"
    )
    for layout in ("rows", "columns")
  )
  real = model_cases.inputs()[2][:, 20:]
  assert 0 < model_cases.relative_gap(rows, columns, real) < 0.05


def test_the_door():
  assert decoding.native() == "columns" and jax.default_backend() == "cpu"
  assert decoding.layout("rows") is decoding.LAYOUTS["rows"]
  shared = ("prepare", "prompt_cache", "empty", "grow", "step", "SLOTS", "GROWS", "CACHE_AXES")
  assert all(hasattr(each, name) for each in decoding.LAYOUTS.values() for name in shared)


def groups(vocab):
  """Two prompts of unequal length, right-padded, with G completions each."""
  rng = np.random.default_rng(1)
  prompts_PT = rng.integers(0, vocab, (2, PROMPT)).astype(np.int32)
  tokens_BC = rng.integers(0, vocab, (2 * G, COMPLETION)).astype(np.int32)
  return prompts_PT, np.array([PROMPT, 10], np.int32), tokens_BC


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_shared_prompts_equal_the_plain_layout(name):
  """Hidden states and gradients of G completions on one prompt pass are those of G full passes."""
  arch, made = model_cases.build(name)
  prompts_PT, length_P, tokens_BC = groups(arch.vocab_size)
  weight_BCD = np.random.default_rng(2).standard_normal((2 * G, COMPLETION, arch.width))

  def shared(p):
    batch = Prompts(jnp.asarray(prompts_PT), jnp.asarray(length_P), jnp.arange(2))
    return prefix.hidden(arch, p, batch, tokens_BC, dtype="float32")

  def plain(p):
    tokens_BT = np.zeros((2 * G, PROMPT + COMPLETION), np.int32)
    for b, completion_C in enumerate(tokens_BC):
      row = np.concatenate([prompts_PT[b // G, : length_P[b // G]], completion_C])
      tokens_BT[b, : len(row)] = row
    length_B1 = np.repeat(length_P, G)[:, None]
    slots_1T = np.arange(tokens_BT.shape[1])[None]
    positions_BT = np.repeat(slots_1T, 2 * G, axis=0)
    real_BT = slots_1T < length_B1 + COMPLETION
    hidden_BTD, _ = decoder.forward(arch, p, tokens_BT, positions_BT, real_BT)
    at_BC1 = (length_B1 - 1 + np.arange(COMPLETION))[..., None]
    return jnp.take_along_axis(hidden_BTD, at_BC1, axis=1)

  def loss(run, p):
    hidden_BCD = run(p)
    return jnp.sum(hidden_BCD * weight_BCD), hidden_BCD

  def value_and_grad(run):
    return jax.jit(jax.grad(lambda p: loss(run, p), has_aux=True))(made)

  (wanted_grad, wanted), (got_grad, got) = value_and_grad(plain), value_and_grad(shared)
  assert model_cases.relative_gap(got, wanted) < 1e-5
  for a, b in zip(jax.tree.leaves(got_grad), jax.tree.leaves(wanted_grad)):
    assert model_cases.relative_gap(a, b) < 1e-4


def test_padding_changes_nothing_and_empty_rows_stay_finite(params):
  tokens_BT, positions_BT, mask_BT = model_cases.inputs()
  changed_BT = np.where(mask_BT, tokens_BT, (tokens_BT + 5) % TINY.vocab_size)
  first, _ = model_cases.forward(TINY, params, tokens_BT, positions_BT, mask_BT)
  second, _ = model_cases.forward(TINY, params, changed_BT, positions_BT, mask_BT)
  assert np.array_equal(np.asarray(first)[mask_BT], np.asarray(second)[mask_BT])

  def total(p):
    hidden, _ = decoder.forward(TINY, p, tokens_BT, positions_BT, np.zeros_like(mask_BT))
    return jnp.sum(hidden**2)

  value, grad = jax.jit(jax.value_and_grad(total))(params)
  assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(grad))


def test_empty_context_row_stays_finite(params):
  tokens_BT, positions_BT, mask_BT = model_cases.inputs()
  _, cache = model_cases.forward(TINY, params, tokens_BT, positions_BT, mask_BT)
  context = Context(cache, jnp.zeros_like(mask_BT), jnp.asarray(positions_BT))
  hidden, _ = model_cases.forward(
    TINY, params, tokens_BT, positions_BT, np.zeros_like(mask_BT), context=context
  )
  assert np.isfinite(hidden).all()


@pytest.mark.parametrize("remat", ["full", "dots", "names"])
def test_remat_keeps_gradients_and_saves_memory(params, remat):
  tokens_BT, positions_BT, mask_BT = model_cases.inputs()

  def compiled(policy):
    def total(p):
      hidden, _ = decoder.forward(TINY, p, tokens_BT, positions_BT, mask_BT, remat=policy)
      return jnp.sum(hidden**2)

    return jax.jit(jax.grad(total)).lower(params).compile()

  plain, saving = compiled("none"), compiled(remat)
  for a, b in zip(jax.tree.leaves(plain(params)), jax.tree.leaves(saving(params))):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  used = [run.memory_analysis().temp_size_in_bytes for run in (saving, plain)]
  assert used[0] < used[1]


def test_dtype_policy(params):
  """bf16 computes on f32 masters: f32 gradients, bf16 hidden states, results near those of f32."""
  inputs = model_cases.inputs()
  wide, _ = model_cases.forward(TINY, params, *inputs)
  narrow, cache = model_cases.forward(TINY, params, *inputs, dtype="bfloat16")
  assert narrow.dtype == cache.k.dtype == jnp.bfloat16 and wide.dtype == jnp.float32
  assert decoder.unembed(TINY, params, narrow).dtype == jnp.float32
  gap = model_cases.relative_gap(narrow.astype(jnp.float32), wide, inputs[2])
  assert 0 < gap < 0.05
  loss = lambda p: decoder.forward(TINY, p, *inputs, dtype="bfloat16")[0].sum()  # noqa: E731
  grad = jax.eval_shape(jax.grad(loss), params)
  assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(grad))


def test_parameter_tree(params):
  """init, abstract and logical_axes describe one tree; masters take the asked dtype."""
  for name in ("llama_biases_mha", "gemma3"):
    arch, made = model_cases.build(name)
    abstract = decoder.abstract(arch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), made) == jax.tree.map(
      lambda x: (x.shape, x.dtype), abstract
    )
    axes = decoder.logical_axes(arch)
    jax.tree.map(lambda x, names: None if len(names) == x.ndim else pytest.fail(names), made, axes)
  narrow = decoder.abstract(TINY, "bfloat16")
  assert narrow["embed"]["table"].dtype == jnp.bfloat16
  assert narrow["norm"]["scale"].dtype == jnp.float32  # norms are computed in f32 on both sides
  assert "head" not in params
  untied = dataclasses.replace(TINY, tied=False)
  assert decoder.abstract(untied)["head"]["kernel"].shape == (TINY.width, TINY.vocab_size)


def test_head_and_unembed_agree():
  arch, made = model_cases.build("gemma3_pattern_softcap")
  hidden_BD = jax.random.normal(jax.random.key(0), (2, arch.width)) * 3
  head_DV, softcap = decoder.head(arch, made), arch.softcap
  logits_BV = decoder.unembed(arch, made, hidden_BD)
  np.testing.assert_allclose(
    logits_BV, softcap * np.tanh(hidden_BD @ head_DV / softcap), rtol=1e-5, atol=1e-5
  )
  assert np.abs(logits_BV).max() <= softcap == 1.5
