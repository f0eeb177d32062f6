"""Comparison of runs on (user, LLM) points: reads scored rows, pairs them by id, reports numbers.

The numbers are those of `game.metrics`; here are files, pairing, sources, bootstrap intervals and
efficiency. NumPy only, so that the command starts fast.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game import metrics

COLUMNS = (
  "user_reward", "llm_reward", "answer_reward", "completion_tokens", "response_tokens", "parsed",
)  # fmt: skip
LEVEL = 95  # percent, of the bootstrap intervals


class Run(NamedTuple):
  """One file of scored rows, averaged per id, in order of first appearance.

  index: id -> row [N] of `columns` (COLUMNS, NaN where absent). source: data_source per id, or None.
  seen: all ids of the file, those whose every row is null included. counts: rows, null_rows,
  averaged_ids (ids made of several rows).
  """

  name: str
  index: dict[str, int]  # type: ignore[assignment]  # hides tuple.index, which nobody asks a run for
  columns: dict[str, np.ndarray]
  source: list[str | None]
  seen: frozenset[str]
  counts: dict[str, int]


def read_run(path: str | Path, name: str | None = None) -> Run:
  """Reads rows with user_reward and llm_reward. Raises BadInput naming file and line."""
  groups: dict[str, list[list[float]]] = {}
  sources: dict[str, str | None] = {}
  nulls, seen = 0, set()
  rows = jsonl.read(path)
  for line, row in rows:
    where = f"{path}:{line}"
    key, values = _key(row, where), _values(row, where)
    seen.add(key)
    if math.isnan(values[0]) or math.isnan(values[1]):
      nulls += 1
      continue
    groups.setdefault(key, []).append(values)
    sources.setdefault(key, _source(row, where))
  table = np.array([_mean_rows(group) for group in groups.values()]).reshape(-1, len(COLUMNS))
  averaged = sum(len(group) > 1 for group in groups.values())
  return Run(
    name=Path(path).stem if name is None else name,
    index={key: row for row, key in enumerate(groups)},
    columns=dict(zip(COLUMNS, table.T)),
    source=[sources[key] for key in groups],
    seen=frozenset(seen),
    counts={"rows": len(rows), "null_rows": nulls, "averaged_ids": averaged},
  )


def read_runs(paths: Sequence[str | Path]) -> list[Run]:
  """Reads the files; a stem that repeats gets ~2, ~3 … appended. Raises BadInput on fewer than two."""
  if len(paths) < 2:
    raise BadInput(f"compare needs at least two files, got {len(paths)}")
  names: list[str] = []
  for path in paths:
    stem, count = Path(path).stem, 1
    while (name := stem if count == 1 else f"{stem}~{count}") in names:
      count += 1
    names.append(name)
  return [read_run(path, name) for path, name in zip(paths, names)]


def compare_runs(runs: Sequence[Run], epsilon: float = 0.05, resamples: int = 2000) -> dict:
  """The whole report: `runs`, `pairs`, and the same per data_source under `sources`.

  Raises BadInput where two runs share no id that both scored.
  """
  if not (math.isfinite(epsilon) and epsilon >= 0):
    raise BadInput(f"epsilon={epsilon}: must be a finite number, at least 0")
  if resamples < 1:
    raise BadInput(f"bootstrap={resamples}: must be at least 1")
  pairs = list(itertools.combinations(runs, 2))
  for a, b in pairs:
    if not any(key in b.index for key in a.index):
      why = "only rows with a null reward" if a.seen & b.seen else "no id"
      raise BadInput(f"{a.name} and {b.name} share {why}; rows are matched by id, else by input")
  return _report(runs, epsilon, resamples) | {
    "epsilon": epsilon,
    "sources": {
      source: _report([_restrict(run, source) for run in runs], epsilon, resamples)
      for source in sorted({each for run in runs for each in run.source if each is not None})
    },
  }


def points(run: Run, keys: Sequence[str] | None = None) -> np.ndarray:
  """(U, L) [N, 2] of the ids `keys`, default all."""
  keys = list(run.index) if keys is None else keys
  return np.stack([_column(run, name, keys) for name in ("user_reward", "llm_reward")], axis=1)


def _column(run: Run, name: str, keys: Sequence[str]) -> np.ndarray:
  return run.columns[name][[run.index[key] for key in keys]]


def shared_ids(a: Run, b: Run) -> list[str]:
  """Ids that both runs scored, in a's order."""
  return [key for key in a.index if key in b.index]


def table(report: dict) -> str:
  """The report as text for people."""
  blocks = [("all", report), *report["sources"].items()]
  return "\n\n".join(_block(title, each, report["epsilon"]) for title, each in blocks)


def _report(runs: Sequence[Run], epsilon: float, resamples: int) -> dict:
  pairs = [(a, b, shared_ids(a, b)) for a, b in itertools.combinations(runs, 2)]
  return {
    "runs": {run.name: _run_means(run) for run in runs},
    "pairs": [_pair(a, b, keys, epsilon, resamples) for a, b, keys in pairs if keys],
  }


def _run_means(run: Run) -> dict[str, Any]:
  """Means over ids; efficiency as ratios of sums over the ids that have both numbers."""
  per_point = metrics.per_point(run.columns["user_reward"], run.columns["llm_reward"])
  means = {name: _mean(values) for name, values in per_point.items()}
  answer, tokens = run.columns["answer_reward"], run.columns["completion_tokens"]
  return {
    "n": len(run.index),
    **means,
    "answer": _mean(answer),
    "answer_per_1k_tokens": _ratio(1000 * answer, tokens),
    "response_token_frac": _ratio(run.columns["response_tokens"], tokens),
    "completion_tokens": _mean(tokens),
    "parse": _mean(run.columns["parsed"]),
    **run.counts,
  }


