"""Processes of a multi-host run; the only file that knows there is more than one."""

from __future__ import annotations

import json
import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


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


def gather_rows(rows: list[dict]) -> list[dict]:
  """All processes' rows (JSON objects) in process order; every process gets the same list."""
  if jax.process_count() == 1:
    return rows
  mine = np.frombuffer(json.dumps(rows).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int64(mine.size))
  padded = np.zeros(int(sizes.max()), np.uint8)
  padded[: mine.size] = mine
  everyone = multihost_utils.process_allgather(padded)
  parts = [json.loads(bytes(row[: int(size)])) for row, size in zip(everyone, sizes, strict=True)]
  return [row for part in parts for row in part]


def agree(flag: bool) -> bool:
  """The main process's `flag`, on every process."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))
