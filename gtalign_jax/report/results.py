"""What a work directory says: its rows, means and differences, and the table for the terminal."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gtalign_jax import config as configs
from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game import paired, resampling
from gtalign_jax.game.metrics import per_point
from gtalign_jax.report.labels import label
from gtalign_jax.types import POLICIES

log = logging.getLogger(__name__)

Row = dict[str, Any]  # one line of a file of JSON lines


class Report(NamedTuple):
  """What a work directory says.

  config: config.json. metrics: rows of metrics.jsonl. rows: policy -> rows of eval/<policy>.jsonl,
  newest policy first. runs: policy -> the same rows as a `ScoredRun`. compared: `compare_runs` of
  them, or None where no two policies share a scored prompt. trained: rows of the last file of
  samples/. seconds: phase -> wall seconds.
  """

  workdir: Path
  config: Row
  metrics: list[Row]
  rows: dict[str, list[Row]]
  runs: dict[str, paired.ScoredRun]
  compared: Row | None
  trained: list[Row]
  seconds: dict[str, float]


def load(workdir: str | Path) -> Report:
  """Reads a work directory. Raises BadInput where it holds no run or its config is damaged.

  What is damaged in the other files is told in one line for each and left out: a run of hours does
  not end without a report for it.
  """
  workdir = Path(workdir)
  if not (workdir / "config.json").exists():
    raise BadInput(f"{workdir} holds no run (no config.json); pass the workdir of a run")
  config = jsonl.read_object(workdir / "config.json")
  found = {path.stem: path for path in sorted(workdir.glob("eval/*.jsonl"))}
  # known policies by age, then what a user evaluated by hand
  order = [*(n for n in POLICIES if n in found), *(n for n in found if n not in POLICIES)]
  lines, runs = {}, {}
  for name in order:
    try:
      rows = _sound(found[name])
      runs[name] = paired.scored_run(name, rows, found[name])
      lines[name] = rows
    except BadInput as error:
      log.warning("the report leaves out %s: %s", name, error)
  metrics = [row for _, row in _sound(workdir / "metrics.jsonl")]
  last = sorted(workdir.glob("samples/step_*.jsonl"))[-1:]
  # the run's own number of resamples; a run of an older version may not have the key
  resamples = configs.flat(config).get("eval.bootstrap", 2000)
  return Report(
    workdir=workdir,
    config=config,
    # a run without GRPO steps and one without timings still have something to show
    metrics=[row for row in metrics if {"phase", "step"} <= row.keys()],
    rows={name: [row for _, row in each] for name, each in lines.items()},
    runs=runs,
    compared=_compared(list(runs.values()), resamples),
    trained=[row for path in last for _, row in _sound(path)],
    seconds=_seconds(workdir / "timings.json"),
  )


def _sound(path: Path) -> list[tuple[int, Row]]:
  """The lines of a file that are whole; [] without a file."""
  damaged: list[str] = []
  rows = jsonl.read_sound(path, damaged) if path.exists() else []
  if damaged:
    log.warning("the report leaves out damaged lines (%d), the first: %s", len(damaged), damaged[0])
  return rows


def _seconds(path: Path) -> dict[str, float]:
  try:
    return jsonl.read_numbers(path)
  except BadInput as error:
    log.warning("the report does not tell where the time went: %s", error)
    return {}


def _compared(runs: Sequence[paired.ScoredRun], resamples: int) -> Row | None:
  """The comparison of the policies with scored rows; None where no two share a scored prompt."""
  scored = [run for run in runs if run.places]  # a judge that was down leaves only nulls
  try:
    return paired.compare_runs(scored, resamples=resamples) if len(scored) > 1 else None
  except BadInput as error:  # evaluations of different prompts: the rest of the report stands
    log.warning("no comparison of policies: %s", error)
    return None


class PolicyMeans(NamedTuple):
  """One row of the table of policies; None where no row has the number.

  parse, decision, answer, length are means over valid completions; welfare, user, llm over prompts,
  whose completions are averaged first (as in `compare`, so that they agree with the intervals).
  """

  name: str
  welfare: float | None
  user: float | None
  llm: float | None
  parse: float | None
  decision: float | None
  answer: float | None
  length: float | None
  prompts: int
  completions: int


# head and format of each field of PolicyMeans, in order: a phone shows the first five
COLUMNS = (
  ("policy", "{}"), ("W", "{:.4f}"), ("U", "{:.4f}"), ("L", "{:.4f}"), ("parse rate", "{:.3f}"),
  ("decision", "{:.3f}"), ("answer", "{:.3f}"), ("tokens", "{:.0f}"),
  ("prompts", "{}"), ("completions", "{}"),
)  # fmt: skip


def policies(report: Report) -> list[PolicyMeans]:
  """The means of every policy, oldest first."""
  found = []
  for name in reversed(report.rows):
    rows, run = report.rows[name], report.runs[name]
    columns = per_point(*paired.points(run).T) if run.places else {}
    W, U, L = (columns[key].mean() if columns else None for key in ("welfare", "user", "llm"))
    keys = ("parsed", "decision", "answer_reward", "completion_tokens")
    parse, decision, answer, length = (_mean(rows, key) for key in keys)
    counts = len(run.places), len(rows)
    found.append(PolicyMeans(name, W, U, L, parse, decision, answer, length, *counts))
  return found


def _mean(rows: Sequence[Row], key: str) -> float | None:
  """Mean of a column over valid rows, None where no row has a number."""
  counted = [row for row in rows if row.get("valid", True)]
  values = [float(row[key]) for row in counted if isinstance(row.get(key), (int, float))]
  return sum(values) / len(values) if values else None


def cells(policy: PolicyMeans) -> list[str]:
  """A row of the table of policies as text; a number that does not exist is a dash."""
  shown = policy._replace(name=label(policy.name))
  return ["-" if value is None else form.format(value) for value, (_, form) in zip(shown, COLUMNS)]


def grid(policies: Sequence[PolicyMeans]) -> tuple[list[str], list[list[str]]]:
  """(head, rows) of the table of policies; no decision where nobody has one to take."""
  heads = [head for head, _ in COLUMNS]
  kept = [
    at
    for at, head in enumerate(heads)
    if head != "decision" or any(each[at] is not None for each in policies)
  ]
  rows = [cells(each) for each in policies]
  return [heads[at] for at in kept], [[row[at] for at in kept] for row in rows]


class Difference(NamedTuple):
  """How policy `a` differs from `b`: interval of the mean paired difference a - b in each measure.

  parse: None where a row does not say whether its chain was read. rates: parse rate of a and b.
  """

  a: str
  b: str
  prompts: int
  welfare: Mapping[str, float]
  parse: Mapping[str, float] | None
  rates: tuple[float | None, float | None] = (None, None)

  @property
  def is_open(self) -> bool:
    """Whether nothing is claimed of the welfare."""
    return bool(self._doubt(self.welfare, "welfare"))

  def _doubt(self, interval: Mapping[str, float], measure: str) -> str:
    """Why nothing is claimed of a measure; "" where something is."""
    if self.prompts < resampling.FEWEST:
      return f"No interval and no finding: these take {resampling.FEWEST} prompts or more."
    if interval["low"] <= 0 <= interval["high"]:
      return f"The interval includes zero: these prompts do not show a difference in {measure}."
    # whatever such a policy earns, it is not for playing the game
    if self.rates[0 if interval["mean"] > 0 else 1] == 0:
      return f"No finding in {measure}: not one chain of the larger side could be read."
    return ""

  def _claim(self, interval: Mapping[str, float], measure: str) -> str:
    moved = "rose" if interval["mean"] > 0 else "fell"
    return self._doubt(interval, measure) or f"The interval excludes zero: {measure} {moved}."

  @property
  def words(self) -> str:
    """The finding in a few sentences."""
    told = [self._told("W", self.welfare, "welfare")]
    if self.parse is not None:
      told.append(self._told("Parse rate", self.parse, "the parse rate"))
    head = f"{label(self.a)} against {label(self.b)}, {self.prompts} held-out prompts: "
    return head + " ".join(told)

  def _told(self, title: str, interval: Mapping[str, float], measure: str) -> str:
    gain, low, high = (interval[key] for key in ("mean", "low", "high"))
    span = f", {resampling.LEVEL} % paired bootstrap interval {low:+.4f} to {high:+.4f}"
    shown = span if self.prompts >= resampling.FEWEST else ""
    return f"{title} {gain:+.4f}{shown}. {self._claim(interval, measure)}"


def differences(report: Report) -> list[Difference]:
  """Each policy against the one before it, newest first."""
  # GRPO against base would count the warm start's gain a second time
  neighbours, found = set(itertools.pairwise(report.rows)), []
  compared = report.compared or {"pairs": []}
  for pair in compared["pairs"]:
    a, b, gain = pair["a"], pair["b"], pair["difference"]
    if (a, b) in neighbours:
      rates = compared["runs"][a]["parse"], compared["runs"][b]["parse"]
      found.append(Difference(a, b, pair["n_shared"], gain["welfare"], gain.get("parse"), rates))
  return found


def warnings(metrics: Sequence[Row]) -> list[tuple[int, str]]:
  """(update, warning) of all that went wrong while the run was at work (train/watch.py)."""
  # lists alone: a file that somebody has edited stops no report
  told = [(row["step"], each) for row in metrics if isinstance(each := row.get("watch"), list)]
  return [(step, str(text)) for step, texts in told for text in texts]


def table(workdir: str | Path) -> str:
  """The result of a run for the terminal: policies, findings, where the time went, the report."""
  report = load(workdir)
  head, rows = grid(policies(report))
  widths = [max(map(len, column)) for column in zip(head, *rows)]
  lines = ["held-out prompts"]  # then names to the left, numbers to the right
  for row in [head, *rows]:
    first, rest = row[0].ljust(widths[0]), [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
    lines.append("  ".join(["", first, *rest]).rstrip())
  if not rows:
    lines.append("  no policy was evaluated")
  lines += ["", *(each.words for each in differences(report))]
  lines += [f"warning at update {step}: {text}" for step, text in warnings(report.metrics)]
  if report.seconds:
    # phases under half a second would read as "0 s"
    spent = [f"{name} {value:.0f} s" for name, value in report.seconds.items() if value >= 0.5]
    lines += ["", f"time: {', '.join(spent)}; in all {sum(report.seconds.values()):.0f} s"]
  if (report.workdir / "report.html").exists():  # the table alone may be asked for
    lines.append(f"report: {report.workdir / 'report.html'}")
  return "\n".join(lines)
