"""Scored rows as metrics (names: FORMULAS section 8, docs/metrics.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gtalign_jax.game import measures
from gtalign_jax.rewards.chain import ERRORS
from gtalign_jax.types import ACTIONS, ROLES, USER_TYPES

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
  the parsed rows that name a cell, dilemma_frac and equilibrium_gap of the parsed rows; those of
  `_measures` look at the rows of a prompt together (id `<prompt>#<sample>`). NaN where nothing is
  left to average.
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
  if any("calibration" in each for each in scored):
    out["rewards/calibration/mean"] = _mean(valid, "calibration")
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
  return out | _types(parsed) | _measures(parsed)


def _types(parsed: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """What chains and responses make of questions whose label says whether they are definite."""
  definite, vague = (
    [each for each in parsed if each.get("type_label") == name] for name in USER_TYPES
  )
  declaring = [each for each in definite + vague if each["user_type"]]
  right = sum(each["user_type"] == each["type_label"] for each in declaring)
  asked, answered = (
    sum(each["action"] == name for each in part)
    for name, part in zip(("CQ", "DA"), (definite, vague))
  )
  return {
    "game/type_accuracy": _share(right, len(declaring)),
    "game/over_clarified": _share(asked, len(definite)),
    "game/under_clarified": _share(answered, len(vague)),
  }


def _measures(parsed: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Collapse and calibration of the matrices (game/measures.py)."""
  # get: rows that an older version has written lack the column
  games = [each for each in parsed if each.get("payoff")]
  rows = matrices(games)
  # paper mode calls rows without verdict valid; what they realised is nobody's judgement
  judged = [each for each in games if each["judge_score"] is not None]
  found = calibrate(judged)
  out = {
    "game/distinct_frac": measures.distinct(rows),
    "game/top_matrix_frac": measures.top_matrix(rows),
    "game/payoff_icc": measures.icc(rows),
  }
  for role, error, order in zip(ROLES, found.error_R.tolist(), found.order_R.tolist()):
    out[f"game/calibration_error/{role.lower()}"] = error
    out[f"game/calibration_order/{role.lower()}"] = order
  return out


def matrices(scored: Sequence[Mapping[str, Any]]) -> measures.Rows:
  """The matrices of scored rows, which all have one, by prompt."""
  number: dict[str, int] = {}
  # setdefault: prompts are numbered as they come
  prompts = [number.setdefault(prompt_of(each["id"]), len(number)) for each in scored]
  payoff_NUAR = np.array([each["payoff"] for each in scored], np.float64).reshape(-1, 2, 3, 2)
  return measures.Rows(payoff_NUAR, np.array(prompts, np.int64))


def prompt_of(row_id: Any) -> str:
  """The prompt of a row with the id `<prompt>#<sample>`; another id stands for itself."""
  prompt, _, sample = str(row_id).rpartition("#")
  return prompt if prompt and sample.isdecimal() else str(row_id)


def calibrate(judged: Sequence[Mapping[str, Any]]) -> measures.Calibration:
  """Calibration of scored rows that have a matrix and a verdict."""
  # L before rewards.llm_calibration: what a row predicts is no part of what actions are worth
  utility_NR = np.array(
    [[each.get("llm_uncalibrated", each["llm_reward"]), each["user_reward"]] for each in judged],
    np.float64,
  )
  return measures.calibrate(
    matrices(judged),
    np.array([_index(USER_TYPES, each["user_type"]) for each in judged], np.int64),
    np.array([_index(ACTIONS, each["action"]) for each in judged], np.int64),
    utility_NR.reshape(-1, len(ROLES)),
  )


def _index(names: Sequence[str], name: str | None) -> int:
  return -1 if name is None else names.index(name)


def _share(count: int, of: int) -> float:
  return count / of if of else math.nan  # not 0: nothing was there to count


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
  values = [row[key] for row in rows if row[key] is not None]
  # fsum: the mean must not depend on the order in which processes hand in their rows
  return math.fsum(values) / len(values) if values else math.nan
