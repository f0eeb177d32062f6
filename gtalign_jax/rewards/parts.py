"""What scored rows add to the measures of the game, row by row (FORMULAS section 10).

`summary` sums them over a batch; `of_prompts` sums them over each prompt, so that comparisons can
draw prompts and pair runs (game/resampling.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game import icc, measures
from gtalign_jax.types import ACTIONS, CELLS, ROLES, USER_TYPES, action_of

Row = Mapping[str, Any]
Share = tuple[float, float]  # what is right (or is lost), and of how many
GAME = {"parsed", "payoff", "user_type", "action"}  # rows of other tools and versions lack them
# column -> what it may hold
NAMES = {"user_type": USER_TYPES, "type_label": USER_TYPES, "action": ACTIONS}
EDIT = {"named": CELLS, "edited": CELLS, "own": CELLS, "action": ACTIONS}


def types(parsed: Row) -> dict[str, Share]:
  """Of a row that parses: what chain and response make of a question whose label is known."""
  label, declared, action = (parsed.get(key) for key in ("type_label", "user_type", "action"))
  return {
    "type_accuracy": _one(label == declared, bool(label and declared)),
    "over_clarified": _one(action == "CQ", label == "DQ"),
    "under_clarified": _one(action == "DA", label == "VQ"),
  }


def edits(row: Row) -> dict[str, list[bool]]:
  """Of a row whose matrix was edited: whether the chain went with it, and held under placebos."""
  edit = row.get("intervention")
  if not edit:
    return {}
  return {
    "follow": [edit["named"] == edit["edited"]],
    "carry": [edit["action"] == action_of(edit["edited"])],
    # what names no action has none to hold
    "hold": [action_of(cell) == action_of(edit["own"]) for cell in edit["placebo"] if edit["own"]],
  }


def judged(row: Row) -> bool:
  """Whether a row has a matrix, and what it came to has a verdict."""
  # paper mode calls rows without verdict valid; what they realised is nobody's judgement
  return bool(row["parsed"] and row.get("payoff")) and row.get("judge_score") is not None


def _one(right: bool, counted: bool) -> Share:
  return float(right and counted), float(counted)


def of_prompts(prompts: Sequence[Sequence[Row]]) -> dict[str, np.ndarray]:
  """Parts [P, S] of each measure that the rows carry; prompts: the valid rows of each.

  Names and numbers are those of docs/metrics.md; `calibration_error` is the mean of both roles.
  """
  out: dict[str, np.ndarray] = {}

  def add(name: str, p: int, right: float, of: float) -> None:
    out.setdefault(name, np.zeros((len(prompts), 2)))[p] += right, of

  for p, rows in enumerate(prompts):
    for row in rows:
      if row.get("regret") is not None:
        add("regret", p, row["regret"], 1)
      for name, right in edits(row).items():
        add(name, p, sum(right), len(right))
      if _plays(row) and row["parsed"]:
        for name, share in types(row).items():
          add(name, p, *share)
        if row.get("sums"):
          add("sums_right", p, *row["sums"])
  out = {name: each for name, each in out.items() if each[:, 1].any()}
  return out | _matrices(prompts)


def _plays(row: Row) -> bool:
  return row.keys() >= GAME


def _matrices(prompts: Sequence[Sequence[Row]]) -> dict[str, np.ndarray]:
  """Parts of ICC and calibration; {} where no row has a matrix."""
  found = [
    (p, row) for p, rows in enumerate(prompts) for row in rows if _plays(row) and row["payoff"]
  ]
  found = [(p, row) for p, row in found if row["parsed"]]
  if not found:
    return {}
  P = len(prompts)
  out = {"payoff_icc": icc.parts(*_rows(found), P)}
  told = [each for each in found if judged(each[1])]
  came = measures.calibrate(
    _rows(told),
    np.array([_index(USER_TYPES, row["user_type"]) for _, row in told], int),
    np.array([_index(ACTIONS, row["action"]) for _, row in told], int),
    np.array([utility(row) for _, row in told], float).reshape(-1, len(ROLES)),
  )
  if came.targets_N.any():
    both = np.stack([came.off_NR.sum(1), len(ROLES) * came.targets_N], axis=1)
    out["calibration_error"] = np.zeros((P, 2))
    np.add.at(out["calibration_error"], _rows(told).prompt_N, both)
  return out


def _rows(found: Sequence[tuple[int, Row]]) -> measures.Rows:
  payoff_NUAR = np.array([row["payoff"] for _, row in found], float).reshape(-1, 2, 3, 2)
  return measures.Rows(payoff_NUAR, np.array([p for p, _ in found], int))


def utility(row: Row) -> tuple[float, float]:
  """(L, U) of a row, as its matrix is measured by."""
  # L before rewards.llm_calibration: what a row predicts is no part of what actions are worth
  return row.get("llm_uncalibrated", row["llm_reward"]), row["user_reward"]


def _index(names: Sequence[str], name: str | None) -> int:
  return -1 if name is None else names.index(name)


def check(row: Row, where: str) -> None:
  """Raises BadInput where a column that `of_prompts` reads holds what no version has written."""
  jsonl.number(dict(row), "regret", where)
  edit = row.get("intervention")
  if edit is not None:
    known = isinstance(edit, Mapping) and isinstance(edit.get("placebo"), list)
    if not known or not all(each in (None, *CELLS) for each in edit["placebo"]):
      raise BadInput(f"{where}: intervention={str(edit)[:40]!r} is none of gtalign eval")
    _check(edit, EDIT, f"{where}: intervention")
  if not _plays(row):
    return
  _check(row, NAMES, where)
  for name, size in (("payoff", len(CELLS) * len(ROLES)), ("sums", 2)):
    if not _numbers(row.get(name), size):
      raise BadInput(f"{where}: {name}={str(row[name])[:40]!r} must be null or {size} numbers")
  jsonl.number(dict(row), "judge_score", where)
  jsonl.number(dict(row), "llm_uncalibrated", where)


def _check(row: Row, names: Mapping[str, Sequence[str]], where: str) -> None:
  for key, known in names.items():
    if row.get(key) not in (None, *known):
      told = f"{key}={str(row[key])[:40]!r}"
      raise BadInput(f"{where}: {told} must be null or one of {', '.join(known)}")


def _numbers(value: Any, size: int) -> TypeGuard[list[float] | None]:
  if value is None:
    return True
  return (
    isinstance(value, list)
    and len(value) == size
    and all(type(each) in (int, float) and math.isfinite(each) for each in value)
  )
