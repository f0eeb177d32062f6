"""The result of `paired.compare_runs` as text for people, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gtalign_jax.evaluate import tables
from gtalign_jax.evaluate.tables import Grid
from gtalign_jax.game.resampling import FEWEST, LEVEL, ranged

# title -> key of JSON; docs/measures.md explains each with an example
COLUMNS = {
  "W": "welfare", "outcome": "outcome", "U": "user", "L": "llm", "min": "min", "gap": "gap",
  "answer": "answer", "regret": "regret", "type": "type_accuracy", "icc": "payoff_icc",
  "calib": "calibration_error", "follow": "follow", "carry": "carry", "parse": "parse",
  "tokens": "completion_tokens", "/1k tok": "answer_per_1k_tokens",
  "resp": "response_token_frac", "n": "n",
}  # fmt: skip
NEEDS = {  # key -> what makes rows carry it
  "outcome": "rows of gtalign eval, in corrected mode",
  "regret": "a source whose true payoffs are known (concierge)",
  "type_accuracy": "labels of type, and chains that declare one",
  "payoff_icc": "matrices, of several samples a prompt",
  "calibration_error": "matrices, of several samples a prompt",
  "follow": "gtalign eval --intervene",
}
BRIEF = ("welfare", "outcome")  # of every pair of several runs on a terminal; --markdown has all
SIDES = {"hypervolume": "hypervolume", "coverage": "ε-coverage", "regret": "regret to the front"}


def table(comparison: Mapping[str, Any]) -> str:
  """The comparison for a terminal: a block for all rows, and one for each source."""
  blocks = [("all", comparison), *_sources(comparison).items()]
  found = "\n\n".join(_block(title, each, comparison["epsilon"]) for title, each in blocks)
  return f"{found}\n\n{note(comparison)}"


def _sources(comparison: Mapping[str, Any]) -> Mapping[str, Any]:
  """The sources of several; one would repeat the table of all."""
  return comparison["sources"] if len(comparison["sources"]) > 1 else {}


def note(comparison: Mapping[str, Any]) -> str:
  """How the tables are to be read, and which columns the rows do not carry."""
  said = (
    "W: mean over prompts of sqrt(U L), the samples of a prompt averaged first. Differences are a "
    "(or the row) less b (or the column): positive where a is higher. Brackets: "
    f"{LEVEL} % paired bootstrap intervals over prompts; p: paired permutation test over prompts; "
    "*: p < 0.05, corrected by Holm for the pairs of that measure. "
    f"With fewer than {FEWEST} shared prompts there is neither. ε = {comparison['epsilon']:g}."
  )
  runs = comparison["runs"].values()
  lacking = [k for k in NEEDS if not any(tables.there(run, k) for run in runs)]
  titles = {key: title for title, key in COLUMNS.items()}
  told = "; ".join(f"{titles[key]} (needs {NEEDS[key]})" for key in lacking)
  return said + (f"\nNot in these rows: {told}." if told else "")


def _block(title: str, comparison: Mapping[str, Any], epsilon: float) -> str:
  runs, pairs = comparison["runs"], comparison["pairs"]
  lines = [f"== {title}", *tables.aligned(_runs(comparison))]
  if len(runs) == 2:
    return "\n".join([*lines, *(line for pair in pairs for line in _pair_lines(pair, epsilon))])
  # a letter for each run: names would make the columns too wide
  short = {name: _letter(i) for i, name in enumerate(runs)}
  lines += ["", *(f"{letter}  {name}" for name, letter in short.items())]
  brief = {title: key for title, key in COLUMNS.items() if key in BRIEF}
  for head, grid in matrices(comparison, short, lambda each: tables.signed(each, False), brief):
    lines += ["", head, *tables.aligned(grid)]
  return "\n".join(lines)


def _letter(index: int) -> str:
  return chr(ord("a") + index) if index < 26 else f"r{index + 1}"


def matrices(
  comparison: Mapping[str, Any],
  short: Mapping[str, str],
  shown: Callable[[Mapping[str, float]], str],
  columns: Mapping[str, str] = COLUMNS,
) -> list[tuple[str, Grid]]:
  """(title, a table with a row and a column for each run) of each measure that some pair has.

  short: how each run is called in the heads. shown: of a difference, the row less the column.
  """
  found = []
  for title, key in columns.items():
    cells = {}
    for pair in comparison["pairs"]:
      if each := pair["difference"].get(key):
        cells[pair["a"], pair["b"]] = shown(each)
        cells[pair["b"], pair["a"]] = shown(_turned(each))
    if cells:
      found.append((f"{title}, row less column", _square(short, cells)))
  for key, title in SIDES.items():
    cells = {}
    for pair in comparison["pairs"]:
      for own, other in (("a", "b"), ("b", "a")):
        cells[pair[own], pair[other]] = f"{pair[key][own]:.3f}"
    if cells:
      found.append((f"{title}, of the row against the column", _square(short, cells)))
  return found


def _turned(each: Mapping[str, float]) -> dict[str, float]:
  return dict(each) | {"mean": -each["mean"], "low": -each["high"], "high": -each["low"]}


def _square(short: Mapping[str, str], cells: Mapping[tuple[str, str], str]) -> Grid:
  body = [[letter, *(cells.get((a, b), "") for b in short)] for a, letter in short.items()]
  return [["", *short.values()], *body]


def _pair_lines(pair: Mapping[str, Any], epsilon: float) -> list[str]:
  lines = [
    "",
    f"a = {pair['a']}, b = {pair['b']}: {pair['n_shared']} shared ids, "
    f"{pair['n_dropped']} dropped for null rewards",
  ]
  for title, key in COLUMNS.items():
    if each := pair["difference"].get(key):
      p = "" if each["p"] != each["p"] else f"  p {each['p']:.4f}"
      lines.append(f"  {title} a - b  {ranged(each, '+.4f')}{p}")
  for key, title in SIDES.items():
    title = f"{title} at {epsilon:g}" if key == "coverage" else title
    lines.append(f"  {title}  a {pair[key]['a']:.4f}  b {pair[key]['b']:.4f}")
  wins = "  ".join(f"{name} {count}" for name, count in pair["dominance"].items())
  return [*lines, f"  dominance  {wins}"]


def grids(
  comparison: Mapping[str, Any],
) -> tuple[Grid, list[tuple[str, Grid]], list[tuple[str, Grid]], list[str]]:
  """All tables: the runs, those of each source, every pair by measure; and what is to be said."""
  short = {name: name for name in comparison["runs"]}
  sources = [(name, _runs(part)) for name, part in _sources(comparison).items()]
  pairs = matrices(comparison, short, tables.signed)
  return _runs(comparison), sources, pairs, note(comparison).split("\n")


def markdown(comparison: Mapping[str, Any]) -> str:
  """The comparison as Markdown: the runs, every pair of them, and the runs by source."""
  runs, sources, pairs, notes = grids(comparison)
  lines = ["# Comparison of runs", "", *tables.markdown(runs)]
  lines += [line for each in notes for line in ("", each)]
  for head, grid in [*pairs, *((f"Of {name}", grid) for name, grid in sources)]:
    lines += ["", f"## {head}", "", *tables.markdown(grid)]
  return "\n".join(lines) + "\n"


def _runs(comparison: Mapping[str, Any]) -> Grid:
  return tables.grid("run", COLUMNS, comparison["runs"], tables.number)
