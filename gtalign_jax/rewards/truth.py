"""Rows of a game whose solution is known: the column `true_payoffs` (FORMULAS section 11).

`true_payoffs` [A][R] holds the utility that each action has for (LLM, user).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.game import measures, reward
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards.games import array
from gtalign_jax.rewards.read import Reading
from gtalign_jax.types import ACTIONS, ROLES

KEY = "true_payoffs"
MOST = 1e9  # of a utility: above 1 there is only what prices add (pricing.LARGEST)
COLUMNS = ("regret", *(f"true_error_{role.lower()}" for role in ROLES))


def of(row: Mapping[str, Any], place: str) -> list[list[float]] | None:
  """The true payoffs of a row, None where they are unknown. Raises BadInput, naming `place`."""
  found = row.get(KEY)
  if found is None:
    return None
  pairs = found if isinstance(found, (list, tuple)) else ()
  if len(pairs) != len(ACTIONS) or not all(map(_is_pair, pairs)):
    raise BadInput(
      f"{place}: {KEY}={str(found)[:40]!r} must hold a pair [LLM, user] of utilities, at least 0, "
      f"for each of {', '.join(ACTIONS)}"
    )
  return [list(map(float, pair)) for pair in pairs]


def _is_pair(value: Any) -> bool:
  return (
    isinstance(value, (list, tuple))
    and len(value) == len(ROLES)
    and all(type(each) in (int, float) and 0 <= each <= MOST for each in value)
  )


def columns(
  true_B: Sequence[list[list[float]] | None], readings: Sequence[Reading], config: RewardConfig
) -> list[dict[str, float | None]]:
  """COLUMNS of each row; {} where the truth is unknown.

  regret: of the first action, W with the weight alpha of the row. true_error: of the matrix; None
  where there is none, or no declared type.
  """
  kept = [at for at, true in enumerate(true_B) if true is not None]
  out: list[dict[str, float | None]] = [{} for _ in true_B]
  if not kept:
    return out
  true_NAR = array([true_B[at] for at in kept])
  rows = [readings[at] for at in kept]
  alpha_N = array([config.alpha if r.condition.alpha is None else r.condition.alpha for r in rows])
  welfare_NA, _ = reward.worth(
    true_NAR[..., 1], true_NAR[..., 0], config, config.variant, alpha_N[:, None]
  )
  regret_N = measures.regret(welfare_NA, [each.action for each in rows])
  declared = [-1 if each.numbers is None else each.user_type for each in rows]
  payoff_NUAR = array([each.numbers or [0.0] * 12 for each in rows]).reshape(-1, 2, 3, 2)
  error_NR = measures.true_error(payoff_NUAR, declared, true_NAR)
  for at, *values in zip(kept, regret_N.tolist(), *error_NR.T.tolist()):
    out[at] = {k: None if math.isnan(v) else v for k, v in zip(COLUMNS, values)}
  return out
