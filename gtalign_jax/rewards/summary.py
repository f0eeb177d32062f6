"""Scored rows as metrics (names: FORMULAS section 8, docs/metrics.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gtalign_jax.rewards.chain import ERRORS
from gtalign_jax.types import ACTIONS

PARTS = {
  "user": "user_reward",
  "llm": "llm_reward",
  "welfare": "utility",
  "format": "format",
  "decision": "payoff_reward",
  "answer": "answer_reward",
}


def summarise(
  rows: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
  """Means over a batch, and the same for each data_source as `…/<source>`.

  rows: with data_source. scored: of `score.score_rows`. Everything is over valid rows but
  judge/invalid_frac, the share of all rows that are not; action_frac and pareto_frac are shares of
  the parsed rows that name a cell, dilemma_frac and equilibrium_gap of the parsed rows. NaN where
  nothing is left to average.
  """
  out = _means(scored)
  sources = [row["data_source"] for row in rows]
  for name in sorted(set(sources)):
    part = [each for source, each in zip(sources, scored, strict=True) if source == name]
    out |= {f"{key}/{name}": value for key, value in _means(part).items()}
  return out


def _means(scored: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  # three denominators: a row without verdict counts nowhere, one without a matrix has no game, and
  # one that names no cell no action
  valid = [each for each in scored if each["valid"]]
  parsed = [each for each in valid if each["parsed"]]
  naming = [each for each in parsed if each["named_cell"]]
  out = {f"rewards/{part}/mean": _mean(valid, key) for part, key in PARTS.items()}
  out["judge/invalid_frac"] = _share(len(scored) - len(valid), len(scored))
  out["chain/parse_rate"] = _share(len(parsed), len(valid))
  for reason in ERRORS:
    failed = sum(each["parse_error"] == reason for each in valid)
    out[f"chain/fail/{reason}"] = _share(failed, len(valid))
  if any("choice" in each for each in scored):  # corrected mode
    out["game/choice_consistent"] = _share(sum(each["choice"] == 1 for each in valid), len(valid))
    out["game/carried_out"] = _mean(valid, "carried_out")
  for action in ACTIONS:
    # of either user type: the share of actions is what training moves
    named = sum(each["named_cell"].endswith(action) for each in naming)
    out[f"game/action_frac/{action}"] = _share(named, len(naming))
  out["game/pareto_frac"] = _share(sum(bool(each["pareto"]) for each in naming), len(naming))
  out["game/dilemma_frac"] = _share(sum(bool(each["dilemma"]) for each in parsed), len(parsed))
  out["game/equilibrium_gap"] = _mean(parsed, "equilibrium_gap")
  return out


def _share(count: int, of: int) -> float:
  return count / of if of else math.nan  # not 0: nothing was there to count


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
  values = [row[key] for row in rows if row[key] is not None]
  # fsum: the mean must not depend on the order in which processes hand in their rows
  return math.fsum(values) / len(values) if values else math.nan
