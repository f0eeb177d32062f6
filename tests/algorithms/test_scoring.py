"""Scores that are computed slice by slice lie in whole arrays as if computed at once."""

import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax.algorithms import slices

P, G, C = 6, 4, 16


@pytest.mark.parametrize("micro, trained", [((2, 2), None), ((3, 4), None), ((6, 1), 2)])
def test_put_is_the_reverse_of_take(micro, trained):
  rng = np.random.default_rng(0)
  count_PG = rng.integers(1, C + 1, (P, G))
  trained_PG = np.ones((P, G), bool)
  if trained:
    trained_PG = np.argsort(rng.random((P, G)), axis=1) < trained
  wanted_BC = rng.standard_normal((P * G, C)).astype(np.float32)
  keep_BC = (np.arange(C) < count_PG.reshape(-1, 1)) & trained_PG.reshape(-1, 1)
  whole_BC = jnp.zeros((P * G, C), jnp.float32)
  for each in slices.cut(count_PG, *micro, (8, C), trained_PG):
    rows = (each.prompt_p[:, None] * G + each.sample_pg).reshape(-1)
    part = jnp.asarray(wanted_BC[rows, : each.width])
    whole_BC = slices.put(P, whole_BC, part, each.prompt_p, each.sample_pg)
  np.testing.assert_array_equal(np.asarray(whole_BC)[keep_BC], wanted_BC[keep_BC])


def test_slices_of_some_prompts_hold_these_and_no_others():
  count_PG = np.random.default_rng(1).integers(1, C + 1, (P, G))
  cuts = slices.cut(count_PG, 1, 2, (C,), None, np.asarray([4, 0, 3]))
  seen = np.concatenate([np.repeat(each.prompt_p, each.sample_pg.size) for each in cuts])
  assert sorted(seen.tolist()) == sorted([0, 3, 4] * G)
