"""What is done for XLA:CPU's sake: layouts and result types that it does not find itself.

There bf16 kernels take only products whose result is f32 and whose left operand has the summed axis
last; autodiff multiplies by rows instead, and all else is widened first (docs/performance.md).
Models call `ops.matmul`; only models/decode_cpu.py comes in by this door.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def contract(x: jax.Array, kernel: jax.Array, axes: int = 1) -> jax.Array:
  """[..., in…] x [in…, out…] -> [..., out…]: a sum over the last `axes` axes of x, in its dtype.

  kernel: any float dtype, cast to that of x. A narrow product is rounded once, after a sum in f32;
  the gradient of the kernel is that sum itself.
  """
  return tensordot(x, kernel.astype(x.dtype), axes)


def tensordot(x: jax.Array, y: jax.Array, axes: Any) -> jax.Array:
  """`jnp.tensordot` of two arrays of one dtype, rounded to it after a sum in f32 or wider."""

  def on_cpu(x, y):
    return jnp.tensordot(x, y, axes, preferred_element_type=_wide(x)).astype(x.dtype)

  # TPU and GPU sum in f32 as it is; an f32 result would double what tensor parallelism adds up
  # between devices
  default = functools.partial(jnp.tensordot, axes=axes)
  return jax.lax.platform_dependent(x, y, cpu=on_cpu, default=default)


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
  """Sum over the first `rows` axes: [rows…, in…] x [rows…, out…] -> [in…, out…], f32 or wider."""

  def on_cpu(x, dy):
    total = math.prod(x.shape[:rows])
    columns = turned(x.reshape(total, -1))  # [in, rows]: the summed axis last
    product = jnp.matmul(columns, dy.reshape(total, -1), preferred_element_type=_wide(x))
    if product.dtype != x.dtype:
      # into a reader's transpose XLA folds the product itself, as dy' x, for which it has no narrow
      # kernel
      product = jax.lax.optimization_barrier(product)
    return product.reshape(x.shape[rows:] + dy.shape[rows:])

  def default(x, dy):
    return jnp.tensordot(x, dy, [list(range(rows))] * 2, preferred_element_type=_wide(x))

  return jax.lax.platform_dependent(x, dy, cpu=on_cpu, default=default)


def turned(x: jax.Array) -> jax.Array:
  """The transpose of x [R, C], laid out anew as [C, R]."""
  # A plain transpose becomes a layout, which a product that reads it, and all that is computed from
  # it, inherits; XLA's CPU then runs narrow products in f32, at half the speed.
  return x.reshape(*x.shape, 1).transpose(1, 2, 0).reshape(x.shape[::-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def keep(x: jax.Array, name: str) -> jax.Array:
  """x, which `jax.checkpoint` policies know by `name`."""
  return _keep(x, name)[0]


def _keep(x: jax.Array, name: str) -> tuple[jax.Array, None]:
  if x.dtype != jnp.bfloat16:
    return checkpoint_name(x, name), None
  # as bits: XLA's CPU has no bf16 slices, and would widen the stack of all layers to f32 before the
  # backward pass reads one of them, at twice the memory and time
  bits = checkpoint_name(jax.lax.bitcast_convert_type(x, jnp.uint16), name)
  return jax.lax.bitcast_convert_type(bits, x.dtype), None


keep.defvjp(_keep, lambda name, _, dx: (dx,))
