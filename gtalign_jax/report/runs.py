"""The report over several runs: tables, fronts, curves, and chains side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax import files, jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game import paired
from gtalign_jax.looks import look
from gtalign_jax.report import chains, charts, conversations, template
from gtalign_jax.report.results import Row
from gtalign_jax.rewards.summary import prompt_of

SHOWN = 3  # prompts side by side
Grid = list[list[str]]  # of text; the first row is the head


class Tables(NamedTuple):
  """What a comparison found, as text: the runs, each source, every pair by measure, and notes."""

  runs: Grid
  sources: list[tuple[str, Grid]]
  pairs: list[tuple[str, Grid]]
  notes: list[str]


def write(
  path: Path,
  tables: Tables,
  runs: Sequence[paired.ScoredRun],
  rows: Mapping[str, Sequence[Row]],
  metrics: Mapping[str, Sequence[Row]],
) -> None:
  """Writes the page. rows: of each run by its name, metrics: of metrics.jsonl, where there are.

  The tables have the runs in the order of `runs`, whose place gives each its colour.
  """
  tints = [look(i).color for i in range(len(runs))]
  clouds = {run.name: paired.points(run) for run in runs if run.places}
  title = "User and LLM utility, one point a prompt"
  text = template.filled("runs.html", {
    "name": path.stem,
    "facts": [f"{len(runs)} runs", f"{len(_shared(rows))} prompts that all have answered"],
    "grid": tables.runs, "tints": tints, "notes": tables.notes, "pairs": tables.pairs,
    "sources": tables.sources,
    "fronts": [(title, charts.scatter(clouds))] if clouds else [],
    "curves": charts.across({run.name: metrics.get(run.name, []) for run in runs}),
    "prompts": _side_by_side(rows, tints), "actions": charts.ACTION_WORDS.values(),
  })  # fmt: skip
  files.replace(path, text)


def metrics_of(workdir: Path) -> list[Row]:
  """The lines of a work directory's metrics; [] where there are none to be read."""
  try:
    rows = jsonl.read_sound(workdir / "metrics.jsonl", [])
  except BadInput:
    return []
  return [row for _, row in rows if {"phase", "step"} <= row.keys()]


def _firsts(rows: Sequence[Row]) -> dict[str, Row]:
  """The first completion of each prompt that has a text to show."""
  found: dict[str, Row] = {}
  for row in chains.readable(rows):
    found.setdefault(prompt_of(row.get("id")), row)
  return found


def _shared(rows: Mapping[str, Sequence[Row]]) -> list[str]:
  """Prompts of which every run has a completion."""
  first, *others = [_firsts(each) for each in rows.values()]
  return [prompt for prompt in first if all(prompt in each for each in others)]


def _side_by_side(rows: Mapping[str, Sequence[Row]], tints: Sequence[str]) -> list[dict[str, Any]]:
  """The prompts whose first samples differ most in welfare, with what each run wrote."""
  firsts = {name: _firsts(each) for name, each in rows.items()}

  def spread(prompt: str) -> float:
    values = [each[prompt].get("utility") for each in firsts.values()]
    return float(np.ptp([each for each in values if isinstance(each, (int, float))] or [0]))

  found = []
  # by id where the spread ties, so that the same files give the same page
  for prompt in sorted(_shared(rows), key=lambda each: (-spread(each), each))[:SHOWN]:
    written = [
      chains.head(name, each[prompt]) | {"tint": tint} | _written(each[prompt])
      for (name, each), tint in zip(firsts.items(), tints)
    ]
    found.append({"question": written[0]["question"], "runs": written})
  return found


def _written(row: Row) -> dict[str, Any]:
  turns = conversations.shown_turns(row, "strict")
  return {"turns": turns} if turns else chains.written(row, "strict")
