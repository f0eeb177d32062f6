"""Linear maps whose backward products are laid out by hand; narrow ones are summed in f32.

Left to itself, autodiff multiplies an f32 cotangent with bf16 weights, which makes both f32, and CPU gets slow
transposes. There XLA has fast bf16 kernels only for products whose result is f32 and whose left operand
has the summed axis last (docs/performance.md). TPU and GPU sum in f32 anyway.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def contract(x: jax.Array, kernel: jax.Array, axes: int) -> jax.Array:
  """`tensordot(x, kernel, axes)` in the dtype of x, [..., in…] x [in…, out…] -> [..., out…].

  kernel: any float dtype, cast to that of x. Products of a dtype narrower than f32 are rounded once, after a
  sum in f32; the kernel's gradient is that sum itself.
  """
  return _product(x, kernel, axes).astype(x.dtype)


def _product(x: jax.Array, kernel: jax.Array, axes) -> jax.Array:
  return jnp.tensordot(x, kernel.astype(x.dtype), axes, preferred_element_type=_wide(x))


def _wide(x: jax.Array) -> jnp.dtype:
  return jnp.promote_types(x.dtype, jnp.float32)


def _forward(x, kernel, axes):
  return contract(x, kernel, axes), (x, kernel)


def _backward(axes, kept, dy):
  x, kernel = kept
  outputs = kernel.ndim - axes
  over = [list(range(n - outputs, n)) for n in (dy.ndim, kernel.ndim)]
  dx = _product(dy, kernel, over)
  dkernel = outer(x, dy, x.ndim - axes)
  return dx.astype(x.dtype), dkernel.astype(kernel.dtype)


contract.defvjp(_forward, _backward)


def outer(x: jax.Array, dy: jax.Array, rows: int) -> jax.Array:
  """Sum over the first `rows` axes of x [rows…, in…] times dy [rows…, out…]: [in…, out…], f32 or wider."""
  shape = x.shape[rows:] + dy.shape[rows:]
  tall_dy = dy.reshape(math.prod(dy.shape[:rows]), -1)
  tall_x = x.reshape(*x.shape[:rows], -1)
  return jnp.matmul(_columns(tall_x), tall_dy, preferred_element_type=_wide(x)).reshape(shape)


def _columns(x: jax.Array) -> jax.Array:
  """[rows…, D] -> [D, rows]. The rows stay in two axes until they are moved: XLA folds a plain transpose
  into the product that reads it, and that one runs in f32 on CPU, at half the speed.
  """
  *rows, width = x.shape
  total = math.prod(rows)
  outer_rows = rows[0] if len(rows) > 1 and rows[0] > 1 else total // math.gcd(total, 16)
  return x.reshape(outer_rows, -1, width).transpose(2, 0, 1).reshape(width, total)
