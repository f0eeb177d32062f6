"""Axioms of the welfare functions, their limits, and their gradients at the boundary."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtalign_jax.errors import BadInput
from gtalign_jax.game.welfare import welfare
from gtalign_jax.reward_section import WELFARES

utility = st.floats(0.0, 1e3)
positive = st.floats(1e-3, 1e3)
alphas = st.floats(0.05, 0.95)
rhos = st.one_of(st.floats(-50, 0.9), st.sampled_from([0.0, 1.0, -math.inf, math.inf, 1e-9]))
names = st.sampled_from(WELFARES)
NEAR = 1e-9


@given(names, utility, utility, utility, alphas, rhos)
def test_monotone(name, user, llm, more, alpha, rho):
  value = welfare(name, user, llm, alpha, rho)
  slack = NEAR * (1 + value)
  assert welfare(name, user + more, llm, alpha, rho) >= value - slack
  assert welfare(name, user, llm + more, alpha, rho) >= value - slack


@given(st.sampled_from([n for n in WELFARES if n not in ("user", "llm")]), utility, utility, rhos)
def test_symmetric_at_even_weights(name, user, llm, rho):
  assert welfare(name, user, llm, rho=rho) == pytest.approx(welfare(name, llm, user, rho=rho))


@given(names, positive, positive, st.floats(1e-2, 1e2), alphas, rhos)
def test_homogeneous(name, user, llm, factor, alpha, rho):
  degree = 2 if name == "nash" else 1
  scaled = welfare(name, factor * user, factor * llm, alpha, rho)
  expected = factor**degree * welfare(name, user, llm, alpha, rho)
  assert scaled == pytest.approx(expected, rel=1e-7)


@given(
  st.sampled_from([("cobb_douglas", 0.0), ("nash", 0.0), ("ces", -2.0), ("ces", 0.5)]),
  st.floats(0.1, 10),
  st.floats(0.01, 0.5),
  st.floats(0.01, 0.99),
)
def test_pigou_dalton(kind, mean, gap, transfer):
  """A transfer from the better to the worse off raises strictly concave welfare."""
  name, rho = kind
  high, low = mean * (1 + gap), mean * (1 - gap)
  moved = transfer * (high - low) / 2
  before, after = (
    welfare(name, high, low, rho=rho),
    welfare(name, high - moved, low + moved, rho=rho),
  )
  assert after > before


@given(st.sampled_from([n for n in WELFARES if n != "nash"]), positive, positive, alphas, rhos)
def test_lies_between_the_utilities(name, user, llm, alpha, rho):
  value = welfare(name, user, llm, alpha, rho)
  assert min(user, llm) * (1 - NEAR) <= value <= max(user, llm) * (1 + NEAR)


@given(positive, positive, alphas)
def test_limits_of_ces(user, llm, alpha):
  ces = lambda rho: float(welfare("ces", user, llm, alpha, rho))  # noqa: E731
  product = pytest.approx(user**alpha * llm ** (1 - alpha), rel=1e-6)
  for rho in (0.0, 1e-8, -1e-8, 1e-40):
    assert ces(rho) == product
  assert ces(-math.inf) == min(user, llm)
  assert ces(math.inf) == max(user, llm)
  assert ces(-1e7) == pytest.approx(min(user, llm), rel=1e-5)
  assert ces(1e7) == pytest.approx(max(user, llm), rel=1e-5)
  assert ces(1.0) == pytest.approx(alpha * user + (1 - alpha) * llm)
  assert ces(-1.0) == pytest.approx(1 / (alpha / user + (1 - alpha) / llm))
  assert ces(2.0) == pytest.approx(math.sqrt(alpha * user**2 + (1 - alpha) * llm**2))


def test_golden_values():
  assert welfare("cobb_douglas", 4.0, 9.0) == 6.0
  assert welfare("cobb_douglas", 16.0, 1.0, alpha=0.25) == pytest.approx(2.0)
  assert welfare("utilitarian", 1.0, 4.0) == 2.5
  assert welfare("egalitarian", 1.0, 4.0) == 1.0
  assert welfare("nash", 3.0, 5.0, disagreement=(1.0, 2.0)) == 6.0
  assert welfare("nash", 0.5, 5.0, disagreement=(1.0, 2.0)) == 0.0
  assert welfare("user", 1.0, 4.0) == 1.0
  assert welfare("llm", 1.0, 4.0) == 4.0
  assert welfare("ces", 0.0, 4.0, rho=0.5) == pytest.approx(1.0)
  assert welfare("ces", 0.0, 4.0, rho=-1.0) == 0.0
  assert welfare("cobb_douglas", 0.0, 4.0, alpha=0.0) == 4.0


@pytest.mark.parametrize("name", WELFARES)
def test_negative_counts_as_zero_and_nan_stays(name):
  assert welfare(name, -3.0, -2.0) == 0.0
  assert welfare(name, -3.0, 2.0) == welfare(name, 0.0, 2.0)
  both = welfare(name, np.array([np.nan, 1.0]), np.array([np.nan, 1.0]))
  assert np.isnan(both[0])
  assert both[1] == 1.0


@pytest.mark.parametrize("name", WELFARES)
@pytest.mark.parametrize("rho", [-2.0, 0.0, 0.5, -math.inf, math.inf])
def test_gradients_are_finite_and_zero_at_the_boundary(name, rho):
  grid = [-1.0, 0.0, 1e-45, 1e-38, 1e-30, 1e-7, 1.0, 1e15]
  user, llm = map(jnp.array, zip(*itertools.product(grid, grid)))
  for alpha in (0.0, 0.3, 0.5, 1.0):

    def total(user, llm, alpha=alpha):
      return welfare(name, user, llm, alpha, rho).sum()

    by_user, by_llm = jax.jit(jax.grad(total, (0, 1)))(user, llm)
    assert np.isfinite(by_user).all()
    assert np.isfinite(by_llm).all()
    assert (np.asarray(by_user)[np.asarray(user) <= 0] == 0).all()
    assert (np.asarray(by_llm)[np.asarray(llm) <= 0] == 0).all()


@pytest.mark.parametrize("name", WELFARES)
@pytest.mark.parametrize("rho", [-3.0, 0.5, 1e-9])
def test_gradient_is_the_slope_inside(name, rho):
  with jax.enable_x64(True):
    step, user, llm = 1e-6, 0.7, 0.4
    value = lambda u, l: welfare(name, u, l, 0.3, rho)  # noqa: E731
    slopes = jax.grad(value, (0, 1))(jnp.float64(user), jnp.float64(llm))
    expected = (
      (value(user + step, llm) - value(user - step, llm)) / (2 * step),
      (value(user, llm + step) - value(user, llm - step)) / (2 * step),
    )
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)


@pytest.mark.parametrize("name", WELFARES)
def test_same_numbers_under_jit_and_dtype_kept(name):
  rng = np.random.default_rng(1)
  user, llm = rng.uniform(-0.2, 2, (2, 500))
  function = jax.jit(lambda u, l: welfare(name, u, l, 0.3, -0.7))
  with jax.enable_x64(True):
    np.testing.assert_allclose(
      function(jnp.asarray(user), jnp.asarray(llm)), welfare(name, user, llm, 0.3, -0.7), rtol=1e-13
    )
  assert function(user.astype(np.float32), llm.astype(np.float32)).dtype == jnp.float32
  assert welfare(name, user.astype(np.float32), llm.astype(np.float32)).dtype == np.float32


PER_ROW = np.array([0.0, 0.3, 0.5, 0.5, 1.0, 0.7])


@given(names, st.lists(utility, min_size=12, max_size=12), rhos)
def test_an_alpha_of_each_row_gives_what_it_gives_alone(name, values, rho):
  user, llm = np.reshape(values, (2, 6))
  together = welfare(name, user, llm, PER_ROW, rho)
  alone = [welfare(name, *each, rho) for each in zip(user, llm, PER_ROW.tolist())]
  np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("name", WELFARES)
@pytest.mark.parametrize("rho", [-2.0, 0.0, 0.5, math.inf])
def test_an_alpha_of_each_row_under_jit(name, rho):
  grid = [0.0, 1e-30, 1e-7, 1.0, 1e15]
  user, llm, alpha = map(jnp.array, zip(*itertools.product(grid, grid, PER_ROW.tolist())))
  value = jax.jit(lambda u, l: welfare(name, u, l, alpha, rho))(user, llm)
  host = welfare(name, *(np.asarray(each, np.float64) for each in (user, llm, alpha)), rho)
  np.testing.assert_allclose(value, host, rtol=3e-5, atol=1e-37)
  total = lambda u, l: welfare(name, u, l, alpha, rho).sum()  # noqa: E731
  for slope in jax.jit(jax.grad(total, (0, 1)))(user, llm):
    assert np.isfinite(slope).all() and slope.dtype == jnp.float32


def test_large_numbers_do_not_overflow():
  for name in ("cobb_douglas", "ces", "utilitarian"):
    assert welfare(name, 1e300, 1e300, rho=-5.0) == pytest.approx(1e300)
    assert welfare(name, 1e300, 1e300, rho=5.0) == pytest.approx(1e300)


def test_errors_name_what_is_wrong():
  with pytest.raises(BadInput, match="did you mean cobb_douglas"):
    welfare("cob_douglas", 1.0, 1.0)
  with pytest.raises(BadInput, match=r"alpha=1\.5"):
    welfare("cobb_douglas", 1.0, 1.0, alpha=1.5)
  with pytest.raises(BadInput, match=r"alpha=\[0\.5 +nan\]: must lie in"):
    welfare("ces", 1.0, 1.0, alpha=np.array([0.5, math.nan]))
  with pytest.raises(BadInput, match="rho=nan"):
    welfare("ces", 1.0, 1.0, rho=math.nan)
