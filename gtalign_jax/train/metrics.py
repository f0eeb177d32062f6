"""Where the numbers of a run go: metrics.jsonl always, TensorBoard and W&B where configured.

`metrics.jsonl` holds one object a line: `phase` (sft | grpo | eval), `step` (counted from 1: the
line of step k is written after update k; an evaluation carries the number of GRPO updates done),
then the metrics of docs/metrics.md. Lines appear in the order of the run, so a resumed run cuts the
file at the first line beyond its checkpoint and goes on; the file then equals an uninterrupted
run's. Lines that are damaged are moved aside and stop nothing.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.files import disk, replace, replacing, set_aside
from gtalign_jax.sections import LogConfig, WatchConfig
from gtalign_jax.train.step_line import describe, matrix
from gtalign_jax.train.watch import Watch

log = logging.getLogger(__name__)

PHASES = ("sft", "grpo", "eval")


def truncate(path: Path, position: Mapping[str, int]) -> int:
  """Cuts `path` before its first line beyond `position`; returns the number of lines kept.

  position: {"sft": n, "grpo": m}, the last committed steps, and "warm" as in `_place`. Lines that
  are no whole JSON objects (a kill in the middle of a write, a damaged disk) or that stand there
  for the second time go to `<name>.damaged`; what is sound behind them stays. Where there are none,
  the file is cut in place by one system call; else it is replaced as a whole, so that a kill leaves
  the old one or the new.
  """
  if not path.exists():
    return 0
  kept = end = 0
  damaged: list[bytes] = []
  for line, good in _sifted(path, position):
    kept, end = kept + good, end + len(line)
    if not good:
      damaged.append(line.rstrip(b"\n") + b"\n")
  if damaged:
    aside = path.with_name(f"{path.name}.damaged")
    with aside.open("ab") as file:
      file.writelines(damaged)
    with replacing(path) as new:
      new.writelines(line.decode() for line, good in _sifted(path, position) if good)
    log.warning("%s: damaged lines (%d), now in %s", path, len(damaged), aside.name)
  elif end < path.stat().st_size:
    os.truncate(path, end)
  return kept


def _sifted(path: Path, position: Mapping[str, int]) -> Iterator[tuple[bytes, bool]]:
  """The lines up to the first one beyond `position`, and whether each is to be kept."""
  seen = set()
  with path.open("rb") as file:
    for line in file:
      row = _object(line)
      if row is None:
        yield line, False
        continue
      counter, step = _place(row)
      if step > position.get(counter, 1 if counter == "warm" else 0):
        return
      key = (row["phase"], row["step"], str(row.get("policy")))
      yield line, key not in seen
      seen.add(key)


def read(path: Path) -> list[dict[str, Any]]:
  """The whole lines of a metrics.jsonl, a half-written last one left out; [] without a file."""
  if not path.exists():
    return []
  rows = map(_object, path.read_bytes().splitlines(keepends=True))
  return [row for row in rows if row is not None]


def _counter(phase: str) -> str:
  return "sft" if phase == "sft" else "grpo"


def _place(row: Mapping[str, Any]) -> tuple[str, int]:
  """(counter, step) that a line belongs to.

  "warm" is 1 at the end of the warm start, 0 before it: the line of its evaluation, which counts
  GRPO steps, is written again where the warm start goes on.
  """
  if row["phase"] == "eval" and row.get("policy") == "sft":
    return "warm", 1
  return _counter(row["phase"]), row["step"]


def _object(line: bytes) -> dict[str, Any] | None:
  try:
    row = json.loads(line.decode())
  except (ValueError, RecursionError):
    return None
  if not (isinstance(row, dict) and line.endswith(b"\n")):
    return None
  return row if row.get("phase") in PHASES and type(row.get("step")) is int else None


def _plain(value: Any) -> Any:
  """A JSON value: numbers of any array library, NaN, infinities and None become null."""
  if value is None or isinstance(value, (str, bool, int)):
    return value
  number = float(value)
  return number if math.isfinite(number) else None


class Writer:
  """Writes the metrics of one run; a context manager. Only the main process touches the disk.

  workdir: where metrics.jsonl, samples/, tensorboard/ go. main: False on every process but the
  first. settings: of the run, for W&B: dotted key -> value, without what leads to a service. watch:
  when a line warns; it then has the warnings under `watch`, and the log has them too. Raises
  BadInput if a configured extra is not installed, RunFailure if the disk is full.
  """

  def __init__(
    self,
    workdir: str | Path,
    config: LogConfig,
    main: bool = True,
    settings: Mapping[str, Any] | None = None,
    watch: WatchConfig | None = None,
  ):
    self._workdir, self._config, self._main = Path(workdir), config, main
    self._settings = settings or {}
    self._watched = watch or WatchConfig()
    self._watch = Watch(self._watched)
    self._path = self._workdir / "metrics.jsonl"
    self._file: int | None = None
    self._evaluated: set[tuple[int, str]] = set()
    self._position: dict[str, int] = {}
    self._boards: dict[str, Any] = {}
    self._wandb: Any = None
    if main:
      self._workdir.mkdir(parents=True, exist_ok=True)
      _require("tensorboardX", "tensorboard", config.tensorboard, "log.tensorboard=True")
      _require("wandb", "wandb", bool(config.wandb), f"log.wandb={config.wandb!r}")

  def __enter__(self) -> Writer:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def resume(self, position: Mapping[str, int], back: bool = False) -> None:
    """Drops what lies beyond `position` = {"sft": n, "grpo": m, "warm": …} (see `truncate`).

    Call it before the first `write`, with zeros where there is no checkpoint yet. A later call
    never goes behind an earlier one, unless `back` says that the checkpoints did.
    """
    if not self._main:
      return
    known = {} if back else self._position
    self._position = {name: max(known.get(name, 0), step) for name, step in position.items()}
    self._close_file()  # it may be replaced by another one
    with disk(self._path):
      if self._path.exists() and not self._path.is_file():
        set_aside(self._path, "it is no file", "a new one is begun")
      kept = truncate(self._path, self._position)
      rows = read(self._path)
    self._watch = Watch(self._watched)
    for row in rows:
      self._watch.see(row["phase"], row["step"], row)
    found = {(row["phase"], row["step"], str(row.get("policy", ""))) for row in rows}
    self._evaluated = {(step, policy) for phase, step, policy in found if phase == "eval"}
    if kept and not back:
      log.info("metrics.jsonl continues after %d lines", kept)
    for phase in ("sft", "grpo"):
      lost = self._position.get(phase, 0) - sum(phase == each for each, *_ in found)
      if lost > 0:  # the checkpoints are there, so the run goes on
        log.warning("metrics.jsonl: lines of %s are lost for good: %d", phase, lost)

  def evaluated(self, step: int, policy: str) -> bool:
    """Whether the file holds this evaluation already."""
    return (int(step), policy) in self._evaluated

  def write(
    self, phase: str, step: int, metrics: Mapping[str, Any], of: int = 0, left: str = ""
  ) -> None:
    """Appends one line; NaN, infinities and None become null.

    metrics: numbers, and in evaluations `policy`, a name. An evaluation that is already in the file
    (same step and policy, from before a resume) is not written twice. of, left: see `describe`.
    """
    if phase not in PHASES:
      raise ValueError(f"phase {phase!r} is not one of {PHASES}")
    row = {key: _plain(value) for key, value in metrics.items()}
    if self._main and self._is_new(phase, step, row):
      warnings = self._watch.see(phase, int(step), row)
      row |= {"watch": warnings} if warnings else {}
      text = json.dumps({"phase": phase, "step": int(step), **row}) + "\n"
      self._append(text.encode())
      # each policy's evaluations by themselves: base and SFT both have step 0
      name = f"eval_{row['policy']}" if phase == "eval" and "policy" in row else phase
      self._mirror(name, step, {k: v for k, v in row.items() if isinstance(v, (int, float))})
      log.info("%s", describe(phase, step, row, of, left))
      if phase == "eval" and (line := matrix(row)):
        log.info("%s", line)
      for each in warnings:
        log.warning("%s step %d: %s", phase, step, each)

  def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the first `log.samples` rows as samples/step_NNNNNN.jsonl, whole or not at all."""
    if not self._main or not self._config.samples:
      return
    path = self._workdir / "samples" / f"step_{step:06d}.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows[: self._config.samples]]
    with disk(path):
      replace(path, "".join(lines))

  def sync(self) -> None:
    """Forces the lines onto the disk; called before a checkpoint is committed.

    Between these calls a line is safe from a killed process but not from a power cut.
    """
    if self._file is not None:
      os.fsync(self._file)

  def close(self) -> None:
    """Flushes and closes everything; safe to call twice."""
    self._close_file()
    for board in self._boards.values():
      board.close()
    self._boards = {}
    if self._wandb is not None:
      self._wandb.finish()
      self._wandb = None

  def _close_file(self) -> None:
    if self._file is not None:
      self.sync()
      os.close(self._file)
      self._file = None

  def _is_new(self, phase: str, step: int, row: Mapping[str, Any]) -> bool:
    key = (int(step), row.get("policy", ""))
    if phase != "eval":  # a warm start that is computed again has its lines already
      return step > self._position.get(phase, 0)
    new = key not in self._evaluated
    self._evaluated.add(key)
    return new

  def _append(self, line: bytes) -> None:
    with disk(self._path):
      if self._file is None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
      if not os.fstat(self._file).st_nlink:  # a file without a name takes lines, and keeps none
        raise OSError(errno.ENOENT, "somebody has removed it")
      # One write call a line: a kill before or after it leaves whole lines only.
      if os.write(self._file, line) != len(line):
        raise OSError(errno.ENOSPC, "no space left on the disk")

  def _mirror(self, name: str, step: int, numbers: Mapping[str, float]) -> None:
    """name: of a phase, or eval_<policy>."""
    if self._config.tensorboard:
      board = self._board(name)
      for key, value in numbers.items():
        board.add_scalar(key, value, step)
    if self._config.wandb:
      run = self._wandb_run()
      run.log({f"{name}/{k}": v for k, v in numbers.items()} | {f"{name}/step": step})

  def _board(self, name: str) -> Any:
    if name not in self._boards:
      from tensorboardX import SummaryWriter

      # Each counts its own steps, so each is a TensorBoard run; purge hides steps done again.
      done = self._position.get(_counter(name), 0)
      folder = self._workdir / "tensorboard" / name
      self._boards[name] = SummaryWriter(
        str(folder), purge_step=done + (not name.startswith("eval"))
      )
    return self._boards[name]

  def _wandb_run(self) -> Any:
    if self._wandb is None:
      import wandb

      name = self._workdir / "wandb_id"  # one id a work directory: a resumed run stays one run
      if not name.exists():
        replace(name, uuid.uuid4().hex[:12])
      self._wandb = wandb.init(
        project=self._config.wandb,
        dir=str(self._workdir),
        id=name.read_text(),
        resume="allow",
        config=dict(self._settings),
      )
      for phase in ("sft", "grpo", "eval_base", "eval_sft", "eval_grpo"):
        self._wandb.define_metric(f"{phase}/step")
        self._wandb.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
    return self._wandb


def _require(package: str, extra: str, wanted: bool, key: str) -> None:
  if not wanted:
    return
  try:
    __import__(package)
  except ImportError as error:
    raise BadInput(
      f"{key} needs the package {package}; pip install 'gtalign-jax[{extra}]', or unset the key"
    ) from error
