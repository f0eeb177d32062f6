"""Processes of a multi-host run; the only file that knows there is more than one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def initialize() -> None:
  """Joins the processes of this run, where the launcher says there are several.

  TPU pod slices, SLURM and GKE are detected by jax; elsewhere the launcher sets
  GTALIGN_COORDINATOR (host:port), GTALIGN_PROCESSES and GTALIGN_PROCESS_ID. From here on only the
  main process logs its progress; all log warnings. On CPU the processes use no compilation cache.
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
  if not jax.distributed.is_initialized():
    return
  if jax.process_count() > 1 and jax.default_backend() == "cpu":
    # a bf16 update that gloo joins hangs once it is read back from the cache (jax 0.10.2)
    jax.config.update("jax_enable_compilation_cache", False)
  if not is_main():
    logging.getLogger("gtalign_jax").setLevel(logging.WARNING)


def is_main() -> bool:
  """True on the process that writes logs, metrics and reports."""
  return jax.process_index() == 0


def share(rows: int) -> slice:
  """The rows, of so many in all, that this process reads back and scores.

  Contiguous and in process order, whichever devices hold them: a mesh may put a process's rows
  anywhere, and rows that are not split over processes (tensor parallelism) on several of them.
  """
  index, count = jax.process_index(), jax.process_count()
  return slice(rows * index // count, rows * (index + 1) // count)


@contextlib.contextmanager
def _asked() -> Iterator[None]:
  """A move between host and device that somebody asked for (see programs.guarded)."""
  with jax.no_tracing(False), jax.transfer_guard("allow"):
    yield


def to_device(arrays: Any, shardings: Any) -> Any:
  """Global arrays from whole host arrays (a pytree), which every process has alike.

  Each process hands its devices their own parts.
  """

  def put(array: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

  with _asked():
    return jax.tree.map(put, arrays, shardings)


def to_host(array: jax.Array) -> np.ndarray:
  """The whole of a global array, on every process; all of them have to ask."""
  if array.is_fully_addressable:
    return np.asarray(jax.device_get(array))
  with _asked():
    return multihost_utils.process_allgather(array, tiled=True)


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


def own_file(path: Path) -> Path:
  """`path`, or on other processes than the main one a file of their own beside it.

  For files that processes write all the time, which a network file system cannot share.
  """
  if not jax.distributed.is_initialized() or is_main():
    return path
  return path.with_stem(f"{path.stem}.{jax.process_index()}")


class Interrupts:
  """SIGTERM (preemption) and Ctrl-C as KeyboardInterrupt; a context manager.

  One process is interrupted at once. Several go on to their next `check`: one that left in the
  middle of a step would let the others wait for it in a collective, where no signal reaches them.
  """

  def __init__(self) -> None:
    self._heard = False

  def __enter__(self) -> Interrupts:
    both = (signal.SIGTERM, signal.SIGINT)
    self._previous = {each: signal.signal(each, self._hear) for each in both}
    return self

  def __exit__(self, *_: object) -> None:
    for each, handler in self._previous.items():
      signal.signal(each, handler)

  def _hear(self, *_: object) -> None:
    if not jax.distributed.is_initialized():
      raise KeyboardInterrupt
    self._heard = True

  def check(self) -> None:
    """Ends all processes if one of them was signalled; between steps, on all of them."""
    if jax.process_count() > 1 and multihost_utils.process_allgather(np.int32(self._heard)).any():
      raise KeyboardInterrupt


def agree(flag: bool) -> bool:
  """The main process's `flag`, on every process."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))
