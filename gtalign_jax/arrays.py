"""Which array library a kernel computes with: NumPy in, NumPy out; jax in, jax out.

Reward kernels run in two places: on the host in float64 (scoring must match published numbers to
1e-9) and inside jit in the dtype of the device. One code serves both by asking for its namespace.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np


def namespace(*arrays: Any) -> ModuleType:
  """Returns `numpy` if every argument is host data (ndarray, scalar, list), else `jax.numpy`."""
  host = (np.ndarray, np.generic, bool, int, float, list, tuple, type(None))
  if all(isinstance(array, host) for array in arrays):
    return np
  import jax.numpy as jnp  # deferred: commands that score on the host start without jax

  return jnp


def floats(*arrays: Any) -> tuple[Any, ...]:
  """(namespace, *arrays) with integers and booleans made floating; float dtypes are kept."""
  xp = namespace(*arrays)
  out = []
  for array in map(xp.asarray, arrays):
    floating = xp.issubdtype(array.dtype, xp.floating)
    out.append(array if floating else array.astype(float))  # jax: float32 unless x64 is on
  return xp, *out
