"""The reward kernel against the formulas written out in plain Python, and host against jit."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtalign_jax.errors import BadInput
from gtalign_jax.game import reward
from gtalign_jax.reward_section import RewardConfig

WEIGHTS = RewardConfig()
unit = st.floats(0, 1)
words = st.integers(0, 20_000)


def sigmoid(x):
  return 1 / (1 + math.exp(-x)) if x > -700 else math.exp(x)


def soft_band(n, a, b):
  return sigmoid(0.005 * (n - a)) * sigmoid(0.005 * (b - n))


def paper(f):
  """FORMULAS section 2, word for word."""
  user = 1e-4 + 0.5 * f.answer_user + 0.2 * soft_band(f.response_words, 20, 500)
  user += 0.3 * math.exp(-f.brief_chars / 500)
  length = soft_band(f.completion_words, 500, 1000)
  llm = 1e-4 + 0.2 * f.format + 0.2 * f.decision + 0.4 * f.answer_llm + 0.2 * length
  other = 1e-4 + 0.2 * f.pareto + 0.2 * f.decision + 0.2 * f.format + 0.35 * f.answer_llm
  return user, llm, other + 0.05 * length


features = st.builds(
  reward.Features,
  unit,
  unit,
  words,
  words,
  st.integers(0, 200_000),
  st.sampled_from([0, 1]),
  unit,
  unit,
)


@given(features, st.sampled_from(reward.VARIANTS))
def test_paper_mode_equals_the_formulas(f, variant):
  user, llm, pareto = paper(f)
  got = reward.terms(f, WEIGHTS, "paper", variant)
  llm = pareto if variant == "pareto" else llm
  total = math.sqrt(user * llm)
  score = {"user": user, "llm": llm, "linear": (user + llm) / 2}.get(variant, total)
  assert got.user == pytest.approx(user, rel=1e-12)
  assert got.llm == pytest.approx(llm, rel=1e-12)
  assert got.welfare == pytest.approx(total, rel=1e-12)
  assert got.score == pytest.approx(score, rel=1e-12)


def test_published_check():
  """The worked example of FORMULAS section 2: wildguard, harmful, j = 0, 0.5, 1."""
  matrix = np.tile([2.0, 1.0], (2, 3, 1))
  names = [f"{u}_{a}" for u in ("DQ", "VQ") for a in ("DA", "CQ", "AQ")]
  payoffs = json.dumps({name: {"LLM": 2.0, "user": 1.0} for name in names})
  text = f"<thinking>t</thinking><payoff>{payoffs}</payoff><analyze>a</analyze>"
  whole = text + "<response>hello world</response>"
  assert len(text) == 275
  rows = reward.Features(
    answer_user=np.array([1.0, 1.0, 0.0]),  # [j < 1]
    answer_llm=np.array([0.0, 1.0, 1.0]),  # [j > 0]
    response_words=2,
    completion_words=len(whole.split()),
    brief_chars=len(text),
    format=1,
    decision=reward.pay_score(matrix),
  )
  got = reward.terms(rows, WEIGHTS, "paper")
  np.testing.assert_allclose(got.welfare, [0.5638, 0.7889, 0.4622], atol=5e-5)


def test_pay_score():
  matrix = np.tile([1.0, 1.0], (2, 3, 1))
  assert reward.pay_score(matrix) == 0.0
  matrix[0, 0] = (1.0, 1.1)  # 10 % of the larger is 0.11: unequal, but not far
  assert reward.pay_score(matrix) == pytest.approx(1 / 12)
  matrix[0, 0] = (10.0, 9.0)  # exactly 10 %: not above
  assert reward.pay_score(matrix) == pytest.approx(1 / 12)
  matrix[0, 0] = (-1.0, 1.0)
  assert reward.pay_score(matrix) == pytest.approx(2 / 12)
  assert reward.pay_score(np.tile([5.0, -5.0], (2, 3, 1))) == 1.0
  assert reward.pay_score(np.tile([np.nan, 1.0], (2, 3, 1))) == 0.5  # unequal, never far


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=12, max_size=12))
def test_pay_score_is_python_arithmetic(values):
  expected = 0
  for llm, user in zip(values[::2], values[1::2]):
    expected += user != llm
    difference = abs(user - llm) / max(abs(user), abs(llm), 1e-8)
    expected += difference > 0.1
  with np.errstate(all="ignore"):
    assert reward.pay_score(np.reshape(values, (2, 3, 2))) == pytest.approx(expected / 12)


def test_missing_reasoning_and_missing_verdict():
  f = reward.Features(np.array([1.0, np.nan]), np.array([1.0, np.nan]), 100, 700, np.nan, 1, 1)
  got = reward.terms(f, WEIGHTS, "corrected")
  assert got.user[0] == pytest.approx(1e-4 + 0.5 + 0.2 * soft_band(100, 20, 500))  # brief is 0
  for value in got:
    assert np.isfinite(value[0])
    assert np.isnan(value[1])


def test_corrected_mode_reads_alpha_and_weights_from_the_config():
  f = reward.Features(1.0, 0.5, 100, 700, 200, 1, 0.5)
  weights = RewardConfig(alpha=0.3, user_answer=0.25, brief_scale=100.0)
  got = reward.terms(f, weights, "corrected")
  user = 1e-4 + 0.25 + 0.2 * soft_band(100, 20, 500) + 0.3 * math.exp(-2)
  assert got.user == pytest.approx(user)
  assert got.score == pytest.approx(user**0.3 * got.llm**0.7)
  assert reward.terms(f, weights, "paper").score == pytest.approx(math.sqrt(user * got.llm))


@pytest.mark.parametrize(
  "changes, score",
  [
    ({"variant": "user"}, 0.8),
    ({"variant": "llm"}, 0.6),
    ({"variant": "linear"}, 0.7),
    ({"welfare": "cobb_douglas", "alpha": 0.3}, 0.8**0.3 * 0.6**0.7),
    ({"welfare": "utilitarian"}, 0.7),
    ({"welfare": "egalitarian"}, 0.6),
    ({"welfare": "nash"}, 0.48),
    ({"welfare": "nash", "disagreement": (0.3, 0.2)}, 0.5 * 0.4),
    ({"welfare": "nash", "disagreement": (0.3, 0.65)}, 0.0),
    ({"welfare": "ces"}, 1 / (0.5 / 0.8 + 0.5 / 0.6)),
    ({"welfare": "ces", "rho": 0.5, "alpha": 0.2}, (0.2 * 0.8**0.5 + 0.8 * 0.6**0.5) ** 2),
    ({"welfare": "user"}, 0.8),
    ({"welfare": "llm"}, 0.6),
  ],
)
def test_every_welfare_function_can_be_the_score(changes, score):
  """U = 0.8 and L = 0.6 by answer and decision alone; W stays Cobb-Douglas whatever the score is."""
  alone = {"floor": 0.0, "user_length": 0.0, "user_brief": 0.0, "user_answer": 1.0}
  alone |= {"llm_format": 0.0, "llm_length": 0.0, "llm_answer": 0.0, "llm_decision": 1.0}
  weights = RewardConfig(**alone, **changes)
  f = reward.Features(np.array([0.8]), 0.0, 0, 0, np.nan, 0, 0.6)
  got = reward.terms(f, weights, "corrected", weights.variant)
  assert got.score[0] == pytest.approx(score, rel=1e-14, abs=0)
  alpha = changes.get("alpha", 0.5)
  assert got.welfare[0] == pytest.approx(0.8**alpha * 0.6 ** (1 - alpha), rel=1e-14)


def test_a_request_brings_its_own_alpha_and_charges():
  _, f, *_ = batch(4, np.float64)
  plain = reward.terms(f, WEIGHTS, "corrected")
  alpha_B = np.array([0.0, 0.3, 0.5, 1.0])
  own = reward.terms(f, WEIGHTS, "corrected", request=reward.Request(alpha_B=alpha_B))
  for at, alpha in enumerate(alpha_B.tolist()):
    alone = reward.terms(f, RewardConfig(alpha=alpha), "corrected")
    assert own.score[at] == alone.score[at] and own.welfare[at] == alone.welfare[at]
  charge_BR = np.array([[0.0, 0.0], [0.1, -0.2], [-9.0, 0.3], [np.nan, np.nan]])
  charged = reward.terms(f, WEIGHTS, "corrected", request=reward.Request(charge_BR=charge_BR))
  assert charged.score[0] == plain.score[0] and np.isnan(charged.score[3])
  assert charged.llm[1] == plain.llm[1] + 0.1 and charged.user[1] == plain.user[1] - 0.2
  assert charged.llm[2] == WEIGHTS.floor and charged.user[2] == plain.user[2] + 0.3
  paper = reward.terms(f, WEIGHTS, "paper", request=reward.Request(alpha_B, charge_BR))
  np.testing.assert_array_equal(paper.score, reward.terms(f, WEIGHTS, "paper").score)


@pytest.mark.parametrize("mode, variant", [("corrected", "pareto"), ("paper", "linaer")])
def test_unknown_variants(mode, variant):
  with pytest.raises(BadInput, match=variant):
    reward.terms(reward.Features(1, 1, 1, 1, 1, 1, 1), WEIGHTS, mode, variant)


def test_absurd_lengths_stay_finite(recwarn):
  f = reward.Features(1.0, 1.0, 1e9, 1e9, 1e9, 1, 1)
  for value in reward.terms(f, WEIGHTS, "paper"):
    assert np.isfinite(value)
  assert not recwarn.list


def batch(count, dtype):
  rng = np.random.default_rng(5)
  draw = lambda low, high: rng.uniform(low, high, count).astype(dtype)  # noqa: E731
  payoffs = rng.integers(-4, 5, (count, 2, 3, 2)).astype(dtype)
  f = reward.Features(
    draw(0, 1), draw(0, 1), draw(0, 600), draw(0, 1500), draw(0, 4000), draw(0, 1), draw(0, 1)
  )
  f.brief_chars[::7] = np.nan
  carried = rng.integers(0, 2, count).astype(dtype)
  return payoffs, f, rng.integers(-1, 6, count), rng.integers(-1, 2, count), carried


@pytest.mark.parametrize("mode", ["corrected", "paper"])
def test_kernel_on_the_host_equals_the_kernel_under_jit(mode):
  rows = batch(300, np.float64)
  kernel = lambda *args: reward.kernel(*args, WEIGHTS, mode)  # noqa: E731
  host = kernel(*rows)
  with jax.enable_x64(True):
    device = jax.jit(kernel)(*jax.tree.map(jnp.asarray, rows))
    for ours, theirs in zip(jax.tree.leaves(host), jax.tree.leaves(device), strict=True):
      np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12)
  decision = reward.pay_score(rows[0]) if mode == "paper" else host.decision
  direct = reward.terms(rows[1]._replace(decision=decision), WEIGHTS, mode)
  np.testing.assert_array_equal(direct.score, host.terms.score)


def test_kernel_keeps_float32_and_its_gradient_is_finite():
  rows = jax.tree.map(jnp.asarray, batch(32, np.float32))
  kernel = lambda *args: reward.kernel(*args, WEIGHTS, "corrected")  # noqa: E731
  out = jax.eval_shape(kernel, *rows)
  floating = [x for x in jax.tree.leaves(out) if jnp.issubdtype(x.dtype, jnp.floating)]
  assert {x.dtype for x in floating} == {jnp.dtype("float32")}
  score = lambda f: kernel(rows[0], f, *rows[2:]).terms.score.sum()  # noqa: E731
  slopes = jax.jit(jax.grad(score))(rows[1])
  assert all(np.isfinite(each).all() for each in jax.tree.leaves(slopes))
  assert (slopes.answer_user > 0).all()


@given(features)
def test_outcome_welfare_credits_neither_format_nor_decision(f):
  user = 0.5 * f.answer_user + 0.2 * soft_band(f.response_words, 20, 500)
  user += 0.3 * math.exp(-f.brief_chars / 500)
  llm = (0.4 * f.answer_llm + 0.2 * soft_band(f.completion_words, 500, 1000)) / 0.6
  odd = RewardConfig(llm_format=9.0, user_brief=0.0, floor=0.5, welfare="nash", alpha=0.1)
  got = reward.outcome(f, odd)
  assert got == pytest.approx(math.sqrt(user * llm), rel=1e-9)
  assert reward.outcome(f._replace(format=1 - f.format), odd) == got
  patient = reward.outcome(f, odd, np.array([0.95, 0.9]))  # LLM, user
  assert patient == pytest.approx(got * math.sqrt(0.95 * 0.9))


def test_decision_score():
  np.testing.assert_array_equal(
    reward.decision_score(np.array([1.0, 0.5, 0.0]), np.array([1, 0, 1])), [1.0, 0.25, 0.5]
  )


def test_kernel_memory_is_linear_in_rows():
  def planned(count):
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, batch(count, np.float32)))
    kernel = lambda *args: reward.kernel(*args, WEIGHTS, "corrected")  # noqa: E731
    memory = jax.jit(kernel).lower(*shapes).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes

  assert planned(4000) < 4.2 * planned(1000)
