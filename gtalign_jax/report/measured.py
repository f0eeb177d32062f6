"""The game as it came out, beside the one that the chains imagine: 2x3 tables and equilibria."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gtalign_jax.game import equilibrium
from gtalign_jax.report import chains
from gtalign_jax.report.results import Row
from gtalign_jax.rewards import summary
from gtalign_jax.rewards.games import array
from gtalign_jax.types import ACTIONS, CELLS, USER_TYPES, has_payoff

NEEDED = {"payoff", "user_type", "action"}  # columns that rows of other tools and versions lack


def games(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """The games of a policy's rows as the page shows them: all prompts, then each source of several.

  [] where nobody played one: parsed, with a verdict, a type and an action.
  """
  judged = [row for row in rows if row.keys() >= NEEDED and _is_read(row) and _has_verdict(row)]
  sources = sorted({str(row.get("data_source", "")) for row in judged})
  found = [_game("All prompts", judged)]
  if len(sources) > 1:
    of = {name: [row for row in judged if row.get("data_source") == name] for name in sources}
    found += [_game(name, part) for name, part in of.items()]
  return [game for game in found if game["n"]]


def _is_read(row: Row) -> bool:
  return bool(row["payoff"] if has_payoff(chains.form_of(row)) else row.get("parsed"))


def _has_verdict(row: Row) -> bool:
  # paper mode calls rows without one valid
  return bool(row.get("valid", True)) and row.get("judge_score") is not None


def _game(title: str, rows: Sequence[Row]) -> dict[str, Any]:
  """rows: read, with a verdict. n: those of them that played one of the six cells."""
  played = summary.realised(rows)
  empty = [cell for cell, n in zip(CELLS, played.n_UA.flat) if not n]
  notes = [f"No completion: {', '.join(empty)}."] if empty else []
  found, tables = {"measured": played.mean_UAR}, []
  if rows and all(row["payoff"] for row in rows):
    found["imagined"] = summary.matrices(rows).payoff_NUAR.mean(axis=0)
  if rows and all("true_payoffs" in row for row in rows):
    notes.append(
      "True: the known payoffs of these requests, for an assistant that writes perfectly."
    )
    found["true"] = _true(rows)
  for name, game_UAR in found.items():
    pure, words = equilibria(game_UAR)
    tags = [[("e", "equilibrium")] if cell in pure else [] for cell in CELLS]
    if name == "measured":
      tags = [[("", f"n {n}"), *each] for n, each in zip(played.n_UA.flat, tags)]
    tables.append((name, chains.table(game_UAR, tags, ".2f")))
    notes.append(f"Equilibria, {name}: {words}")
  return {"title": title, "n": int(played.n_UA.sum()), "tables": tables, "notes": notes}


def _true(rows: Sequence[Row]) -> np.ndarray:
  """payoff_UAR of rows whose solution is known: means over the requests of each type, else NaN."""
  out_UAR = np.full((len(USER_TYPES), len(ACTIONS), 2), np.nan)
  for u, name in enumerate(USER_TYPES):
    if known := [row["true_payoffs"] for row in rows if row.get("type_label") == name]:
      out_UAR[u] = 10 * np.mean(known, axis=0) - 5
  return out_UAR


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
