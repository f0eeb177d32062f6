"""Scored rows as text for people, runs side by side.

Pairing, means and intervals are in `game.paired`, which the report of a run uses as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game.paired import LEVEL, ScoredRun, scored_run

RESAMPLES = 2000  # of the intervals, prompts drawn with replacement
# columns of the table of runs; the JSON has a few more
SHOWN = (
  "n", "welfare", "user", "llm", "min", "gap", "outcome", "answer", "answer_per_1k_tokens",
  "response_token_frac", "parse",
)  # fmt: skip


def read_run(path: str | Path, name: str | None = None) -> ScoredRun:
  """Reads rows with user_reward and llm_reward. Raises BadInput naming file and line."""
  return scored_run(Path(path).stem if name is None else name, jsonl.read(path), path)


def read_runs(paths: Sequence[str | Path]) -> list[ScoredRun]:
  """Reads the files; a repeated stem gets ~2, ~3 … appended. Raises BadInput on fewer than two."""
  if len(paths) < 2:
    raise BadInput(f"compare needs at least two files, got {len(paths)}")
  names: list[str] = []
  for path in paths:
    stem, count = Path(path).stem, 1
    # a/eval.jsonl and b/eval.jsonl are two runs, and names are keys of the JSON
    while (name := stem if count == 1 else f"{stem}~{count}") in names:
      count += 1
    names.append(name)
  return [read_run(path, name) for path, name in zip(paths, names)]


def table(comparison: dict) -> str:
  """The result of `compare_runs` as text for people."""
  blocks = [("all", comparison), *comparison["sources"].items()]
  return "\n\n".join(_block(title, each, comparison["epsilon"]) for title, each in blocks)


def _block(title: str, comparison: dict, epsilon: float) -> str:
  """One section of the text: a table of runs, then lines per pair."""
  rows = [["run", *SHOWN]]
  rows += [[name, *(_cell(run[c]) for c in SHOWN)] for name, run in comparison["runs"].items()]
  lines = [f"== {title}", *aligned(rows)]
  for pair in comparison["pairs"]:
    lines += ["", *_pair_lines(pair, epsilon)]
  return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Lines of a table whose columns are as wide as they must be."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _pair_lines(pair: dict, epsilon: float) -> list[str]:
  lines = [
    f"a = {pair['a']}, b = {pair['b']}: {pair['n_shared']} shared ids, "
    f"{pair['n_dropped']} dropped for null rewards",
  ]
  for name in ("welfare", "parse"):
    if name in pair["difference"]:
      mean, low, high = (_cell(pair["difference"][name][key]) for key in ("mean", "low", "high"))
      lines.append(f"  {name} a - b  {mean}, {LEVEL} % interval [{low}, {high}]")
  for name in ("hypervolume", "coverage", "regret"):
    title = f"coverage at {epsilon:g}" if name == "coverage" else name
    lines.append(f"  {title}  a {_cell(pair[name]['a'])}  b {_cell(pair[name]['b'])}")
  wins = "  ".join(f"{name} {count}" for name, count in pair["dominance"].items())
  return [*lines, f"  dominance  {wins}"]


def _cell(value: float | int | None) -> str:
  """A number as tables show it; - where there is none."""
  return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
