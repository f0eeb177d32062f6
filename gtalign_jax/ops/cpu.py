"""What is done for XLA:CPU's sake: layouts and result types that it does not find itself.

There bf16 kernels take only products whose result is f32 and whose left operand has the summed axis
last; autodiff multiplies by rows instead, and all else is widened first (docs/performance.md). TPU
and GPU sum in f32 as it is, and an f32 result would only double what tensor parallelism has to add
up between devices. Models call `ops.matmul`; only models/decode_cpu.py comes in by this door.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def contract(x: jax.Array, kernel: jax.Array, axes: int) -> jax.Array:
  """`tensordot(x, kernel, axes)` in the dtype of x, [..., in…] x [in…, out…] -> [..., out…].

  kernel: any float dtype, cast to that of x. Products of a dtype narrower than f32 are rounded
  once, after a sum in f32; the kernel's gradient is that sum itself.
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
  """Sum over the first `rows` axes: x [rows…, in…] times dy [rows…, out…] -> [in…, out…].

  At least f32.
  """
  cpu, default = (functools.partial(f, rows=rows) for f in (_outer_on_cpu, _outer))
  return jax.lax.platform_dependent(x, dy, cpu=cpu, default=default)


def _outer(x: jax.Array, dy: jax.Array, rows: int) -> jax.Array:
  return jnp.tensordot(x, dy, [list(range(rows))] * 2, preferred_element_type=_wide(x))


def turned(x: jax.Array) -> jax.Array:
  """The transpose of x [R, C], laid out anew as [C, R].

  A plain one becomes a layout, which a product that reads it, and all that is computed from it,
  inherits; XLA's CPU then runs narrow products in f32, at half the speed (docs/performance.md).
  """
  return x.reshape(*x.shape, 1).transpose(1, 2, 0).reshape(x.shape[::-1])


def _outer_on_cpu(x: jax.Array, dy: jax.Array, rows: int) -> jax.Array:
  """The same with x laid out as [in, rows]."""
  total = math.prod(x.shape[:rows])
  columns = turned(x.reshape(total, -1))
  product = jnp.matmul(columns, dy.reshape(total, -1), preferred_element_type=_wide(x))
  if product.dtype != x.dtype:
    # into a reader's transpose XLA folds the product itself, as dy' x, and has no narrow kernel for
    # that
    product = jax.lax.optimization_barrier(product)
  return product.reshape(x.shape[rows:] + dy.shape[rows:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def keep(x: jax.Array, name: str) -> jax.Array:
  """x, which `jax.checkpoint` policies know by `name`.

  A bf16 array is kept as its bits. XLA's CPU has no bf16 slices: it would widen the stack of all
  layers to f32 before the backward pass reads one of them, twice the memory and time
  (docs/performance.md).
  """
  return _keep_forward(x, name)[0]


def _keep_forward(x: jax.Array, name: str) -> tuple[jax.Array, None]:
  if x.dtype != jnp.bfloat16:
    return checkpoint_name(x, name), None
  bits = checkpoint_name(jax.lax.bitcast_convert_type(x, jnp.uint16), name)
  return jax.lax.bitcast_convert_type(bits, x.dtype), None


def _keep_backward(name: str, _: None, dx: jax.Array) -> tuple[jax.Array]:
  del name
  return (dx,)


keep.defvjp(_keep_forward, _keep_backward)
