"""The report of a run: `report.html` from its work directory, and the table for the terminal.

`report.html` is one file without scripts or references to the network. All text that a model, a
prompt or a config wrote is escaped where it enters the page.
"""

from __future__ import annotations

import itertools
import logging
import os
import string
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.evaluate import compare
from gtalign_jax.game.metrics import per_point

log = logging.getLogger(__name__)

ORDER = ("grpo", "sft", "base")  # newest first: differences read as what training added
NAMES = {"base": "base", "sft": "SFT", "grpo": "GRPO"}


class Report(NamedTuple):
  """What a work directory says.

  config: config.json. metrics: rows of metrics.jsonl. rows: policy -> rows of eval/<policy>.jsonl,
  newest policy first. runs: policy -> `compare.Run` of the same file. compared: `compare_runs` of
  them, or None where no two policies share a scored prompt. seconds: phase -> wall seconds.
  """

  workdir: Path
  config: dict[str, Any]
  metrics: list[dict[str, Any]]
  rows: dict[str, list[dict[str, Any]]]
  runs: dict[str, compare.Run]
  compared: dict[str, Any] | None
  seconds: dict[str, float]


def load(workdir: str | Path) -> Report:
  """Reads a work directory. Raises BadInput where it holds no run or a file is damaged."""
  workdir = Path(workdir)
  if not (workdir / "config.json").exists():
    raise BadInput(f"{workdir} holds no run (no config.json); pass the workdir of a run")
  config = jsonl.read_object(workdir / "config.json")
  metrics = workdir / "metrics.jsonl"
  found = {path.stem: path for path in sorted(workdir.glob("eval/*.jsonl"))}
  order = [*(name for name in ORDER if name in found), *(n for n in found if n not in ORDER)]
  rows = {name: [row for _, row in jsonl.read(found[name])] for name in order}
  runs = {name: compare.read_run(found[name]) for name in order}
  return Report(
    workdir=workdir,
    config=config,
    metrics=[row for _, row in jsonl.read(metrics)] if metrics.exists() else [],
    rows=rows,
    runs=runs,
    compared=_compared(list(runs.values()), config.get("eval", {}).get("bootstrap", 2000)),
    seconds=jsonl.read_object(workdir / "timings.json")
    if (workdir / "timings.json").exists()
    else {},
  )


def _compared(runs: Sequence[compare.Run], resamples: int) -> dict[str, Any] | None:
  """The comparison of the policies with scored rows; None where no two share a scored prompt."""
  scored = [run for run in runs if run.index]
  try:
    return compare.compare_runs(scored, resamples=resamples) if len(scored) > 1 else None
  except BadInput as error:
    log.warning("no comparison of policies: %s", error)
    return None


def label(policy: str) -> str:
  """How the report writes a policy's name."""
  return NAMES.get(policy, policy)


def policies(report: Report) -> list[dict[str, Any]]:
  """One row a policy, oldest first: name, prompts, completions, and the means that exist.

  parse, decision, answer, length are means over valid completions; welfare, user, llm over prompts,
  whose completions are averaged first (as in `compare`, so that they agree with the intervals).
  """
  return [_policy(name, report) for name in reversed(report.rows)]


def _policy(name: str, report: Report) -> dict[str, Any]:
  rows, run = report.rows[name], report.runs[name]
  columns = per_point(*compare.points(run).T) if run.index else {}
  means = {key: float(column.mean()) for key, column in columns.items()}
  return {
    "name": name,
    "prompts": len(run.index),
    "completions": len(rows),
    "parse": _mean(rows, "parsed", everyone=True),
    "welfare": means.get("welfare"),
    "user": means.get("user"),
    "llm": means.get("llm"),
    "decision": _mean(rows, "decision"),
    "answer": _mean(rows, "answer_reward"),
    "length": _mean(rows, "completion_tokens", everyone=True),
  }


def _mean(rows: Sequence[Mapping[str, Any]], key: str, everyone: bool = False) -> float | None:
  """Mean of a column over valid rows (or all), None where no row has a number."""
  values = [
    float(r[key]) for r in rows if r.get(key) is not None and (everyone or r.get("valid", True))
  ]
  return sum(values) / len(values) if values else None


