"""Processes of a multi-host run; the only file that knows there is more than one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from jax._src.distributed import global_state  # the key-value store has no public name
from jax.experimental import multihost_utils

from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.parallel import peers

# environment variable -> seconds: until all processes have joined; without a word of one of them
PATIENCE = {"GTALIGN_JOIN_SECONDS": 120, "GTALIGN_PEER_SECONDS": 30}


def initialize() -> None:
  """Joins the processes of this run, where the launcher says there are several.

  TPU pod slices, SLURM and GKE are detected by jax; elsewhere the launcher sets
  GTALIGN_COORDINATOR (host:port), GTALIGN_PROCESSES and GTALIGN_PROCESS_ID. From here on only the
  main process logs its progress; all log warnings. On CPU the processes use no compilation cache.
  """
  coordinator = os.environ.get("GTALIGN_COORDINATOR")
  if not coordinator and os.environ.get("GTALIGN_DISTRIBUTED") != "auto":
    return
  count = index = None  # jax knows them
  if coordinator:
    count, index = (_whole(name) for name in ("GTALIGN_PROCESSES", "GTALIGN_PROCESS_ID"))
    if not 0 <= index < count:
      raise BadInput(f"GTALIGN_PROCESS_ID={index}: must be below GTALIGN_PROCESSES={count}")
  join, patience = (_whole(name, default) for name, default in PATIENCE.items())
  with peers.joined_within(join, index, count):
    # jax's own limit is behind ours: it ends the process with a native stack trace
    jax.distributed.initialize(coordinator, count, index, initialization_timeout=join + 60)
  if jax.process_count() > 1:
    peers.Watch(global_state.client, jax.process_index(), jax.process_count(), patience)
    if jax.default_backend() == "cpu":
      # a bf16 update that gloo joins hangs once it is read back from the cache (jax 0.10.2)
      jax.config.update("jax_enable_compilation_cache", False)
  if not is_main():
    logging.getLogger("gtalign_jax").setLevel(logging.WARNING)


def _whole(name: str, default: int | None = None) -> int:
  text = os.environ.get(name, default)
  try:
    return int(text)  # type: ignore[arg-type]
  except (TypeError, ValueError):
    raise BadInput(f"{name}={text!r}: must be a whole number") from None


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


def by_main(check: Callable[[], None]) -> None:
  """Runs `check` on the main process; where it fails, all processes end alike.

  A process that went on alone would wait in its next collective until the heartbeats give up.
  """
  error: BadInput | RunFailure | None = None
  if is_main():
    try:
      check()
    except (BadInput, RunFailure) as caught:
      error = caught
  if agree(error is None):
    return
  # the same exit code everywhere, because it decides whether the launcher tries again
  kind = BadInput if agree(isinstance(error, BadInput)) else RunFailure
  raise error or kind("the main process cannot start; its log says why")


def own_file(path: Path | None) -> Path | None:
  """`path`, or on other processes than the main one a file of their own beside it.

  For files that processes write all the time, which a network file system cannot share.
  """
  if path is None or not jax.distributed.is_initialized() or is_main():
    return path
  return path.with_stem(f"{path.stem}.{jax.process_index()}")


class Interrupts:
  """SIGTERM (preemption) and Ctrl-C as KeyboardInterrupt; a context manager, one at a time.

  One process is interrupted at once, or at the end of what is `uninterrupted`. Several go on to
  their next `check`: one that left in the middle of a step would let the others wait for it in a
  collective, where no signal reaches them. A second signal ends the process at once, with exit code
  130: what it interrupts is lost, and no library is asked to take it well.
  """

  _current: ClassVar[Interrupts | None] = None

  def __init__(self) -> None:
    self._heard = 0.0  # when the first signal came
    self._pending = False  # a KeyboardInterrupt is still to come
    self._held = 0  # `uninterrupted` blocks that are open

  def __enter__(self) -> Interrupts:
    both = (signal.SIGTERM, signal.SIGINT)
    self._previous = {each: signal.signal(each, self._hear) for each in both}
    Interrupts._current = self
    return self

  def __exit__(self, *_: object) -> None:
    Interrupts._current = None
    for each, handler in self._previous.items():
      signal.signal(each, handler)

  def _hear(self, *_: object) -> None:
    now = time.monotonic()
    # launchers tell the whole group and pass the signal on as well: one wish, heard twice
    if self._heard and now - self._heard > 1:
      os.write(2, b"gtalign: interrupted twice; run the same command again to resume\n")
      os._exit(130)
    if not self._heard:
      self._heard, self._pending = now, True
      self._raise()

  def _raise(self) -> None:
    if self._pending and not self._held and not jax.distributed.is_initialized():
      self._pending = False
      raise KeyboardInterrupt

  def check(self) -> None:
    """Ends all processes if one of them was signalled; between steps, on all of them."""
    if not everywhere(not self._heard):
      raise KeyboardInterrupt


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
  """A signal that comes inside waits for the end of the block, so that a save is not lost."""
  interrupts = Interrupts._current
  if interrupts is None:
    yield
    return
  interrupts._held += 1
  try:
    yield
  finally:
    interrupts._held -= 1
  interrupts._raise()


@contextlib.contextmanager
def blaming() -> Iterator[None]:
  """Lets an error wait for `peers.Watch`: where a process died, a collective fails in the others.

  The watch then ends this one with a line that names it; else the error goes on.
  """
  try:
    yield
  except BadInput:
    raise
  except Exception as error:
    ours = isinstance(error, RunFailure) and not isinstance(
      error.__cause__, jax.errors.JaxRuntimeError
    )
    if jax.process_count() > 1 and not ours:
      time.sleep(2 + _whole("GTALIGN_PEER_SECONDS", PATIENCE["GTALIGN_PEER_SECONDS"]))
    raise


def agree(flag: bool) -> bool:
  """The main process's `flag`, on every process."""
  return bool(from_main(int(flag)))


def from_main(number: int) -> int:
  """The main process's `number` (below 2**31), on every process."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def everywhere(flag: bool) -> bool:
  """Whether `flag` is true on all processes."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.int32(flag)).all())
