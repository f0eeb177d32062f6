"""Sampling with the tiny model: log-probabilities, independence of rows, stops, mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampler_cases import engine, policy, prompts, run

from gtalign_jax import models
from gtalign_jax.algorithms import scoring
from gtalign_jax.models import decoder
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.rollout.engine import to_device
from gtalign_jax.sections import MeshConfig, PolicyConfig
from gtalign_jax.types import TrainBatch

pytestmark = pytest.mark.usefixtures("shared_programs")


def scored(ids, rollout, temperature=1.0, dtype="float32", params=None):
  """Log-probabilities of the rollout's tokens as training computes them."""
  target = scoring.Objective(policy().config, PolicyConfig(dtype=dtype), temperature, 12, None)
  one = meshes.make(MeshConfig(), jax.devices()[:1])
  batch = to_device(one, ids, range(len(ids)), len(ids), (16,))
  train = TrainBatch(batch, rollout.tokens_BC, rollout.mask_BC, None, None, None, None)
  score = jax.jit(functools.partial(scoring.logprobs_only, target))
  return np.asarray(score(policy().params if params is None else params, None, train))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_scorer(temperature):
  out = run(engine(temperature=temperature), prompts())
  assert out.tokens_BC.shape == (16, 12) and out.mask_BC.all()
  assert np.abs(out.logp_BC - scored(prompts(), out, temperature)).max() < 1e-4


@pytest.mark.parametrize("layout", ["columns", "rows"])
def test_bf16_logprobs_are_near_those_of_the_scorer(layout):
  out = run(engine(dtype="bfloat16", layout=layout), prompts())
  gap = np.abs(out.logp_BC - scored(prompts(), out, dtype="bfloat16"))
  assert gap.mean() < 2e-3 and gap.max() < 1e-2  # bf16 holds 8 bits


def test_sampler_and_trainer_round_alike():
  """On one path the parameters that decoding reads and those that are trained give equal numbers.

  Trained norms are spread; rounding their scales for the sampler alone made 0.02 nats a token.
  """
  rng = np.random.default_rng(0)

  def spread(path, x):
    if path[-1].key == "scale":
      return x + jnp.asarray(0.3 * rng.standard_normal(x.shape), jnp.float32)
    return 4 * x

  trained = jax.tree.map_with_path(spread, policy().params)
  read = decoder.cast(trained, "bfloat16")
  assert read["layers"]["q"]["kernel"].dtype == jnp.bfloat16
  assert {read["norm"]["scale"].dtype, read["layers"]["mlp_norm"]["scale"].dtype} == {
    jnp.dtype("float32")
  }
  out = run(engine(dtype="bfloat16", layout="rows"), prompts(), params=read)
  both = [scored(prompts(), out, dtype="bfloat16", params=each) for each in (trained, read)]
  np.testing.assert_array_equal(*both)
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), trained)
  assert (scored(prompts(), out, dtype="bfloat16", params=rounded) != both[0]).any()
  # what is left between sampler and trainer is the order of their sums
  assert np.abs(out.logp_BC - both[0]).mean() < 0.02


def test_truncated_sampling_is_scored_by_the_untruncated_policy():
  out = run(engine(top_k=5), prompts())
  assert np.abs(out.logp_BC - scored(prompts(), out)).max() < 1e-4


def test_a_row_depends_on_its_prompt_and_number_alone():
  whole = run(engine(), prompts())
  third = prompts()[2:3]
  alone = run(engine(slots=1), third, row_P=np.asarray([2]))
  np.testing.assert_array_equal(whole.tokens_BC[8:12], alone.tokens_BC)
  other_step = run(engine(slots=1), third, row_P=np.asarray([2]), step=1)
  assert (other_step.tokens_BC != alone.tokens_BC).any()
  moved = run(engine(slots=1), third, row_P=np.asarray([3]))
  assert (moved.tokens_BC != alone.tokens_BC).any()


@pytest.mark.parametrize("layout, rounding", [("rows", 0), ("columns", 2e-6)])
def test_segment_length_changes_nothing(layout, rounding):
  """Caches that grow (CPU) add the same numbers in another order; the others are equal bit for bit."""
  one = run(engine(segment=12, layout=layout), prompts())
  many = run(engine(segment=1, layout=layout), prompts())
  for a, b in zip(one, many):
    np.testing.assert_allclose(a, b, atol=rounding if a.dtype == np.float32 else 0)


def test_both_layouts_draw_the_same_tokens():
  rows, columns = (run(engine(layout=layout), prompts()) for layout in ("rows", "columns"))
  np.testing.assert_array_equal(rows.tokens_BC, columns.tokens_BC)
  np.testing.assert_allclose(rows.logp_BC, columns.logp_BC, atol=3e-6)


def test_greedy_is_the_argmax_of_the_full_forward_pass():
  out = run(engine(temperature=0.0, group_size=2), prompts())
  for p, text in enumerate(prompts()):
    full = np.concatenate([text, out.tokens_BC[2 * p]])[None]
    best = np.asarray(policy().logits(full))[0].argmax(-1)
    np.testing.assert_array_equal(best[len(text) - 1 : -1], out.tokens_BC[2 * p])


def test_eos_ends_a_row_and_is_its_last_token():
  free = run(engine(), prompts())
  eos = int(free.tokens_BC[5, 4])
  out = run(engine(eos=(eos,)), prompts())
  for row, mask, stopped, before in zip(out.tokens_BC, out.mask_BC, out.stopped_B, free.tokens_BC):
    hits = np.flatnonzero(before == eos)
    count = hits[0] + 1 if len(hits) else 12
    assert stopped == bool(len(hits)) and mask.sum() == count and mask[:count].all()
    np.testing.assert_array_equal(row[:count], before[:count])
    assert (row[count:] == 0).all()
  assert out.stopped_B[5] and not out.stopped_B.all()


def test_stop_string_across_tokens():
  free = run(engine(), prompts())
  text = policy().tokenizer.decode(free.tokens_BC[6])
  wanted = text[3:6]
  out = run(engine(stops=("never there", wanted)), prompts())
  assert out.stopped_B[6]
  ended = policy().tokenizer.decode(out.tokens_BC[6][out.mask_BC[6]])
  assert ended == text[: text.index(wanted) + len(wanted)]


def test_empty_slots_change_nothing():
  whole, roomy = run(engine(), prompts()), run(engine(slots=7), prompts())
  np.testing.assert_array_equal(whole.tokens_BC, roomy.tokens_BC)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_mesh_changes_no_sample(shape):
  grid = meshes.make(MeshConfig(data=shape[0], fsdp=shape[1], tensor=shape[2]))
  ids = prompts(lengths=(7, 12, 3, 9, 5, 6, 7, 8))
  one = run(engine(slots=8), ids)
  params = models.load("random:tiny", mesh=grid).params
  many = run(engine(slots=8, mesh=grid), ids, params=params)
  np.testing.assert_array_equal(one.tokens_BC, many.tokens_BC)
  np.testing.assert_allclose(one.logp_BC, many.logp_BC, atol=1e-4)
