"""How far long work is and how long it will take: a bar on a terminal, lines in a log.

Work may lie in other work, as an evaluation does in its phase. Bars stand below each other; lines
are of the innermost work. Whoever waits for a device or a judge cannot speak meanwhile, so lines
are written by a thread of their own.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
  from rich.table import Table

log = logging.getLogger(__name__)
Advance = Callable[[int, int], None]  # (done, total)
SECONDS = 30.0  # between two lines in a log
_open: list[Shown] = []  # what is under way, the innermost last


def part(advance: Advance, start: int, total: int) -> Advance:
  """Of a piece of work that begins at `start` of `total`; the piece may tell more than it has."""
  return lambda done, _: advance(min(start + done, total), total)


class Shown:
  """One piece of long work, called as `advance(done, total)`.

  doing: what it is at just now, free text. told: whether each call comes with a log line of its
  own. first: what an earlier start had done, which says nothing about the time that is left.
  """

  def __init__(self, label: str, first: int = 0):
    self.label, self.doing, self.first = label, "", first
    self.done, self.total, self.told = first, 0, False
    self._began = self._called = time.monotonic()

  def __call__(self, done: int, total: int) -> None:
    """Tells that `done` of `total` are done."""
    self.done, self.total, self._called = done, total, time.monotonic()

  def silent(self, seconds: float) -> bool:
    """Whether nobody has heard of it for so long."""
    return not self.told or time.monotonic() - self._called >= seconds

  def left(self) -> str:
    """The time left at the pace so far, as a clause; "" while there is no pace."""
    done, rest = self.done - self.first, self.total - self.done
    pace = (time.monotonic() - self._began) / done if done > 0 else 0.0
    return f"{clock(pace * rest)} left" if pace and rest > 0 else ""

  def words(self) -> list[str]:
    """What it is, how far it is, what it is doing, and the time: those that are known."""
    count = f" {self.done}/{self.total}" if self.total else ""
    spent = f"{clock(time.monotonic() - self._began)} so far"
    return [each for each in (f"{self.label}{count}", self.doing, spent, self.left()) if each]


@contextlib.contextmanager
def progress(label: str, first: int = 0, seconds: float = SECONDS) -> Iterator[Shown]:
  """Shows how far the work inside is: a bar on a terminal, a log line every `seconds` elsewhere.

  Yields the `Shown` that is to be called.
  """
  shown = Shown(label, first)
  _open.append(shown)
  # only the main process of several logs at INFO, so there is one display for all of them
  wanted = len(_open) == 1 and log.isEnabledFor(logging.INFO)
  terminal = sys.stderr is not None and sys.stderr.isatty()
  display = contextlib.nullcontext() if not wanted else _bars() if terminal else _lines(seconds)
  try:
    with display:
      yield shown
  finally:
    _open.remove(shown)


@contextlib.contextmanager
def _lines(seconds: float) -> Iterator[None]:
  ended = threading.Event()

  def speak() -> None:
    while not ended.wait(seconds):
      if _open[-1].silent(seconds):
        log.info("%s", ", ".join(_open[-1].words()))

  thread = threading.Thread(target=speak, name="progress", daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()


@contextlib.contextmanager
def _bars() -> Iterator[None]:
  from rich.console import Console  # deferred: most commands never draw a bar
  from rich.live import Live

  before = sys.stderr
  live = Live(
    console=Console(stderr=True), get_renderable=_picture, refresh_per_second=2, transient=True
  )
  with live:
    # log lines go above the bars, by the stream that rich puts in the place of stderr
    moved = [each for each in logging.getLogger().handlers if getattr(each, "stream", 0) is before]
    for each in moved:
      each.setStream(sys.stderr)  # type: ignore[attr-defined]
    try:
      yield
    finally:
      for each in moved:
        each.setStream(before)  # type: ignore[attr-defined]


def _picture() -> Table:
  """A bar for each piece of work."""
  from rich.progress_bar import ProgressBar
  from rich.table import Table

  grid = Table.grid(padding=(0, 1))
  for each in list(_open):
    name, *rest = each.words()
    grid.add_row(name, ProgressBar(each.total or None, each.done, width=30), ", ".join(rest))
  return grid


def clock(seconds: float) -> str:
  """A duration as people read it: `42 s`, `3 min 20 s`, `2 h 05 min`."""
  minutes, rest = divmod(round(seconds), 60)
  if not minutes:
    return f"{rest} s"
  hours, minutes = divmod(minutes, 60)
  return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class WorkLog(Protocol):
  """What long work on a device tells of itself while it is under way; by default nothing."""

  def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
    """Books the time inside the block to `name`."""
    return contextlib.nullcontext()

  def flush(self) -> None:
    """Called once the device is busy: the moment to fetch and write what is pending."""
    return None

  def doing(self, what: str) -> None:
    """Tells what the open phase is at, e.g. `rollout 3/8`, until told otherwise."""
    return None


class Quiet(WorkLog):
  """A `WorkLog` that keeps nothing."""
