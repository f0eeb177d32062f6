"""Equilibria of the 2x3 game against nashpy's vertex enumeration, and what they say of welfare."""

import warnings

import jax
import jax.numpy as jnp
import nashpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gtalign_jax.game import equilibrium, payoff

matrices = hnp.arrays(np.float64, (2, 3, 2), elements=st.integers(-3, 3).map(float))


def listed(found, row):
  """The equilibria of one game as sorted (user strategy, LLM strategy) vectors."""
  user, llm = equilibrium.strategies(found)
  mask = np.asarray(found.mask_BE)[row]
  return sorted(tuple(np.concatenate([user[row, e], llm[row, e]])) for e in np.flatnonzero(mask))


def nashpy_equilibria(matrix):
  # nashpy's support enumeration loses equilibria to rounding (it returned none for 8 of 300 random
  # games); its vertex enumeration does not.
  game = nashpy.Game(matrix[..., 1], matrix[..., 0])
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return sorted(tuple(np.concatenate(pair)) for pair in game.vertex_enumeration())


def test_all_equilibria_of_random_games():
  tensor = np.random.default_rng(0).normal(size=(150, 2, 3, 2))
  found = equilibrium.equilibria(tensor)
  assert not found.degenerate_B.any()
  for row, matrix in enumerate(tensor):
    ours, theirs = listed(found, row), nashpy_equilibria(matrix)
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
  counts = np.asarray(found.mask_BE).sum(axis=1)
  assert set(counts) == {1, 3}  # odd, as theory says, and both kinds were seen
  assert found.mask_BE[:, 6:].any(axis=0).all()  # every mixed slot was used


@given(matrices)
def test_every_listed_profile_is_an_equilibrium_and_there_is_one(matrix):
  """Also in degenerate games, which small integers make common."""
  found = equilibrium.equilibria(matrix)
  assert found.mask_BE.any()
  user_EU, llm_EA = equilibrium.strategies(found)
  for e in np.flatnonzero(found.mask_BE):
    assert user_EU[e].sum() == pytest.approx(1)
    assert llm_EA[e].sum() == pytest.approx(1)
    assert min(user_EU[e].min(), llm_EA[e].min()) >= 0
    by_user = matrix[..., 1] @ llm_EA[e]
    by_llm = user_EU[e] @ matrix[..., 0]
    assert user_EU[e] @ by_user >= by_user.max() - 1e-12
    assert by_llm @ llm_EA[e] >= by_llm.max() - 1e-12
    if e >= 6:
      expected = (by_llm @ llm_EA[e], user_EU[e] @ by_user)
      np.testing.assert_allclose(found.value_BMR[e - 6], expected, atol=1e-12)


@given(matrices)
def test_degenerate_by_definition(matrix):
  """Some strategy has more pure best replies than its support (von Stengel 2002)."""
  llm, user = matrix[..., 0], matrix[..., 1]
  columns = (user[0] == user[1]).any()
  rows = any((llm[u] == llm[u].max()).sum() > 1 for u in range(2))
  mixed = False
  slope = llm[0] - llm[1]
  for a, b in ((0, 1), (0, 2), (1, 2)):
    if slope[a] != slope[b]:
      p = (llm[1, b] - llm[1, a]) / (slope[a] - slope[b])
      values = p * llm[0] + (1 - p) * llm[1]
      mixed |= 0 < p < 1 and bool(np.isclose(values, values.max(), atol=1e-12).all())
  assert bool(equilibrium.equilibria(matrix).degenerate_B) == (columns or rows or mixed)


def test_best_replies():
  matrix = np.zeros((2, 3, 2))
  matrix[..., 0] = [[1, 3, 2], [4, 4, 0]]
  matrix[..., 1] = [[0, 1, 5], [2, 1, 4]]
  user, llm = equilibrium.best_replies(matrix)
  np.testing.assert_array_equal(user, [[False, True, True], [True, True, False]])
  np.testing.assert_array_equal(llm, [[False, True, False], [True, True, False]])


def prisoners():
  """DQ/DA is good for both, but each gains by leaving it: (VQ, CQ) is the only equilibrium."""
  matrix = np.full((2, 3, 2), -9.0)
  matrix[0, 0], matrix[0, 1] = (3, 3), (5, 0)
  matrix[1, 0], matrix[1, 1] = (0, 5), (1, 1)
  return matrix


