"""The game as it came out, beside the one that the chains imagine: 2x3 tables and equilibria."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gtalign_jax.game import equilibrium
from gtalign_jax.report import chains
from gtalign_jax.report.results import Row
from gtalign_jax.rewards.games import array
from gtalign_jax.types import ACTIONS, CELLS, ROLES, USER_TYPES


def games(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """The games of a policy's rows as the page shows them: all prompts, then each source of several.

  [] where no row has what it takes: a matrix, a declared type, an action, both rewards.
  """
  counted = [row for row in rows if _counts(row)]
  if not counted:
    return []
  found = [_game("All prompts", counted)]
  names = sorted({str(row.get("data_source", "")) for row in counted})
  if len(names) > 1:
    found += [
      _game(name, [row for row in counted if row.get("data_source", "") == name]) for name in names
    ]
  return found


def _counts(row: Row) -> bool:
  # without a verdict (which paper mode calls valid) nothing was realised
  judged = row.get("valid", True) and row.get("judge_score", 0) is not None
  game = row.get("user_type") in USER_TYPES and row.get("action") in ACTIONS
  numbers = [row.get("user_reward"), _llm(row)]
  known = all(isinstance(each, (int, float)) for each in numbers)
  return bool(judged and game and known and row.get("payoff"))  # null where no chain was read


def _llm(row: Row) -> Any:
  # before rewards.llm_calibration: what a chain predicts is no part of what actions are worth
  return row.get("llm_uncalibrated", row.get("llm_reward"))


def realised(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
  """(payoff_UAR, n_UA): mean of z = 10 R - 5 over the rows that declare u and do a, NaN of none."""
  sum_UAR, n_UA = np.zeros((len(USER_TYPES), len(ACTIONS), len(ROLES))), np.zeros((2, 3), int)
  for row in rows:
    cell = USER_TYPES.index(row["user_type"]), ACTIONS.index(row["action"])
    sum_UAR[cell] += _llm(row), row["user_reward"]
    n_UA[cell] += 1
  with np.errstate(invalid="ignore"):
    return 10 * sum_UAR / n_UA[:, :, None] - 5, n_UA


def _game(title: str, rows: Sequence[Row]) -> dict[str, Any]:
  payoff_UAR, n_UA = realised(rows)
  imagined_UAR = np.mean([row["payoff"] for row in rows], axis=0).reshape(payoff_UAR.shape)
  empty = [cell for cell, n in zip(CELLS, n_UA.flat) if not n]
  notes = [f"No completion: {', '.join(empty)}."] if empty else []
  tables = []
  for name, game_UAR in (("measured", payoff_UAR), ("imagined", imagined_UAR)):
    pure, words = equilibria(game_UAR)
    tags = [[("e", "equilibrium")] if cell in pure else [] for cell in CELLS]
    if name == "measured":
      tags = [[("", f"n {n}"), *each] for n, each in zip(n_UA.flat, tags)]
    tables.append((name, chains.table(game_UAR, tags, ".2f")))
    notes.append(f"Equilibria, {name}: {words}")
  return {"title": title, "n": len(rows), "tables": tables, "notes": notes}


def equilibria(payoff_UAR: np.ndarray) -> tuple[list[str], str]:
  """(pure equilibria by cell, all of them in words) of a game in which cells may be empty (NaN).

  Actions that lack a cell are out of play.
  """
  lacking_A = ~np.isfinite(payoff_UAR).all((0, 2))
  if lacking_A.all():
    return [], "none, since no action has been seen with both user types."
  # Strictly worse for the LLM than all others whatever the user is: no equilibrium plays it. The
  # user's 0 and 1 there keep a tie from being reported.
  low = np.nanmin(payoff_UAR[:, ~lacking_A]) - 1
  filled_UAR = np.where(lacking_A[:, None], np.array([[[low, 0.0]], [[low, 1.0]]]), payoff_UAR)
  found = equilibrium.equilibria(array(filled_UAR))
  user_EU, llm_EA = map(np.asarray, equilibrium.strategies(found))
  pure = [cell for cell, holds in zip(CELLS, found.mask_BE) if holds]
  mixed = [
    f"{_mixture(USER_TYPES, user_EU[slot])} with {_mixture(ACTIONS, llm_EA[slot])}"
    for slot in range(len(CELLS), equilibrium.NUM_SLOTS)
    if found.mask_BE[slot]
  ]
  words = "; ".join([*pure, *mixed])
  if lacking_A.any():
    played = ", ".join(a for a, lacks in zip(ACTIONS, lacking_A) if not lacks)
    words += f", among the actions seen with both user types ({played})"
  return pure, words + (". Some replies tie, so there may be more." if found.degenerate_B else ".")


def _mixture(names: Sequence[str], share: np.ndarray) -> str:
  parts = [f"{name} {100 * p:.0f} %" for name, p in zip(names, share) if p > 0]
  return " / ".join(parts)
