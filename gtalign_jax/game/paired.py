"""Scored runs against each other: rows paired by prompt, means, differences with intervals.

The numbers of a pair of point clouds are those of `game.metrics`, intervals and tests those of
`game.resampling`; here are pairing, data sources and efficiency. NumPy only, so that `gtalign
compare` starts fast. Users: `evaluate/` for files of rows, `report/` for the policies of one run.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game import metrics, resampling

# numbers of a row: the first two are required, those from the fourth on cannot be negative
COLUMNS = (
  "user_reward", "llm_reward", "answer_reward", "completion_tokens", "response_tokens", "parsed",
  "outcome_welfare",
)  # fmt: skip
MEASURED = {
  "outcome": "outcome_welfare", "answer": "answer_reward", "parse": "parsed",
  "completion_tokens": "completion_tokens",
}  # fmt: skip


class ScoredRun(NamedTuple):
  """One set of scored rows, averaged per id, in order of first appearance.

  places: id -> its place in each array of `columns` (COLUMNS, NaN where absent). source:
  data_source per id, or None. seen: all ids, including those whose every row is null. counts: rows,
  null_rows, averaged_ids (ids made of several rows). parts: of measures that are no means over ids
  (rewards/parts.py), as `resampling` has them.
  """

  name: str
  places: dict[str, int]
  columns: dict[str, np.ndarray]
  source: list[str | None]
  seen: frozenset[str]
  counts: dict[str, int]
  parts: Mapping[str, np.ndarray] = {}


def scored_run(
  name: str, rows: Sequence[tuple[int, dict[str, Any]]], path: str | Path
) -> ScoredRun:
  """The run that `rows` (line number, row with user_reward and llm_reward) of the file `path` hold.

  Raises BadInput, naming file and line, where a row lacks a number or its id.
  """
  groups: dict[str, list[list[float]]] = {}
  sources: dict[str, str | None] = {}
  nulls, seen = 0, set()
  for line, row in rows:
    where = f"{path}:{line}"
    key, values = key_of(row, where), _values(row, where)
    seen.add(key)
    if math.isnan(values[0]) or math.isnan(values[1]):  # no verdict is not a verdict of 0
      nulls += 1
      continue
    groups.setdefault(key, []).append(values)
    sources.setdefault(key, _source(row, where))
  # reshape: a file without scored rows still has its columns
  table = np.array([_mean_rows(group) for group in groups.values()]).reshape(-1, len(COLUMNS))
  averaged = sum(len(group) > 1 for group in groups.values())
  return ScoredRun(
    name=name,
    places={key: place for place, key in enumerate(groups)},
    columns=dict(zip(COLUMNS, table.T)),
    source=[sources[key] for key in groups],
    seen=frozenset(seen),
    counts={"rows": len(rows), "null_rows": nulls, "averaged_ids": averaged},
  )


def compare_runs(runs: Sequence[ScoredRun], epsilon: float = 0.05, resamples: int = 2000) -> dict:
  """The whole comparison: `runs`, `pairs`, and the same per data_source under `sources`.

  Raises BadInput where two runs share no id that both scored.
  """
  if not (math.isfinite(epsilon) and epsilon >= 0):
    raise BadInput(f"epsilon={epsilon}: must be a finite number, at least 0")
  if resamples < 1:
    raise BadInput(f"bootstrap={resamples}: must be at least 1")
  for a, b in itertools.combinations(runs, 2):  # before any resampling
    if not shared_ids(a, b):
      why = "only rows with a null reward" if a.seen & b.seen else "no id"
      raise BadInput(f"{a.name} and {b.name} share {why}; rows are matched by id, else by input")
  sources = sorted({each for run in runs for each in run.source if each is not None})
  return _comparison(runs, epsilon, resamples) | {
    "epsilon": epsilon,
    "sources": {
      source: _comparison([restricted(run, source) for run in runs], epsilon, resamples)
      for source in sources
    },
  }


def welfare(rows: Sequence[dict[str, Any]]) -> float:
  """W of scored rows: what logs, tables and comparisons call W. NaN where no row has a verdict.

  The mean over prompts of sqrt(U L), U and L averaged over the prompt's completions first. The mean
  of the completions' own welfare, `rewards/welfare/mean`, is another number: at alpha 1/2 never
  larger, because a root is concave.
  """
  run = scored_run("rows", list(enumerate(rows, start=1)), "row")
  return float(metrics.per_point(*points(run).T)["welfare"].mean()) if run.places else math.nan


def points(run: ScoredRun, ids: Sequence[str] | None = None) -> np.ndarray:
  """(U, L) [N, 2] of `ids`, of all ids by default."""
  ids = list(run.places) if ids is None else ids
  return np.stack([_column(run, name, ids) for name in ("user_reward", "llm_reward")], axis=1)


def _column(run: ScoredRun, name: str, ids: Sequence[str]) -> np.ndarray:
  return run.columns[name][[run.places[each] for each in ids]]


def shared_ids(a: ScoredRun, b: ScoredRun) -> list[str]:
  """Ids that both runs scored, in a's order."""
  return [each for each in a.places if each in b.places]


