"""The sampler on the tiny model: log-probabilities, independence of rows, stops, mesh."""

import functools

import jax
import numpy as np
import pytest
from sampler_cases import policy, prompts, run, sampler

from gtalign_jax import models
from gtalign_jax.algorithms import update
from gtalign_jax.parallel import distributed, mesh, sharding
from gtalign_jax.sections import MeshConfig
from gtalign_jax.types import Prompts, TrainBatch


def scored(batch, rollout, temperature=1.0, dtype="float32"):
  plan = update.Plan(policy().config, dtype, "none", temperature, 12, lambda frozen, own: own)
  train = TrainBatch(batch, rollout.tokens_BC, rollout.mask_BC, None, None, None, None)
  return np.asarray(jax.jit(functools.partial(update.score, plan))(policy().params, None, train)[0])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_scorer(temperature):
  out = run(sampler(temperature=temperature), prompts())
  assert out.tokens_BC.shape == (16, 12) and out.mask_BC.all()
  assert np.abs(out.logp_BC - scored(prompts(), out, temperature)).max() < 1e-4
  np.testing.assert_allclose(out.truncated_logp_BC, out.logp_BC, atol=1e-5)


@pytest.mark.parametrize("transposed", [True, False])
def test_bf16_logprobs_are_near_those_of_the_scorer(transposed):
  out = run(sampler(dtype="bfloat16", transposed=transposed), prompts())
  gap = np.abs(out.logp_BC - scored(prompts(), out, dtype="bfloat16"))
  assert gap.mean() < 2e-3 and gap.max() < 1e-2  # bf16 holds 8 bits


def test_truncated_logprobs_exceed_untruncated_ones():
  out = run(sampler(top_k=5), prompts())
  assert (out.truncated_logp_BC > out.logp_BC + 0.1).all()  # 5 of 300 near-uniform tokens
  assert np.abs(out.logp_BC - scored(prompts(), out)).max() < 1e-4


def test_a_row_depends_on_its_prompt_and_id_alone():
  whole = run(sampler(), prompts())
  batch = jax.tree.map(lambda x: x[2:3], prompts())
  alone = run(sampler(), batch)
  np.testing.assert_array_equal(whole.tokens_BC[8:12], alone.tokens_BC)
  other_step = run(sampler(), batch, step=1)
  assert (other_step.tokens_BC != alone.tokens_BC).any()
  moved = run(sampler(), batch._replace(row_P=batch.row_P + 1))
  assert (moved.tokens_BC != alone.tokens_BC).any()


@pytest.mark.parametrize("transposed, rounding", [(False, 0), (True, 2e-6)])
def test_segment_length_changes_nothing(transposed, rounding):
  """Caches that grow (CPU) add the same numbers in another order; the others are equal bit for bit."""
  plan = {"transposed": transposed}
  one = run(sampler(segment=12, **plan), prompts())
  many = run(sampler(segment=1, **plan), prompts())
  for a, b in zip(one, many):
    np.testing.assert_allclose(a, b, atol=rounding if a.dtype == np.float32 else 0)


def test_greedy_is_the_argmax_of_the_full_forward_pass():
  out = run(sampler(temperature=0.0, group_size=2), prompts())
  batch = prompts()
  for p, length in enumerate(np.asarray(batch.length_P)):
    text = np.asarray(batch.tokens_PT)[p, :length]
    full = np.concatenate([text, out.tokens_BC[2 * p]])[None]
    best = np.asarray(policy().logits(full))[0].argmax(-1)
    np.testing.assert_array_equal(best[length - 1 : -1], out.tokens_BC[2 * p])


def test_eos_ends_a_row_and_is_its_last_token():
  free = run(sampler(), prompts())
  eos = int(free.tokens_BC[5, 4])
  out = run(sampler(eos=(eos,)), prompts())
  for row, mask, stopped, before in zip(out.tokens_BC, out.mask_BC, out.stopped_B, free.tokens_BC):
    hits = np.flatnonzero(before == eos)
    count = hits[0] + 1 if len(hits) else 12
    assert stopped == bool(len(hits)) and mask.sum() == count and mask[:count].all()
    np.testing.assert_array_equal(row[:count], before[:count])
    assert (row[count:] == 0).all()
  assert out.stopped_B[5] and not out.stopped_B.all()


def test_stop_string_across_tokens():
  free = run(sampler(), prompts())
  text = policy().tokenizer.decode(free.tokens_BC[6])
  wanted = text[3:6]
  out = run(sampler(stops=("never there", wanted)), prompts())
  assert out.stopped_B[6]
  ended = policy().tokenizer.decode(out.tokens_BC[6][out.mask_BC[6]])
  assert ended == text[: text.index(wanted) + len(wanted)]


def test_padding_prompts_produce_nothing():
  batch = prompts(lengths=(7, 12, 3, 0))
  out = run(sampler(), batch)
  assert not out.mask_BC[12:].any() and out.mask_BC[:12].all()


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_mesh_changes_no_sample(shape):
  grid = mesh.make(MeshConfig(data=shape[0], fsdp=shape[1], tensor=shape[2]))
  rows = sharding.sharding(grid, ("batch",))
  batch = prompts(lengths=(7, 12, 3, 9, 5, 6, 7, 8))
  one = run(sampler(), batch)
  sharded = distributed.to_device(jax.tree.map(np.asarray, batch), Prompts(rows, rows, rows))
  params = models.load("random:tiny", mesh=grid).params
  with jax.set_mesh(grid):
    many = sampler()(params, sharded, jax.random.key(3), np.int32(0))
  np.testing.assert_array_equal(one.tokens_BC, np.asarray(many.tokens_BC))
  np.testing.assert_allclose(one.logp_BC, np.asarray(many.logp_BC), atol=1e-4)
