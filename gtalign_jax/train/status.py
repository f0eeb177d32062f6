"""What a work directory says of its run, read and never written: how far it is, how it ended."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gtalign_jax import config as configs
from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.progress import clock
from gtalign_jax.train import lock

RECENT = 20  # steps whose median is the pace: the first ones compile
# the files that a report is made of, besides the newest of samples/
_SHOWN = ("config.json", "metrics.jsonl", "timings.json", "DONE", "eval/*.jsonl")
_NAMES = {"sft": "warm start", "grpo": "GRPO"}


class Status(NamedTuple):
  """kind: running, stopped or done. words: how far the run is, for people."""

  kind: Literal["running", "stopped", "done"]
  words: str


def check(workdir: Path) -> None:
  """Raises BadInput where `workdir` is no work directory of a run."""
  fault = ""
  if not workdir.is_dir():
    fault = "is no folder" if workdir.exists() else "does not exist"
  elif not (workdir / "config.json").is_file():
    fault = "holds no run (no config.json)"
    if (workdir / "lock").exists():
      fault = "holds a run that is still loading its model; try again in a minute"
      raise BadInput(f"{workdir} {fault}")
  elif "grpo" not in jsonl.read_object(workdir / "config.json"):
    fault = "holds something else than a run (its config.json is not of gtalign train)"
  if fault:
    raise BadInput(f"{workdir} {fault}; pass the workdir= of a run")


def version(workdir: Path) -> str:
  """Changes with every file that a report of the run is made of."""
  found = hashlib.sha256()
  for path in _files(workdir):
    try:
      seen = path.stat()
    except OSError:  # replaced at this moment: the next look sees it
      continue
    found.update(f"{path.name} {seen.st_mtime_ns} {seen.st_size} {seen.st_ino}\n".encode())
  return found.hexdigest()[:16]


def _files(workdir: Path) -> Iterator[Path]:
  for pattern in _SHOWN:
    yield from sorted(workdir.glob(pattern))
  yield from sorted(workdir.glob("samples/step_*.jsonl"))[-1:]


def status(workdir: Path) -> Status:
  """Whether the run is at work, and how far it is. Raises BadInput at a damaged config."""
  holder, done = lock.holder(workdir), (workdir / "DONE").exists()
  far = _far(workdir)
  again = "the same command goes on from its checkpoint"
  if holder is None:
    return Status("done", "done") if done else Status("stopped", f"stopped {far.at}; {again}")
  if holder.is_alive is False:
    left = f"process {holder.pid} has ended without a word and left its lock"
    return Status("stopped", f"stopped {far.at}: {left}; {again}")
  where = "" if holder.is_alive else f" on {holder.host}"  # whose life cannot be seen from here
  parts = [f"running{where} {far.at}", far.pace, far.left, _age(workdir)]
  return Status("running", ", ".join(filter(None, parts)))


class _Far(NamedTuple):
  """How far a run is, in words. pace, left: "" where they are not known."""

  at: str
  pace: str = ""
  left: str = ""


def _far(workdir: Path) -> _Far:
  config = jsonl.read_object(workdir / "config.json")
  path = workdir / "metrics.jsonl"
  # a line that is being written at this moment is no damage
  rows = [row for _, row in jsonl.read_sound(path, [])] if path.exists() else []
  steps = [row for row in rows if row.get("phase") in _NAMES and isinstance(row.get("step"), int)]
  if not steps:
    return _Far("before its first step")
  phase, step = steps[-1]["phase"], steps[-1]["step"]
  total, after = _steps(config, phase), _steps(config, "grpo") if phase == "sft" else 0
  at = f"at {_NAMES[phase]} {step}/{total}"
  times = [row.get("step_time") for row in steps[-RECENT:] if row["phase"] == phase]
  known = [float(each) for each in times if isinstance(each, (int, float))]
  if not known or step >= total:
    return _Far(at)
  pace = statistics.median(known)
  left = f"about {clock(pace * (total - step))} left"
  if after:
    left += f" of the warm start, then {after} steps of GRPO"
  return _Far(at, f"{clock(pace) if pace >= 10 else f'{pace:.1f} s'} a step", left)


def _steps(config: dict[str, Any], phase: str) -> int:
  found = configs.flat(config).get(f"{phase}.steps", 0)
  return found if isinstance(found, int) else 0


def _age(workdir: Path) -> str:
  """When the run last wrote a line."""
  try:
    age = time.time() - (workdir / "metrics.jsonl").stat().st_mtime
  except OSError:
    return ""
  return f"last line {clock(max(0.0, age))} ago"
