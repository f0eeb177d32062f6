"""Where the time of a run went, over all its resumptions."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax

from gtalign_jax.files import replace

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


class Clock:
  """Adds up wall seconds by phase; compilation is counted apart wherever it happens.

  Kept in `<workdir>/timings.json`, so that a resumed run goes on counting; only the main process
  writes. A host resource.
  """

  def __init__(self, workdir: Path, main: bool = True):
    self._path, self._main = Path(workdir) / "timings.json", main
    self.seconds = dict.fromkeys(PHASES, 0.0)
    if self._path.exists():
      self.seconds |= json.loads(self._path.read_text(encoding="utf-8"))
    install = os.environ.get("GTALIGN_INSTALL_SECONDS")
    if install:
      self.seconds["install"] = float(install)
    self._open = ExitStack()
    self._compile = self._open.enter_context(compiling())
    self._last = time.perf_counter()
    self._inside: list[str] = []

  def _settle(self) -> None:
    now = time.perf_counter()
    phase = self._inside[-1] if self._inside else "other"
    elapsed = now - self._last
    compiled = min(sum(self._compile), elapsed)
    self.seconds["compile"] += compiled
    self.seconds[phase] += elapsed - compiled
    self._compile.clear()
    self._last = now

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
    replace(self._path, json.dumps(rounded) + "\n")

  def __enter__(self) -> Clock:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def close(self) -> None:
    """Saves and stops listening."""
    self.save()
    self.stop()

  def stop(self) -> None:
    """Stops listening, and writes nothing: the run did not begin."""
    self._open.close()
