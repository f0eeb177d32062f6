"""Linear maps in bf16: one rounding after a sum in f32, forward and backward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.ops.cpu import contract, outer

SHAPES = {  # x, kernel, summed axes
  "plain": ((6, 8), (8, 5), 1),
  "heads out": ((2, 7, 8), (8, 3, 4), 1),
  "heads in": ((1, 9, 3, 4), (3, 4, 8), 2),
  "one row": ((1, 8), (8, 5), 1),
  "no rows": ((8,), (8, 5), 1),
}
ROUNDING = 2.0**-8  # of one rounding to bf16, relative


def narrow(rng, shape):
  return jnp.asarray(rng.standard_normal(shape), jnp.bfloat16)


def wide(*arrays):
  return [np.asarray(x.astype(jnp.float32), np.float64) for x in arrays]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kernel_dtype", ["float32", "bfloat16"])
def test_bf16_rounds_once(name, kernel_dtype):
  x_shape, kernel_shape, axes = SHAPES[name]
  rng = np.random.default_rng(0)
  x, kernel = narrow(rng, x_shape), narrow(rng, kernel_shape).astype(kernel_dtype)
  y, pull = jax.vjp(lambda x, k: contract(x, k, axes), x, kernel)
  dy = narrow(rng, y.shape)
  dx, dkernel = pull(dy)
  assert (y.dtype, dx.dtype, dkernel.dtype) == (x.dtype, x.dtype, kernel.dtype)
  x64, k64, dy64 = wide(x, kernel, dy)
  rows, outs = x.ndim - axes, kernel.ndim - axes
  expected = np.tensordot(x64, k64, axes)
  np.testing.assert_allclose(*wide(y), expected, rtol=ROUNDING, atol=1e-5)
  expected = np.tensordot(dy64, k64, [range(rows, dy.ndim), range(axes, kernel.ndim)])
  np.testing.assert_allclose(*wide(dx), expected, rtol=ROUNDING, atol=1e-5)
  expected = np.tensordot(x64, dy64, [range(rows)] * 2)
  assert expected.ndim == axes + outs
  rtol = 1e-5 if kernel_dtype == "float32" else ROUNDING  # f32 kernels get the f32 sum itself
  np.testing.assert_allclose(*wide(dkernel), expected, rtol=rtol, atol=1e-5)


def test_f32_is_tensordot():
  rng = np.random.default_rng(0)
  x, kernel = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((3, 4, 8), (8, 2, 5)))

  def run(product):
    return jax.value_and_grad(lambda x, k: jnp.sin(product(x, k)).sum(), (0, 1))(x, kernel)

  ours, plain = run(lambda x, k: contract(x, k, 1)), run(lambda x, k: jnp.tensordot(x, k, 1))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-6, atol=2e-6), ours, plain)


@settings(max_examples=40)
@given(
  rows=st.lists(st.integers(1, 9), min_size=1, max_size=3),
  inner=st.lists(st.integers(1, 5), min_size=1, max_size=2),
  outs=st.lists(st.integers(1, 5), min_size=1, max_size=2),
)
def test_outer_for_any_shape(rows, inner, outs):
  rng = np.random.default_rng(0)
  x, dy = narrow(rng, (*rows, *inner)), narrow(rng, (*rows, *outs))
  got = outer(x, dy, len(rows))
  expected = np.tensordot(*wide(x, dy), [range(len(rows))] * 2)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("narrowed", [False, True])
def test_transposed_outer_in_bf16(narrowed):
  # one block of a small vocabulary: the reader turns the product round, and XLA has no such kernel in bf16
  rng = np.random.default_rng(0)
  x, dy = narrow(rng, (2, 64, 16)), narrow(rng, (2, 64, 40))
  out = jax.jit(lambda x, dy: 2 * outer(x, dy, 2).T.astype(x.dtype if narrowed else "float32"))(
    x, dy
  )
  x64, dy64 = wide(x, dy)
  expected = 2 * np.tensordot(dy64, x64, [[0, 1], [0, 1]])
  rtol = ROUNDING if narrowed else 1e-5
  np.testing.assert_allclose(*wide(out), expected, rtol=rtol, atol=1e-4)
