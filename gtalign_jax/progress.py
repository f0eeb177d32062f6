"""How far long work is and how long it will take: a bar on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

log = logging.getLogger(__name__)
Advance = Callable[[int, int], None]  # (done, total)


@contextlib.contextmanager
def progress(label: str, seconds: float = 20.0) -> Iterator[Advance]:
  """Shows how far long work is: a bar on a terminal, a log line every `seconds` elsewhere.

  Yields `advance(done, total)`. Both forms say the time left once some of the work is done.
  """
  # only the main process of several logs at INFO, so there is one bar for all of them
  wanted = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
  with _bar(label) if wanted else _lines(label, seconds) as advance:
    yield advance


@contextlib.contextmanager
def _lines(label: str, seconds: float) -> Iterator[Advance]:
  began = last = time.monotonic()

  def advance(done: int, total: int) -> None:
    nonlocal last
    now = time.monotonic()
    if done < total and now - last < seconds:
      return
    last = now
    left = f", {clock((now - began) / done * (total - done))} left" if 0 < done < total else ""
    log.info("%s %d/%d%s", label, done, total, left)

  yield advance


@contextlib.contextmanager
def _bar(label: str) -> Iterator[Advance]:
  from rich.console import Console  # deferred: most commands never draw a bar
  from rich.progress import Progress

  with Progress(console=Console(stderr=True), transient=True) as bars:
    task = bars.add_task(label, total=None)
    yield lambda done, total: bars.update(task, completed=done, total=total)


def clock(seconds: float) -> str:
  """A duration as people read it: `42 s`, `3 min 20 s`, `2 h 05 min`."""
  whole = round(seconds)
  if whole < 60:
    return f"{whole} s"
  if whole < 3600:
    return f"{whole // 60} min {whole % 60:02d} s"
  return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class WorkLog(Protocol):
  """What long work on a device tells of itself while it is under way."""

  def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
    """Books the time inside the block to `name`."""

  def flush(self) -> None:
    """Called once the device is busy: the moment to fetch and write what is pending."""


class Quiet:
  """A `WorkLog` that keeps nothing."""

  def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
    """Does nothing."""
    del name
    return contextlib.nullcontext()

  def flush(self) -> None:
    """Does nothing."""