def _comparison(runs: Sequence[ScoredRun], epsilon: float, resamples: int) -> dict:
  found = [(a, b, shared_ids(a, b)) for a, b in itertools.combinations(runs, 2)]
  # two runs that share prompts need not share any of one source
  pairs = [_pair(a, b, ids, epsilon, resamples) for a, b, ids in found if ids]
  for name in {name for pair in pairs for name in pair["difference"]}:
    asked = [pair["difference"][name] for pair in pairs if name in pair["difference"]]
    for each, p in zip(asked, resampling.holm([each["p"] for each in asked])):
      each["p_holm"] = p  # of the pairs of this measure
  return {"runs": {run.name: means(run) for run in runs}, "pairs": pairs}


def means(run: ScoredRun) -> dict[str, float | int | None]:
  """Means over ids; efficiency as ratios of sums over the ids that have both numbers."""
  # ratios of sums: a mean of ratios would let the shortest completions decide
  per_point = metrics.per_point(run.columns["user_reward"], run.columns["llm_reward"])
  per_run = {name: _mean(values) for name, values in per_point.items()}
  answer, tokens = run.columns["answer_reward"], run.columns["completion_tokens"]
  return {
    "n": len(run.places),
    **per_run,
    "outcome": _mean(run.columns["outcome_welfare"]),
    "answer": _mean(answer),
    "answer_per_1k_tokens": _ratio(1000 * answer, tokens),
    "response_token_frac": _ratio(run.columns["response_tokens"], tokens),
    "completion_tokens": _mean(tokens),
    "parse": _mean(run.columns["parsed"]),
    **{k: None if math.isnan(v) else v for k, v in resampling.values(run.parts).items()},
    **run.counts,
  }


def _pair(
  a: ScoredRun, b: ScoredRun, ids: list[str], epsilon: float, resamples: int
) -> dict[str, Any]:
  return {
    "a": a.name,
    "b": b.name,
    "n_shared": len(ids),
    "n_dropped": len(a.seen & b.seen) - len(ids),  # in both files, but null in one of them
    **metrics.compare(points(a, ids), points(b, ids), epsilon),
    "difference": resampling.differences(measures(a, ids), measures(b, ids), resamples),
  }


def measures(run: ScoredRun, ids: Sequence[str]) -> dict[str, np.ndarray]:
  """Parts of all measures over `ids`; those of COLUMNS only where every id has them.

  One row that does not say whether it parsed makes the whole difference meaningless.
  """
  whole = metrics.per_point(*points(run, ids).T)
  columns = {name: _column(run, column, ids) for name, column in MEASURED.items()}
  whole |= {name: each for name, each in columns.items() if not np.isnan(each).any()}
  places = [run.places[each] for each in ids]
  out = {name: resampling.of_values(each) for name, each in whole.items()}
  return out | {name: each[places] for name, each in run.parts.items()}


def intervals(run: ScoredRun, resamples: int) -> dict[str, dict[str, float]]:
  """Mean and percentile interval over the prompts of one run, of each measure that it has."""
  return resampling.intervals(measures(run, list(run.places)), resamples)


def restricted(run: ScoredRun, source: str) -> ScoredRun:
  """The ids of one source. Null ids have no source: only the whole comparison counts them."""
  keep = [place for place, each in enumerate(run.source) if each == source]
  ids = list(run.places)
  places = {ids[place]: new for new, place in enumerate(keep)}
  columns = {name: values[keep] for name, values in run.columns.items()}
  parts = {name: each[keep] for name, each in run.parts.items()}
  return ScoredRun(run.name, places, columns, [source] * len(keep), frozenset(places), {}, parts)


def key_of(row: Mapping[str, Any], where: str) -> str:
  """The id as strict JSON text, so that 1 and "1" differ; samples of one prompt share its id."""
  key = row.get("id")
  if key is None:
    key = row.get("input")
  if key is None:
    raise BadInput(f"{where}: needs a key id (or input) to match rows by")
  sample = row.get("sample")  # `gtalign eval` writes ids as <prompt>#<sample>
  if isinstance(key, str) and sample is not None:
    key = key.removesuffix(f"#{sample}")
  return json.dumps(key, sort_keys=True)


def _values(row: dict[str, Any], where: str) -> list[float]:
  for name in COLUMNS[:2]:
    if name not in row:
      raise BadInput(f"{where}: no key {name}; score the rows first (gtalign score)")
  parsed = row.get("parsed")
  # `jsonl.number` refuses booleans, which are a mistake in every other column
  row = row | {"parsed": float(parsed) if isinstance(parsed, bool) else parsed}
  values = [jsonl.number(row, name, where) for name in COLUMNS]
  for name, value in zip(COLUMNS[3:], values[3:]):
    if value < 0:
      raise BadInput(f"{where}: {name}={value:g} must be at least 0")
  return values


def _source(row: dict[str, Any], where: str) -> str | None:
  source = row.get("data_source")  # optional: without it a row counts in the whole only
  if source is not None and not isinstance(source, str):
    raise BadInput(f"{where}: data_source={source!r} must be a string")
  return source


def _mean_rows(group: list[list[float]]) -> list[float]:
  if len(group) == 1:  # the usual file: one row per id, and no array for each of its numbers
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
