"""The product that models are made of, and the names under which remat keeps results.

On TPU and GPU `matmul` is `jnp.tensordot` and `keep` is `checkpoint_name`; what XLA:CPU needs
besides is behind the door of ops/cpu.py.
"""

from __future__ import annotations

import jax

from gtalign_jax.ops import cpu


def matmul(x: jax.Array, kernel: jax.Array, axes: int = 1) -> jax.Array:
  """[..., in…] x [in…, out…] -> [..., out…]: a sum over the last `axes` axes of x.

  kernel: any float dtype, cast to that of x. A narrow product is rounded once, after a sum in f32;
  the gradient of the kernel is that sum itself.
  """
  return cpu.contract(x, kernel, axes)


def keep(x: jax.Array, name: str) -> jax.Array:
  """x, which `jax.checkpoint` policies know by `name`."""
  return cpu.keep(x, name)
