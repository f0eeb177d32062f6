"""Where the time of a run went, over all its resumptions."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import jax

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.files import replace, set_aside

log = logging.getLogger(__name__)

# order in which the table shows them
PHASES = (
  "install", "load", "compile", "sft", "rollout", "reward", "update", "evaluation", "checkpoint",
  "other",
)  # fmt: skip
COMPILING = (
  "/jax/core/compile/backend_compile_duration",
  "/jax/core/compile/jaxpr_trace_duration",
)


@contextmanager
def compiling() -> Iterator[list[float]]:
  """The seconds of every trace and compilation of this process inside, each added when it ends."""
  seconds: list[float] = []

  def heard(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event in COMPILING:
      seconds.append(duration_secs)

  jax.monitoring.register_event_duration_secs_listener(heard)
  try:
    yield seconds
  finally:
    jax.monitoring.unregister_event_duration_listener(heard)


def _read(path: Path, main: bool) -> dict[str, float]:
  """The sums of earlier starts; {} where there are none, or they are damaged."""
  try:
    return {name: value for name, value in jsonl.read_numbers(path).items() if name in PHASES}
  except BadInput as error:
    if main:
      set_aside(path, first_line(error), "time is counted anew")
    return {}


class Clock(AbstractContextManager):
  """Adds up wall seconds by phase; compilation is counted apart wherever it happens.

  Kept in `<workdir>/timings.json`, so that a resumed run goes on counting; only the main process
  writes. A host resource; leaving it saves.
  """

  def __init__(self, workdir: Path, main: bool = True):
    self._path, self._main = Path(workdir) / "timings.json", main
    self.seconds = dict.fromkeys(PHASES, 0.0)
    self.seconds |= _read(self._path, main)
    if install := os.environ.get("GTALIGN_INSTALL_SECONDS"):
      self.seconds["install"] = float(install)
    self._open = ExitStack()
    self._compile = self._open.enter_context(compiling())
    self._last = time.perf_counter()
    self._inside = ["other"]

  def _settle(self) -> None:
    began, self._last = self._last, time.perf_counter()
    elapsed = self._last - began
    compiled = min(sum(self._compile), elapsed)
    self._compile.clear()
    self.seconds["compile"] += compiled
    self.seconds[self._inside[-1]] += elapsed - compiled

  @contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Books the time inside to `name`; an inner phase takes its time away from the outer."""
    self._settle()
    self._inside.append(name)
    try:
      yield
    finally:
      self._settle()
      self._inside.pop()

  def save(self) -> None:
    """Writes the sums so far."""
    self._settle()
    if not self._main:
      return
    rounded = {name: round(value, 3) for name, value in self.seconds.items()}
    try:
      replace(self._path, json.dumps(rounded) + "\n")
    except OSError as error:  # no reason to end a run, or to hide what has ended it
      log.warning("%s is not written: %s", self._path, error.strerror)

  def __exit__(self, *_: object) -> None:
    self.save()
    self.stop()

  def stop(self) -> None:
    """Stops listening, and writes nothing: the run did not begin."""
    self._open.close()
