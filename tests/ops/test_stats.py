"""Masked statistics against NumPy on the entries that count."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gtalign_jax.ops import stats

SHAPE = (3, 5)
arrays = hnp.arrays(np.float64, SHAPE, elements=st.floats(-1e3, 1e3))
masks = hnp.arrays(bool, SHAPE)


@settings(max_examples=50)
@given(arrays, masks)
def test_against_numpy(x, mask):
  dirty = np.where(mask, x, np.nan)
  kept = x[mask]
  np.testing.assert_allclose(
    stats.masked_mean(dirty, mask), kept.mean() if kept.size else 0, atol=1e-10
  )
  for ddof in (0, 1):
    expected = kept.std(ddof=ddof) if kept.size > ddof else 0
    np.testing.assert_allclose(stats.masked_std(dirty, mask, ddof=ddof), expected, atol=1e-9)
  for row, keep in enumerate(mask):
    expected = x[row, keep].mean() if keep.any() else 0
    np.testing.assert_allclose(stats.masked_mean(dirty, mask, axis=1)[row], expected, atol=1e-10)


def test_dtype_follows_the_input():
  x, mask = np.arange(6.0).reshape(2, 3), np.ones((2, 3), bool)
  for function in (stats.masked_mean, stats.masked_std, stats.whiten):
    assert function(x, mask).dtype == np.float64
    assert function(x.astype(np.float32), mask).dtype == np.float32
    assert function(jnp.float32(x), mask).dtype == jnp.float32
    with jax.enable_x64(True):
      assert function(jnp.asarray(x), mask).dtype == jnp.float64


def test_whiten():
  x = np.array([1.0, 2.0, 4.0, np.nan])
  kept = x[:3]
  expected = [*((kept - kept.mean()) / (kept.std(ddof=1) + 1e-8)), 0]
  np.testing.assert_allclose(stats.whiten(x, [1, 1, 1, 0]), expected, rtol=1e-12)
  assert not np.asarray(stats.whiten(jnp.full(7, 0.7), jnp.ones(7))).any()


def test_gradients_stay_finite_where_nothing_varies():
  for x, mask in ((jnp.ones(4), jnp.ones(4)), (jnp.full(4, jnp.nan), jnp.zeros(4))):
    grad = jax.grad(lambda x, m=mask: stats.whiten(x, m).sum() + stats.masked_std(x, m))(x)
    assert np.isfinite(grad).all()