def test_dilemma_gap_and_price_of_anarchy():
  outcome = equilibrium.outcome(prisoners())
  assert outcome.dilemma
  assert outcome.gap == pytest.approx(3 - 1)
  assert outcome.price_of_anarchy == pytest.approx(6 / 2)


def test_no_dilemma_where_one_equilibrium_is_optimal():
  matrix = np.full((2, 3, 2), -9.0)
  matrix[0, 0], matrix[1, 1] = (3, 3), (1, 1)  # a coordination game with a bad equilibrium too
  outcome = equilibrium.outcome(matrix)
  assert not outcome.dilemma
  found = equilibrium.equilibria(matrix)
  assert found.mask_BE[0] and found.mask_BE[4] and found.mask_BE[6:].any()
  assert outcome.gap == pytest.approx(3.0)  # the mixed one pays below 0, so W = 0 there
  assert np.isnan(outcome.price_of_anarchy)  # its sum is negative


def test_dilemma_can_be_mixed():
  """Matching pennies has one mixed equilibrium, worth (0, 0); DQ_AQ would be better for both."""
  matrix = np.zeros((2, 3, 2))
  matrix[..., 0] = [[1, -1, -0.5], [-1, 1, -3]]
  matrix[..., 1] = [[-1, 1, 2], [1, -1, 3]]
  np.testing.assert_array_equal(np.flatnonzero(equilibrium.equilibria(matrix).mask_BE), [6])
  assert not equilibrium.outcome(matrix).dilemma
  matrix[0, 2, 0] = 0.5  # still no best reply: the LLM answers DQ with DA
  np.testing.assert_array_equal(np.flatnonzero(equilibrium.equilibria(matrix).mask_BE), [6])
  assert equilibrium.outcome(matrix).dilemma


@given(matrices)
def test_outcome_by_hand(matrix):
  found, outcome = equilibrium.equilibria(matrix), equilibrium.outcome(matrix)
  user_EU, llm_EA = equilibrium.strategies(found)
  values = np.einsum("eu,uar,ea->er", user_EU, matrix, llm_EA)[found.mask_BE]
  welfare = lambda v: np.sqrt(np.maximum(v, 0)).prod(axis=-1)  # noqa: E731
  cells = matrix.reshape(6, 2)
  gap = welfare(cells).max() - welfare(values).min()
  assert outcome.gap == pytest.approx(gap, abs=1e-6)  # sqrt of a rounded 0 is about 1e-8
  best, worst = cells.sum(axis=1).max(), values.sum(axis=1).min()
  if best > 0 and worst > 1e-9:
    assert outcome.price_of_anarchy == pytest.approx(best / worst)
  else:
    assert np.isnan(outcome.price_of_anarchy)
  near = 1e-9
  beats = (cells[None] >= values[:, None] - near).all(-1) & (
    cells[None] > values[:, None] + near
  ).any(-1)
  assert bool(outcome.dilemma) == beats.any(axis=1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_have_no_equilibria(value, recwarn):
  matrix = np.ones((2, 3, 2))
  matrix[0, 0, 0] = value
  found = equilibrium.equilibria(matrix)
  assert not found.mask_BE.any() and found.degenerate_B
  outcome = equilibrium.outcome(matrix)
  assert np.isnan(outcome.gap) and np.isnan(outcome.price_of_anarchy) and not outcome.dilemma
  assert not recwarn.list


def test_jit_and_leading_axes_equal_the_host():
  tensor = np.random.default_rng(3).integers(-3, 4, (6, 7, 2, 3, 2)).astype(float)
  with jax.enable_x64(True):
    for function in (equilibrium.equilibria, equilibrium.outcome):
      host, mapped = function(tensor), jax.jit(jax.vmap(function))(jnp.asarray(tensor))
      for name, ours, batched in zip(host._fields, host, mapped):
        assert ours.shape[:2] == (6, 7), name
        np.testing.assert_allclose(batched, ours, atol=1e-12, err_msg=name)
  assert equilibrium.outcome(jnp.asarray(tensor, jnp.float32)).gap.dtype == jnp.float32


def test_the_choice_need_not_be_an_equilibrium():
  matrix = prisoners()
  cell = int(payoff.choose(matrix))
  assert cell == 0 and not equilibrium.equilibria(matrix).mask_BE[cell]
