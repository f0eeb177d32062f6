"""The result of `gtalign eval` for people: each source's means with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gtalign_jax.game import paired

RESAMPLES = 2000  # of the intervals, prompts drawn with replacement
SHOWN = {"welfare": "W", "user": "U", "llm": "L", "parse": "parsed"}


def table(rows: Sequence[dict[str, Any]], path: str) -> str:
  """A line per source and one for all, over prompts whose rows have a verdict.

  rows: of `gtalign eval`. path: of their file, for errors.
  """
  run = paired.scored_run(path, list(enumerate(rows, start=1)), path)
  sources = sorted({each for each in run.source if each is not None})
  parts = {source: paired.restricted(run, source) for source in sources}
  grid = [["source", *SHOWN.values(), "answer", "prompts"]]
  for name, part in {**parts, "all": run}.items():
    found = paired.intervals(part, RESAMPLES) if part.places else {}
    answer = part.columns["answer_reward"]
    means = [f"{answer.mean():.3f}" if len(answer) and not np.isnan(answer).any() else "-"]
    cells = [_cell(found.get(key)) for key in SHOWN]
    grid.append([name, *cells, *means, str(len(part.places))])
  widths = [max(map(len, column)) for column in zip(*grid)]
  lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in grid]
  lost = sum(not row["valid"] for row in rows)
  lines += [f"{lost} of {len(rows)} completions have no verdict and count nowhere"] * (lost > 0)
  return "\n".join(line.rstrip() for line in lines) + "\n"


def _cell(interval: Mapping[str, float] | None) -> str:
  if interval is None:
    return "-"
  return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