class Difference(NamedTuple):
  """How policy `a` differs from `b`: interval of the mean paired difference a - b in each measure.

  parse: None where a row does not say whether its chain was read.
  """

  a: str
  b: str
  prompts: int
  welfare: Mapping[str, float]
  user: Mapping[str, float]
  llm: Mapping[str, float]
  parse: Mapping[str, float] | None

  @property
  def is_open(self) -> bool:
    """Whether the welfare interval includes zero."""
    return _open(self.welfare)

  @property
  def words(self) -> str:
    """The finding in a few sentences."""
    gain, low, high = (self.welfare[key] for key in ("mean", "low", "high"))
    return (
      f"{label(self.a)} against {label(self.b)}: mean welfare {gain:+.4f}, {compare.LEVEL} % paired "
      f"bootstrap interval {low:+.4f} to {high:+.4f} over {self.prompts} held-out prompts. "
      f"{_verdict(self.welfare, 'welfare')}{self._parse_words}"
    )

  @property
  def _parse_words(self) -> str:
    if self.parse is None:
      return ""
    gain, low, high = (self.parse[key] for key in ("mean", "low", "high"))
    verdict = _verdict(self.parse, "the parse rate")
    return f" Parse rate {gain:+.3f}, interval {low:+.3f} to {high:+.3f}. {verdict}"


def _open(interval: Mapping[str, float]) -> bool:
  return interval["low"] <= 0 <= interval["high"]


def _verdict(interval: Mapping[str, float], measure: str) -> str:
  if _open(interval):
    return f"The interval includes zero: these prompts do not show a difference in {measure}."
  return f"The interval excludes zero: {measure} {'rose' if interval['mean'] > 0 else 'fell'}."


def differences(report: Report) -> list[Difference]:
  """Each policy against the one before it, newest first."""
  names = list(report.rows)
  neighbours = set(itertools.pairwise(names))
  pairs = report.compared["pairs"] if report.compared else []
  return [
    Difference(
      p["a"],
      p["b"],
      p["n_shared"],
      *(p["difference"].get(k) for k in ("welfare", "user", "llm", "parse")),
    )
    for p in pairs
    if (p["a"], p["b"]) in neighbours
  ]


COLUMNS = (
  ("policy", "name", "{}"),
  ("prompts", "prompts", "{}"),
  ("completions", "completions", "{}"),
  ("parse rate", "parse", "{:.3f}"),
  ("W", "welfare", "{:.4f}"),
  ("U", "user", "{:.4f}"),
  ("L", "llm", "{:.4f}"),
  ("decision", "decision", "{:.3f}"),
  ("answer", "answer", "{:.3f}"),
  ("tokens", "length", "{:.0f}"),
)


def cells(policy: Mapping[str, Any]) -> list[str]:
  """A row of the table of policies as text; a number that does not exist is a dash."""
  shown = {**policy, "name": label(policy["name"])}
  return ["-" if shown[key] is None else form.format(shown[key]) for _, key, form in COLUMNS]


def table(workdir: str | Path) -> str:
  """The result of a run for the terminal: policies, findings, where the time went, the report."""
  report = load(workdir)
  grid = [[head for head, _, _ in COLUMNS], *map(cells, policies(report))]
  widths = [max(map(len, column)) for column in zip(*grid)]
  lines = ["held-out prompts"]
  for row in grid:
    first, rest = row[0].ljust(widths[0]), [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
    lines.append("  ".join(["", first, *rest]).rstrip())
  if len(grid) == 1:
    lines.append("  no policy was evaluated")
  lines += ["", *(each.words for each in differences(report))]
  if report.seconds:
    spent = [f"{name} {value:.0f} s" for name, value in report.seconds.items() if value >= 0.5]
    lines += ["", f"time: {', '.join(spent)}; in all {sum(report.seconds.values()):.0f} s"]
  if (report.workdir / "report.html").exists():
    lines.append(f"report: {report.workdir / 'report.html'}")
  return "\n".join(lines)


def write(workdir: str | Path) -> Path:
  """Writes `report.html`, whole or not at all; returns its path. Raises BadInput as `load` does."""
  from gtalign_jax.evaluate import (
    report_page,
  )  # deferred: matplotlib; `table` is asked for more often

  report = load(workdir)
  template = resources.files("gtalign_jax.evaluate").joinpath("report.html").read_text("utf-8")
  text = string.Template(template).substitute(report_page.parts(report))
  path = report.workdir / "report.html"
  partial = path.with_name(f".report.{os.getpid()}.tmp")
  # Lone surrogates that a model wrote have no UTF-8; the page shows a replacement character.
  partial.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")
  os.replace(partial, path)
  return path