def _pair(a: Run, b: Run, keys: list[str], epsilon: float, resamples: int) -> dict[str, Any]:
  points_a, points_b = points(a, keys), points(b, keys)
  per_a, per_b = (metrics.per_point(*each.T) for each in (points_a, points_b))
  difference = {name: per_a[name] - per_b[name] for name in per_a}
  parsed_a, parsed_b = (_column(run, "parsed", keys) for run in (a, b))
  if not np.isnan(parsed_a + parsed_b).any():
    difference["parse"] = parsed_a - parsed_b
  return {
    "a": a.name,
    "b": b.name,
    "n_shared": len(keys),
    "n_dropped": len(a.seen & b.seen) - len(keys),
    **metrics.compare(points_a, points_b, epsilon),
    "difference": _bootstrap(difference, resamples),
  }


def _bootstrap(difference: dict[str, np.ndarray], resamples: int) -> dict[str, dict[str, float]]:
  """Paired percentile intervals of mean differences a - b: whole ids are drawn with replacement."""
  values_ND = np.stack(list(difference.values()), axis=1)
  count = len(values_ND)
  rng = np.random.default_rng(0)
  drawn = np.empty((resamples, values_ND.shape[1]))
  for each in range(resamples):  # counts instead of drawn rows: memory stays linear in N
    times_N = np.bincount(rng.integers(count, size=count), minlength=count)
    drawn[each] = times_N @ values_ND / count
  low, high = np.percentile(drawn, [50 - LEVEL / 2, 50 + LEVEL / 2], axis=0)
  means = values_ND.mean(axis=0)
  return {
    name: {"mean": float(means[i]), "low": float(low[i]), "high": float(high[i])}
    for i, name in enumerate(difference)
  }


def _restrict(run: Run, source: str) -> Run:
  """The ids of one source. Null ids have no source: they are counted in the whole report only."""
  keep = [row for row, each in enumerate(run.source) if each == source]
  keys = list(run.index)
  index = {keys[row]: new for new, row in enumerate(keep)}
  columns = {name: values[keep] for name, values in run.columns.items()}
  return Run(run.name, index, columns, [source] * len(keep), frozenset(index), {})


def _key(row: dict[str, Any], where: str) -> str:
  """The id as strict JSON text, so that 1 and "1" differ; samples of one prompt share its id."""
  key = row.get("id")
  if key is None:
    key = row.get("input")
  if key is None:
    raise BadInput(f"{where}: needs a key id (or input) to match rows by")
  sample = row.get("sample")
  if isinstance(key, str) and sample is not None:
    key = key.removesuffix(f"#{sample}")
  return json.dumps(key, sort_keys=True)


def _values(row: dict[str, Any], where: str) -> list[float]:
  for name in COLUMNS[:2]:
    if name not in row:
      raise BadInput(f"{where}: no key {name}; score the rows first (gtalign score)")
  parsed = row.get("parsed")
  row = row | {"parsed": float(parsed) if isinstance(parsed, bool) else parsed}
  values = [jsonl.number(row, name, where) for name in COLUMNS]
  for name, value in zip(COLUMNS[3:], values[3:]):
    if value < 0:
      raise BadInput(f"{where}: {name}={value:g} must be at least 0")
  return values


def _source(row: dict[str, Any], where: str) -> str | None:
  source = row.get("data_source")
  if source is not None and not isinstance(source, str):
    raise BadInput(f"{where}: data_source={source!r} must be a string")
  return source


def _mean_rows(group: list[list[float]]) -> list[float]:
  if len(group) == 1:
    return group[0]
  return [math.nan if (m := _mean(np.array(column))) is None else m for column in zip(*group)]


def _mean(values: np.ndarray) -> float | None:
  """Mean of the numbers that are there; None if none is."""
  there = values[~np.isnan(values)]
  return float(there.mean()) if len(there) else None


def _ratio(above: np.ndarray, below: np.ndarray) -> float | None:
  both = ~np.isnan(above) & ~np.isnan(below)
  total = float(below[both].sum())
  return float(above[both].sum()) / total if total > 0 else None


def _block(title: str, report: dict, epsilon: float) -> str:
  """One section of the text: a table of runs, then lines per pair."""
  columns = ["n", "welfare", "user", "llm", "min", "gap", "answer", "answer_per_1k_tokens"]
  columns += ["response_token_frac", "parse"]
  rows = [["run", *columns]]
  rows += [[name, *(_cell(run[c]) for c in columns)] for name, run in report["runs"].items()]
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = [f"== {title}"]
  lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
  for pair in report["pairs"]:
    lines += ["", *_pair_lines(pair, epsilon)]
  return "\n".join(line.rstrip() for line in lines)


def _pair_lines(pair: dict, epsilon: float) -> list[str]:
  wins = pair["dominance"]
  lines = [
    f"a = {pair['a']}, b = {pair['b']}: {pair['n_shared']} shared ids, "
    f"{pair['n_dropped']} dropped for null rewards",
  ]
  for name in ("welfare", "parse"):
    if name in pair["difference"]:
      mean, low, high = (_cell(pair["difference"][name][key]) for key in ("mean", "low", "high"))
      lines.append(f"  {name} a - b  {mean}, {LEVEL} % interval [{low}, {high}]")
  for name, label in (
    ("hypervolume", "hypervolume"),
    ("coverage", f"coverage at {epsilon:g}"),
    ("regret", "regret"),
  ):
    lines.append(f"  {label}  a {_cell(pair[name]['a'])}  b {_cell(pair[name]['b'])}")
  lines.append("  dominance  " + "  ".join(f"{name} {count}" for name, count in wins.items()))
  return lines


def _cell(value: float | int | None) -> str:
  return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
