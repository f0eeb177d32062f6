"""The product that models are made of, and the names under which remat keeps results.

On TPU and GPU `matmul` is `jnp.tensordot` and `keep` is `checkpoint_name`; what XLA:CPU needs
besides is behind the door of ops/cpu.py.
"""

from gtalign_jax.ops.cpu import contract as matmul
from gtalign_jax.ops.cpu import keep

__all__ = ["keep", "matmul"]
