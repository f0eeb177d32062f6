"""Slices cover every row once, hold its values, and keep padding low."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.algorithms import slices
from gtalign_jax.types import Prompts, TrainBatch

BUDGET, WIDTHS = 40, (8, 16, 40)


@settings(max_examples=50)
@given(
  st.lists(st.lists(st.integers(0, BUDGET), min_size=4, max_size=4), min_size=6, max_size=6),
  st.sampled_from([0, 1, 2, 3]),
  st.sampled_from([0, 1, 2]),
)
def test_every_row_once_and_wide_enough(counts, micro_prompts, micro_samples):
  count_PG = np.asarray(counts)
  seen = np.zeros_like(count_PG)
  cuts = slices.cut(count_PG, micro_prompts, micro_samples, WIDTHS)
  for each in cuts:
    longest = max(count_PG[p, samples].max() for p, samples in zip(each.prompt_p, each.sample_pg))
    assert each.width == min(width for width in WIDTHS if width >= longest)
    for p, samples in zip(each.prompt_p, each.sample_pg):
      seen[p, samples] += 1
  assert (seen == 1).all()
  assert 0 <= slices.padding(count_PG, cuts) <= 1


@pytest.mark.parametrize(
  ("buckets", "budget", "widths"),
  [
    ((8, 16), 16, [8, 16]),
    ((8, 16), 20, [8, 16, 20]),
    ((8, 16), 5, [5]),
    ((), 20, [5, 10, 15, 20]),
    ((), 6, [2, 3, 5, 6]),
    ((), 2, [1, 2]),
  ],
)
def test_widths_end_at_the_budget(buckets, budget, widths):
  assert slices.widths(buckets, budget) == widths


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.sampled_from([0, 1, 2, 3]), st.sampled_from([0, 1, 3]))
def test_trained_rows_once_and_no_others(seed, micro_prompts, micro_samples):
  rng = np.random.default_rng(seed)
  count_PG = rng.integers(0, BUDGET + 1, (6, 5))
  trained_PG = rng.permuted(np.arange(5)[None].repeat(6, 0), axis=1) < 3
  cuts = slices.cut(count_PG, micro_prompts, micro_samples, WIDTHS, trained_PG)
  seen = np.zeros_like(count_PG)
  for each in cuts:
    rows = each.prompt_p[:, None], each.sample_pg
    seen[rows] += 1
    assert each.width == min(width for width in WIDTHS if width >= count_PG[rows].max())
  np.testing.assert_array_equal(seen, trained_PG)
  slots = sum(each.sample_pg.size * each.width for each in cuts)
  assert slices.padding(count_PG, cuts) == pytest.approx(1 - count_PG[trained_PG].sum() / slots)


def test_take_keeps_rows_and_their_values_together():
  P, G = 4, 2
  ids_B = jnp.arange(P * G)
  tokens_BC = ids_B[:, None] * 100 + jnp.arange(BUDGET)
  prompt = Prompts(
    jnp.arange(P)[:, None] + jnp.zeros((P, 3), jnp.int32), jnp.arange(P), jnp.arange(P)
  )
  batch = TrainBatch(prompt, tokens_BC, tokens_BC > 0, ids_B * 1.0, tokens_BC * 0.5, None, None)
  out = slices.take(16, batch, np.asarray([2, 3]), np.asarray([[1], [0]]))
  np.testing.assert_array_equal(out.advantage, [5.0, 6.0])
  np.testing.assert_array_equal(out.tokens_BC, tokens_BC[jnp.asarray([5, 6]), :16])
  np.testing.assert_array_equal(out.sampler_logp_BC, tokens_BC[jnp.asarray([5, 6]), :16] * 0.5)
  np.testing.assert_array_equal(out.prompt.length_P, [2, 3])
  assert out.ref_logp_BC is None


def test_sorting_keeps_padding_low():
  rng = np.random.default_rng(0)
  count_PG = rng.integers(150, 320, (8, 8))
  one = slices.padding(count_PG, slices.cut(count_PG, 0, 0, [320]))
  many = slices.padding(count_PG, slices.cut(count_PG, 2, 2, range(32, 321, 32)))
  assert many < 0.15 < one
