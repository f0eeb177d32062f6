"""Pareto front, choice rule and choice score, against a plain-Python reading of the rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gtalign_jax.game import payoff

# One decimal and a narrow range, as chains write them: ties are common.
matrices = hnp.arrays(np.float64, (2, 3, 2), elements=st.integers(-20, 20).map(lambda n: n / 10))
types = st.integers(-1, 1)


def in_play(user_type):
  return [(u, a) for u in range(2) for a in range(3) if user_type in (-1, u)]


def front_by_hand(matrix, user_type):
  def beats(c, d):
    return all(matrix[c] >= matrix[d]) and any(matrix[c] > matrix[d])

  cells = in_play(user_type)
  return [c for c in cells if not any(beats(d, c) for d in cells)]


def choice_by_hand(matrix, user_type):
  tenths = np.rint(matrix * 10).astype(int)  # integers: sums are exact, ties are equality
  best = min(
    front_by_hand(matrix, user_type),
    key=lambda c: (-tenths[c].sum(), -tenths[c][1], -tenths[c][0], 3 * c[0] + c[1]),
  )
  return 3 * best[0] + best[1]


@given(matrices, types)
def test_choice_follows_the_rule(matrix, user_type):
  expected = choice_by_hand(matrix, user_type)
  assert payoff.choose(matrix, user_type) == expected
  assert payoff.choose(matrix.astype(np.float32), user_type) == expected


@given(matrices)
def test_front_is_exact_and_never_empty(matrix):
  mask = payoff.pareto_mask(matrix)
  assert mask.shape == (2, 3)
  assert mask.any()
  assert {tuple(map(int, c)) for c in np.argwhere(mask)} == set(front_by_hand(matrix, -1))


@given(matrices, st.permutations(range(3)), st.booleans())
def test_front_and_choice_do_not_depend_on_the_order_of_cells(matrix, order, swap):
  shuffled = matrix[:: -1 if swap else 1][:, list(order)]
  mask = payoff.pareto_mask(matrix)[:: -1 if swap else 1][:, list(order)]
  np.testing.assert_array_equal(payoff.pareto_mask(shuffled), mask)
  # Cells with equal payoffs may swap (the last tie is by index): the payoffs chosen may not.
  one, other = payoff.choose(matrix), payoff.choose(shuffled)
  np.testing.assert_array_equal(matrix.reshape(6, 2)[one], shuffled.reshape(6, 2)[other])


@given(matrices, types, st.integers(-1, 5))
def test_choice_score(matrix, user_type, named):
  front = [3 * u + a for u, a in front_by_hand(matrix, user_type)]
  expected = 1.0 if named == choice_by_hand(matrix, user_type) else 0.5 if named in front else 0.0
  assert payoff.choice_score(matrix, named, user_type) == expected


@settings(max_examples=30)
@given(hnp.arrays(np.float64, (2, 3, 2), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_any_finite_matrix_has_a_choice_on_its_front(matrix):
  cell = int(payoff.choose(matrix))
  assert payoff.pareto_mask(matrix).reshape(6)[cell]


def test_rounded_sums_tie():
  # 0.1 + 0.2 > 0.3 in binary: an exact comparison of sums would prefer cell 0.
  matrix = np.full((2, 3, 2), -9.0)
  matrix[0, 0], matrix[0, 1] = (0.2, 0.1), (0.0, 0.3)
  assert 0.1 + 0.2 > 0.3
  assert payoff.choose(matrix) == 1  # the user's payoff decides
  matrix[0, 1] = (0.0, 0.3 - 1e-12)
  assert payoff.choose(matrix) == 0


def test_a_dominated_cell_does_not_widen_the_ties():
  matrix = np.full((2, 3, 2), -1e18)
  matrix[0, 0], matrix[0, 1] = (2.0, 1.0), (0.0, 2.0)
  assert payoff.choose(matrix) == 0


def test_declared_type_limits_the_front_too():
  # VQ is dominated everywhere by DQ, yet with VQ declared its own row has a front.
  matrix = np.zeros((2, 3, 2))
  matrix[0] = 5.0
  matrix[1, 2] = (1.0, 0.0)
  assert payoff.choose(matrix, 1) == 5
  assert payoff.choice_score(matrix, 5, 1) == 1.0
  assert payoff.choice_score(matrix, 0, 1) == 0.0  # not in play
  assert payoff.choose(matrix, -1) == payoff.choose(matrix) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_have_no_choice(value, recwarn):
  matrix = np.ones((2, 3, 2))
  matrix[1, 1, 0] = value
  assert payoff.choose(matrix) == -1
  assert payoff.choose(matrix, 1) == -1
  assert payoff.choose(matrix, 0) == 0  # out of play
  assert payoff.choice_score(matrix, -1) == 0.0
  assert payoff.choice_score(matrix, 0) == 0.0
  assert not recwarn.list


def test_leading_axes_jit_vmap_and_dtype():
  rng = np.random.default_rng(0)
  tensor = np.round(rng.uniform(-2, 2, (4, 5, 2, 3, 2)), 1).astype(np.float32)
  kind = rng.integers(-1, 2, (4, 5))
  expected = np.array([[choice_by_hand(m, t) for m, t in zip(*row)] for row in zip(tensor, kind)])
  np.testing.assert_array_equal(payoff.choose(tensor, kind), expected)
  np.testing.assert_array_equal(jax.jit(payoff.choose)(tensor, kind), expected)
  mapped = jax.jit(jax.vmap(jax.vmap(payoff.choose)))
  np.testing.assert_array_equal(mapped(tensor, kind), expected)
  np.testing.assert_array_equal(
    jax.jit(payoff.pareto_mask)(jnp.asarray(tensor)), payoff.pareto_mask(tensor)
  )
  score = payoff.choice_score(jnp.asarray(tensor), jnp.asarray(expected), kind)
  assert score.dtype == jnp.float32
  assert (np.asarray(score) == 1.0).all()
  assert payoff.choice_score(tensor, expected).dtype == np.float32


def test_lists_and_integers_are_float64_on_the_host():
  matrix = [[[1, 2], [3, 4], [0, 0]], [[1, 1], [1, 1], [5, 2]]]
  assert payoff.choose(matrix) == 1
  assert payoff.choice_score(matrix, 1).dtype == np.float64


def test_wrong_shape_is_named():
  with pytest.raises(ValueError, match=r"\(2, 3\)"):
    payoff.choose(np.zeros((2, 3)))
