"""Processes of a multi-host run; the only file that knows there is more than one."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np


def initialize() -> None:
  """Joins the processes of this run, where the launcher says there are several.

  TPU pod slices, SLURM and GKE are detected by jax; elsewhere the launcher sets
  GTALIGN_COORDINATOR (host:port), GTALIGN_PROCESSES and GTALIGN_PROCESS_ID.
  """
  coordinator = os.environ.get("GTALIGN_COORDINATOR")
  if coordinator:
    jax.distributed.initialize(
      coordinator,
      int(os.environ["GTALIGN_PROCESSES"]),
      int(os.environ["GTALIGN_PROCESS_ID"]),
    )
  elif os.environ.get("GTALIGN_DISTRIBUTED") == "auto":
    jax.distributed.initialize()


def is_main() -> bool:
  """True on the process that writes logs, metrics and reports."""
  return jax.process_index() == 0


def share(rows: int) -> slice:
  """The contiguous rows of a global batch that this process tokenises and scores."""
  each = rows // jax.process_count()
  if each * jax.process_count() != rows:
    raise ValueError(f"{rows} rows do not split over {jax.process_count()} processes")
  return slice(jax.process_index() * each, (jax.process_index() + 1) * each)


def to_device(local: Any, shardings: Any) -> Any:
  """Global arrays from each process's own rows (a pytree of host arrays)."""
  return jax.tree.map(
    lambda x, s: jax.make_array_from_process_local_data(s, np.asarray(x)), local, shardings
  )


def to_host(array: jax.Array) -> np.ndarray:
  """This process's rows of a global array whose first axis is split over processes."""
  if jax.process_count() == 1 or array.is_fully_replicated:
    return np.asarray(array.addressable_data(0) if array.is_fully_replicated else array)
  shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
  return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])
