"""Naming what a rematerialised layer keeps for its backward pass."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def keep(x: jax.Array, name: str) -> jax.Array:
  """x, which `jax.checkpoint` policies know by `name`.

  A bf16 array is kept as its bits. XLA's CPU has no bf16 slices: it would widen the stack of all layers to f32
  before the backward pass reads one of them, twice the memory and time (docs/performance.md).
  """
  return _forward(x, name)[0]


def _forward(x: jax.Array, name: str) -> tuple[jax.Array, None]:
  if x.dtype != jnp.bfloat16:
    return checkpoint_name(x, name), None
  bits = checkpoint_name(jax.lax.bitcast_convert_type(x, jnp.uint16), name)
  return jax.lax.bitcast_convert_type(bits, x.dtype), None


def _backward(name: str, _: None, dx: jax.Array) -> tuple[jax.Array]:
  del name
  return (dx,)


keep.defvjp(_forward, _backward)
