"""Collapse and calibration of payoff matrices: by hand, by the definitions, and on odd input."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtalign_jax.game import measures

P, G = 40, 6
ALL = np.ones((P, G), bool)


def drawn(seed=0, shape=(P, G)):
  return np.random.default_rng(seed).normal(size=(*shape, 2, 3, 2))


def collapse(payoff_PGUAR, parsed_PG):
  names = (measures.payoff_icc, measures.distinct_frac, measures.top_matrix_frac)
  return [name(payoff_PGUAR, parsed_PG) for name in names]


# ---------------------------------------------------------------- collapse


def test_icc_by_hand():
  """Two prompts with (1, 3) and (5, 7, 9): MSB = 30, MSW = 10/3, n0 = 12/5: ICC 10/13."""
  payoff = np.full((3, 3, 2, 3, 2), np.nan)  # the third prompt has no parsed sample
  payoff[0, :2] = payoff[1] = 1.0
  payoff[0, :2, 0, 0, 0] = 1, 3
  payoff[1, :, 0, 0, 0] = 5, 7, 9
  parsed = np.isfinite(payoff).all((2, 3, 4))
  assert parsed.sum() == 5
  assert measures.payoff_icc(payoff, parsed) == pytest.approx(10 / 13 / 12, abs=1e-15)
  assert measures.distinct_frac(payoff, parsed) == 1.0
  payoff[0, 1] = payoff[0, 0]
  assert measures.distinct_frac(payoff, parsed) == 4 / 5
  assert measures.top_matrix_frac(payoff, parsed) == 2 / 5


def by_definition(payoff, parsed):
  """ICC(1) of FORMULAS section 10, one number after the other."""
  found = []
  for cell in np.ndindex(2, 3, 2):
    groups = [payoff[p][parsed[p]][(slice(None), *cell)] for p in range(len(parsed))]
    groups = [each for each in groups if len(each)]
    sizes, pooled = [len(each) for each in groups], np.concatenate(groups)
    N, count = sum(sizes), len(groups)
    msb = sum(n * (g.mean() - pooled.mean()) ** 2 for n, g in zip(sizes, groups)) / (count - 1)
    msw = sum(((g - g.mean()) ** 2).sum() for g in groups) / (N - count)
    n0 = (N - sum(n * n for n in sizes) / N) / (count - 1)
    found.append(np.clip((msb - msw) / (msb + (n0 - 1) * msw), 0, 1))
  return np.mean(found)


@given(st.integers(0, 2**32), st.floats(0, 3))
def test_unbalanced_groups_by_definition(seed, between):
  rng = np.random.default_rng(seed)
  payoff = drawn(seed, (9, 4)) + between * rng.normal(size=(9, 1, 2, 3, 2))
  parsed = rng.random((9, 4)) < 0.6
  parsed[0, :2] = parsed[1, 0] = True
  expected = by_definition(payoff, parsed)
  payoff[~parsed] = np.nan  # what is not parsed is not read
  assert measures.payoff_icc(payoff, parsed) == pytest.approx(expected, abs=1e-12)


def test_honest_constant_and_random_matrices():
  honest = drawn(1, (P, 1)) + 0.05 * drawn(2)
  assert measures.payoff_icc(honest, ALL) > 0.99
  for value in (0.1, 4.0, 1e300):  # sums of 0.1 round, and must not pass for variance
    constant = np.full((P, G, 2, 3, 2), value)
    assert collapse(constant, ALL) == [0.0, 1 / ALL.size, 1.0]
  icc, distinct, top = collapse(drawn(3), ALL)
  assert icc < 0.05 and (distinct, top) == (1.0, 1 / ALL.size)
  # noise on one matrix hides the collapse from all but the ICC
  assert measures.payoff_icc(0.1 * drawn(3) + 2.0, ALL) == pytest.approx(icc, abs=1e-9)


@given(st.integers(0, 2**32), st.randoms())
def test_order_scale_and_shift_do_not_matter(seed, random):
  payoff, parsed = drawn(seed, (7, 4)), drawn(seed, (7, 4))[..., 0, 0, 0] < 1
  payoff[3:5] = payoff[0, 0]
  before = collapse(payoff, parsed)
  prompts, samples = random.sample(range(7), 7), random.sample(range(4), 4)
  shuffled = collapse(payoff[prompts][:, samples], parsed[prompts][:, samples])
  np.testing.assert_allclose(shuffled, before, atol=1e-12)
  np.testing.assert_allclose(collapse(payoff * 2.0**1000, parsed), before, atol=1e-12)
  assert measures.payoff_icc(payoff - 1e6, parsed) == pytest.approx(before[0], abs=1e-6)


def test_what_cannot_be_compared_is_nan():
  payoff = drawn()
  assert np.isnan(collapse(payoff, ~ALL)).all()
  assert np.isnan(collapse(payoff[:0], ALL[:0])).all()
  assert np.isnan(measures.payoff_icc(payoff[:1], ALL[:1]))  # one prompt: nothing between
  assert np.isnan(measures.payoff_icc(payoff[:, :1], ALL[:, :1]))  # one sample each: nothing within
  assert measures.distinct_frac(payoff[:1, :1], ALL[:1, :1]) == 1.0
  with pytest.raises(ValueError, match="payoffs"):
    measures.payoff_icc(payoff[..., 0], ALL)


def test_odd_numbers():
  payoff = drawn(4)
  before = collapse(payoff[1:], ALL[1:])
  payoff[0] = np.inf  # paper mode parses it: no game, so it counts nowhere
  payoff[0, 0, 1, 1, 1] = np.nan
  assert collapse(payoff, ALL) == pytest.approx(before)
  signed = np.zeros((2, 2, 2, 3, 2))
  signed[0] = -0.0
  assert collapse(signed, np.ones((2, 2))) == [0.0, 0.25, 1.0]
  huge = np.where(drawn(5) > 0, 1.7e308, -1.7e308)
  assert 0 <= measures.payoff_icc(huge, ALL) < 0.1
  assert measures.payoff_icc(np.sign(huge[:, :1]) * np.full((1, G, 1, 1, 1), 1.7e308), ALL) == 1.0


# ---------------------------------------------------------------- calibration


def test_calibration_by_hand():
  """Three samples of one prompt; targets are means of 10 R - 5 over the others."""
  payoff = np.zeros((1, 4, 2, 3, 2))
  payoff[0, 0, 0] = [[2, 1], [3, 0], [9, 9]]  # declares DQ, does DA
  payoff[0, 1, 1] = [[0, 4], [1, 1], [9, 9]]  # declares VQ, does CQ
  payoff[0, 2] = np.nan  # invalid
  user_type, action = [[0, 1, 0, -1]], [[0, 1, 0, 0]]
  utility = [[[0.8, 0.6], [0.5, 0.9], [np.nan] * 2, [0.6, 0.2]]]  # (L, U)
  valid = [[1, 1, 0, 1]]
  got = measures.calibration(payoff, user_type, action, utility, valid)
  # sample 0: DA as sample 3 (1, -3), CQ as sample 1 (0, 4); off by (1, 4) and (3, -4)
  # sample 1: DA as 0 and 3: (2, -1); nobody else did CQ; off by (-2, 5)
  # sample 3 declares no type: it predicts nothing
  assert got["error"] == pytest.approx([(0.1 + 0.3 + 0.2) / 3, (0.4 + 0.4 + 0.5) / 3])
  # one pair: sample 0 says DA < CQ for the LLM (it came out DA > CQ), DA > CQ for the user (<)
  assert got["order"] == [0.0, 0.0]
  score = got["score_PG"]
  assert score.shape == (1, 4)
  assert score[0, 0] == pytest.approx(1 - (0.01 + 0.09 + 0.16 + 0.16) / 4)
  assert score[0, 1] == pytest.approx(1 - (0.04 + 0.25) / 2)
  assert np.isnan(score[0, 2:]).all()


def test_ties_count_half():
  payoff = np.zeros((1, 4, 2, 3, 2))
  payoff[0, 0, 0, :, 0] = 2, 1, 0
  utility = np.full((1, 4, 2), 0.5)
  utility[0, 1:, 0] = 0.1 + 0.2, 0.3, 0.2  # DA and CQ differ by rounding alone: a tie
  got = measures.calibration(payoff, [[0, -1, -1, -1]], [[-1, 0, 1, 2]], utility, np.ones((1, 4)))
  assert got["order"] == [pytest.approx((0.5 + 1 + 1) / 3), 0.5]  # LLM; user: all tied


def slowly(payoff, user_type, action, utility, valid):
  """The definitions of FORMULAS section 10 as loops."""
  errors, orders, score = ([], []), ([], []), np.full(valid.shape, np.nan)
  for p, i in zip(*np.nonzero(valid)):
    if user_type[p, i] < 0:
      continue
    pairs = {}
    for a in range(3):
      others = [j for j in range(valid.shape[1]) if j != i and valid[p, j] and action[p, j] == a]
      if others:
        pairs[a] = payoff[p, i, user_type[p, i], a], np.mean(10 * utility[p, others] - 5, axis=0)
    if pairs:
      gaps = [said - came for said, came in pairs.values()]
      score[p, i] = np.clip(1 - np.mean(np.square(gaps) / 100), 0, 1)
    for r in range(2):
      errors[r].extend(abs(gap[r]) / 10 for gap in (s - c for s, c in pairs.values()))
      for (s, c), (s2, c2) in itertools.combinations(pairs.values(), 2):
        orders[r].append((1 + np.sign(s[r] - s2[r]) * np.sign(np.round(c[r] - c2[r], 9))) / 2)
  mean = [[np.mean(each) if each else np.nan for each in found] for found in (errors, orders)]
  return {"error": mean[0], "order": mean[1], "score_PG": score}


@given(st.integers(0, 2**32))
def test_calibration_by_definition_and_in_any_order(seed):
  rng = np.random.default_rng(seed)
  shape = (3, 5)
  payoff = rng.integers(-5, 6, (*shape, 2, 3, 2)) / 2
  user_type, action = rng.integers(-1, 2, shape), rng.integers(-1, 3, shape)
  utility, valid = rng.integers(0, 11, (*shape, 2)) / 10, rng.random(shape) < 0.8
  given_ = payoff, user_type, action, utility, valid
  expected = slowly(*given_)
  payoff[~valid], utility[~valid] = np.nan, np.nan
  prompts, samples = rng.permutation(3), rng.permutation(5)
  got = measures.calibration(*given_)
  moved = measures.calibration(*(each[prompts][:, samples] for each in given_))
  for key in ("error", "order", "score_PG"):
    np.testing.assert_allclose(got[key], expected[key], atol=1e-12)
  np.testing.assert_allclose(moved["error"], got["error"], atol=1e-12)
  np.testing.assert_allclose(moved["order"], got["order"], atol=1e-12)
  np.testing.assert_allclose(moved["score_PG"], got["score_PG"][prompts][:, samples], atol=1e-12)


def test_nothing_to_calibrate_is_nan():
  payoff, zeros, utility = drawn(), np.zeros((P, G), int), np.full((P, G, 2), 0.5)
  for case in (
    (payoff, zeros, zeros, utility, ~ALL),  # nobody is valid
    (payoff, zeros - 1, zeros, utility, ALL),  # nobody declares a type
    (payoff, zeros, zeros - 1, utility, ALL),  # nobody does anything
    (payoff, zeros, zeros, utility * np.nan, ALL),
    (np.full_like(payoff, np.inf), zeros, zeros, utility, ALL),
    tuple(each[:, :1] for each in (payoff, zeros, zeros, utility, ALL)),  # no others
  ):
    got = measures.calibration(*case)
    assert np.isnan([got["error"], got["order"]]).all()
    assert np.isnan(got["score_PG"]).all() and got["score_PG"].shape == case[-1].shape


def test_huge_payoffs_score_nothing():
  payoff, zeros = np.full((2, 3, 2, 3, 2), 1.7e308), np.zeros((2, 3), int)
  got = measures.calibration(payoff, zeros, zeros, np.full((2, 3, 2), 0.5), np.ones((2, 3)))
  assert np.isfinite(got["error"]).all() and (got["score_PG"] == 0).all()


def test_the_honest_matrix_earns_most_by_simulation():
  """1,000 games: mean outcomes of each action are drawn, then each sample acts and meets noise."""
  rng = np.random.default_rng(7)
  games, group = 1000, 8
  means = rng.uniform(0.2, 0.9, (games, 3, 2))  # by action, (L, U)
  action = rng.integers(0, 3, (games, group))
  noise = 0.1 * rng.normal(size=(games, group, 2))
  utility = np.clip(means[np.arange(games)[:, None], action] + noise, 0, 1)
  honest = np.broadcast_to((10 * means - 5)[:, None, None], (games, group, 2, 3, 2))
  inflated = np.minimum(honest + 2, 5)
  others = {
    "constant": np.broadcast_to(honest.mean((0, 1, 2, 3)), honest.shape),  # the best constant
    "inflated": inflated,
    "shrunk": honest / 2,
    "shuffled": honest[:, :, :, ::-1],
    "extreme": 5 * np.sign(honest),
  }
  zeros, valid = np.zeros((games, group), int), np.ones((games, group), bool)

  def earned(payoff):
    return measures.calibration(payoff, zeros, action, utility, valid)["score_PG"].mean(1)

  best = earned(honest)
  for name, payoff in others.items():
    gain = best - earned(payoff)
    assert gain.mean() > 4 * gain.std() / np.sqrt(games), name  # four standard errors above 0
  order = measures.calibration(honest, zeros, action, utility, valid)["order"]
  assert min(order) > 0.85


def test_realised_payoffs_by_hand():
  found = measures.realised(
    [0, 1, 1, 1, -1, 1], [0, 1, 1, 2, 1, -1],
    [[0.5, 1.0], [0.2, 0.4], [0.4, 0.6], [1.0, 0.0], [9.0, 9.0], [9.0, 9.0]],
  )  # fmt: skip
  want = np.full((2, 3, 2), np.nan)
  want[0, 0], want[1, 1], want[1, 2] = (0, 5), (-2, 0), (5, -5)
  np.testing.assert_allclose(found.mean_UAR, want, atol=1e-12)
  assert found.n_UA.tolist() == [[1, 0, 0], [0, 2, 1]]
  nothing = measures.realised([], [], [])
  assert np.isnan(nothing.mean_UAR).all() and not nothing.n_UA.any()


def test_regret_and_true_errors_by_hand():
  welfare_NA = [[0.9, 0.5, 0.7]] * 4
  assert measures.regret(welfare_NA, [0, 1, 2, -1]) == pytest.approx([0, 0.4, 0.2, 0.4])
  true_AR = np.array([[0.8, 0.9], [0.5, 0.5], [0.6, 0.0]])
  payoff_UAR = np.stack([10 * true_AR - 5, 10 * true_AR - 5 + np.array([3.0, -6.0])])
  error_NR = measures.true_error([payoff_UAR] * 3, [0, 1, -1], [true_AR] * 3)
  np.testing.assert_allclose(error_NR, [[0, 0], [0.3, 0.6], [np.nan, np.nan]], atol=1e-12)


# ---------------------------------------------------------------- sums, and what edits do


def test_sums_of_the_declared_row():
  matrix = np.array([[1.2, 2.3], [0.1, 0.2], [-3, 1]] * 2).reshape(2, 3, 2)
  stated = [(0, 3.5), (1, 0.3), (2, 2.0), (3, 9.9), (5, -2.0)]
  assert measures.sums(matrix, 0, stated) == [2, 3]
  assert measures.sums(matrix, 1, stated) == [1, 2]
  assert measures.sums(matrix, -1, stated) == [3, 5]
  assert measures.sums(matrix * np.inf, 0, stated) == [0, 3]
  # half a tenth is the rounding of a sum to one decimal
  assert measures.sums(matrix + 0.0125, 0, [(0, 3.5), (1, 0.4)]) == [1, 2]


def test_wilson_by_hand():
  """Z^2 = 3.8415: (5 + 1.92 ± 1.96 sqrt(2.5 + 0.96)) / 13.84, and 10 / 13.84 at the end."""
  assert measures.wilson(0.5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
  assert measures.wilson(1.0, 10) == pytest.approx((0.72247, 1.0), abs=1e-5)
  assert measures.wilson(0.0, 10)[0] == 0.0
  assert np.isnan(measures.wilson(np.nan, 0)).all()


def test_intervals_count_prompts_and_not_their_samples():
  once = measures.intervention([1, 0, 1], [1, 0, 0], [7, 8, 9], [1, 1, 0, 1], [7, 7, 8, 9])
  assert once["follow"] == 2 / 3 and once["carry"] == 1 / 3 and once["hold"] == 3 / 4
  assert once["effect"] == pytest.approx(2 / 3 + 3 / 4 - 1)
  assert (once["n"], once["prompts"]) == (3, 3)
  many = measures.intervention(
    [1, 0, 1] * 50, [1, 0, 0] * 50, [7, 8, 9] * 50, [1, 1, 0, 1], [7, 7, 8, 9]
  )
  assert many["n"] == 150 and many["follow_interval"] == once["follow_interval"]
  low, high = once["effect_interval"]
  assert -1 <= low < once["effect"] < high <= 1
  nothing = measures.intervention([], [], [], [], [])
  assert nothing.pop("n") == nothing.pop("prompts") == 0
  assert all(np.isnan(each).all() for each in nothing.values())
