"""Tells when a process of a run has died, and ends this one: it would wait for it in a collective.

Every process counts in the key-value store that process 0 keeps for jax; one whose count stands
still is gone. jax itself would notice after 100 s, and end this process with a native stack trace.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

PREFIX = "gtalign/alive/"
BEAT_S = 1.0


def leave(message: str) -> None:
  """Ends this process with one line and exit code 1; no library is asked to take it well."""
  os.write(2, f"gtalign: {message}\n".encode())
  os._exit(1)


@contextlib.contextmanager
def joined_within(seconds: float, index: int | None, count: int | None) -> Iterator[None]:
  """Ends this process where the block, which waits for all others, takes longer than that."""
  who = "this process" if index is None else f"process {index} of {count}"
  message = (
    f"{who} on {socket.gethostname()} has waited {seconds:.0f} s for the others "
    "(GTALIGN_JOIN_SECONDS); see that all hosts have started, that they reach the coordinator, "
    "and that GTALIGN_PROCESSES is their number"
  )
  timer = threading.Timer(seconds, leave, [message])
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


class Watch:
  """Counts for this process and watches the others', in a thread of its own.

  client: of jax's coordination service. patience: seconds without a count that mean death.
  """

  def __init__(self, client: Any, index: int, count: int, patience: float):
    self._client, self._index, self._count, self._patience = client, index, count, patience
    self._ending, self._left = threading.Event(), threading.Event()
    self._thread = threading.Thread(target=self._run, name="peers", daemon=True)
    self._thread.start()
    atexit.register(self._end)

  def _end(self) -> None:
    """Leaves together with the others: counts until all of them are here, then ends the thread.

    A thread that is inside jax's client while the interpreter goes away would abort the process.
    """
    self._ending.set()
    jax.distributed.shutdown()
    self._left.set()
    self._thread.join()

  def _run(self) -> None:
    began = time.monotonic()
    seen: dict[int, tuple[str, float]] = {i: ("", began) for i in range(self._count)}
    beat = 0
    while not self._left.wait(BEAT_S):
      beat += 1
      with contextlib.suppress(Exception):  # process 0 does not answer: nobody's count goes on
        said = f"{beat} {socket.gethostname()} {os.getpid()}"
        self._client.key_value_set(f"{PREFIX}{self._index}", said, True)
        now = time.monotonic()
        for key, value in self._client.key_value_dir_get(PREFIX):
          peer = int(key.rpartition("/")[2])
          if seen[peer][0] != value:
            seen[peer] = (value, now)
      self._blame(seen)

  def _blame(self, seen: dict[int, tuple[str, float]]) -> None:
    now = time.monotonic()
    late = [peer for peer, (_, when) in seen.items() if now - when > self._patience]
    if not late or self._ending.is_set():
      return
    # where nobody is heard, it is the store that is gone
    peer = 0 if len(late) == self._count else next(p for p in late if p != self._index)
    _, host, pid = (seen[peer][0] or "0 unknown 0").split()
    leave(
      f"process {peer} of {self._count} (process {pid} on {host}) has not been heard of for "
      f"{self._patience:.0f} s: it died, or its host did; its own log says why. Start all of them "
      "again to resume"
    )
