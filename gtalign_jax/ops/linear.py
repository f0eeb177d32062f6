"""Linear maps with the layouts and result types that are fast on CPU, where XLA does not find them itself.

There bf16 kernels take only products whose result is f32 and whose left operand has the summed axis last; autodiff
multiplies by rows instead, and all else is widened first (docs/performance.md). TPU and GPU sum in f32 as it
is, and an f32 result would only double what tensor parallelism has to add up between devices.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def contract(x: jax.Array, kernel: jax.Array, axes: int) -> jax.Array:
  """`tensordot(x, kernel, axes)` in the dtype of x, [..., in…] x [in…, out…] -> [..., out…].

  kernel: any float dtype, cast to that of x. Products of a dtype narrower than f32 are rounded once, after a
  sum in f32; the kernel's gradient is that sum itself.
  """
  return tensordot(x, kernel.astype(x.dtype), axes)


def tensordot(x: jax.Array, y: jax.Array, axes: Any) -> jax.Array:
  """`jnp.tensordot` of two arrays of one dtype, rounded to it after a sum in f32 or wider."""

  def on_cpu(x, y):
    return jnp.tensordot(x, y, axes, preferred_element_type=_wide(x)).astype(x.dtype)

  return jax.lax.platform_dependent(
    x, y, cpu=on_cpu, default=functools.partial(jnp.tensordot, axes=axes)
  )


def _wide(x: jax.Array) -> jnp.dtype:
  return jnp.promote_types(x.dtype, jnp.float32)


def _forward(x, kernel, axes):
  return contract(x, kernel, axes), (x, kernel)


def _backward(axes, kept, dy):
  x, kernel = kept
  outputs = kernel.ndim - axes
  over = [list(range(n - outputs, n)) for n in (dy.ndim, kernel.ndim)]
  dx = tensordot(dy, kernel.astype(dy.dtype), over)
  return dx, outer(x, dy, x.ndim - axes).astype(kernel.dtype)


contract.defvjp(_forward, _backward)


def outer(x: jax.Array, dy: jax.Array, rows: int) -> jax.Array:
  """Sum over the first `rows` axes of x [rows…, in…] times dy [rows…, out…]: [in…, out…], f32 or wider."""
  cpu, default = (functools.partial(f, rows=rows) for f in (_outer_on_cpu, _outer))
  return jax.lax.platform_dependent(x, dy, cpu=cpu, default=default)


def _outer(x: jax.Array, dy: jax.Array, rows: int) -> jax.Array:
  return jnp.tensordot(x, dy, [list(range(rows))] * 2, preferred_element_type=_wide(x))


def turned(x: jax.Array) -> jax.Array:
  """The transpose of x [R, C], laid out anew as [C, R].

  A plain one becomes a layout, which a product that reads it, and all that is computed from it, inherits; XLA's CPU
  then runs narrow products in f32, at half the speed (docs/performance.md).
  """
  return x.reshape(*x.shape, 1).transpose(1, 2, 0).reshape(x.shape[::-1])


def _outer_on_cpu(x: jax.Array, dy: jax.Array, rows: int) -> jax.Array:
  """The same with x laid out as [in, rows]."""
  total = math.prod(x.shape[:rows])
  columns = turned(x.reshape(total, -1))
  product = jnp.matmul(columns, dy.reshape(total, -1), preferred_element_type=_wide(x))
  if product.dtype != x.dtype:
    # into a reader's transpose XLA folds the product itself, as dy' x, and has no narrow kernel for that
    product = jax.lax.optimization_barrier(product)
  return product.reshape(x.shape[rows:] + dy.shape[rows:])
