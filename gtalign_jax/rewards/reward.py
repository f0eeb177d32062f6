"""From scored completions to what training maximises: U, L and the reward of each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gtalign_jax.errors import RunFailure
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import normalize
from gtalign_jax.types import Experience


def reward(experience: Experience, config: RewardConfig, where: str) -> Experience:
  """Adds reward_PG, the welfare score of each row, and utility_PGC, C = (U, L); NaN where invalid.

  With `rewards.source_norm` each of the three is normalised over the batch by source
  (rewards/normalize.py), so that the step holds for every advantage: gdpo reads U and L alone.
  where: how an error names the step. Raises RunFailure where too few rows have a verdict.
  """
  rows, shape = experience.rows, experience.count_PG.shape
  check_verdicts(rows, config, where)
  sources = [row["data_source"] for row in rows]
  reward_PG, *utilities = (
    normalize.normalize(_column(rows, name), sources, config.source_norm).reshape(shape)
    for name in ("score", "user_reward", "llm_reward")
  )
  return experience._replace(reward_PG=reward_PG, utility_PGC=np.stack(utilities, axis=-1))


def _column(rows: Sequence[dict[str, Any]], name: str) -> np.ndarray:
  """One number per row in float64; NaN for null."""
  return np.asarray([np.nan if row[name] is None else row[name] for row in rows], np.float64)


def check_verdicts(rows: Sequence[dict[str, Any]], config: RewardConfig, where: str) -> None:
  """Raises RunFailure where too few rows have a verdict: the judge is gone, and means would lie.

  rows: scored, of those that were put to the judge.
  """
  share = float(np.mean([_lacks_verdict(row) for row in rows])) if rows else 0.0
  limit = config.judge.max_invalid_frac
  silent = sum(row.get("ended") == "invalid" for row in rows)  # a user that fails is as bad
  whom = f"the judge, or the user, who gave {silent} of them no answer," if silent else "the judge"
  if share > limit:
    raise RunFailure(
      f"{where}: {share:.0%} of the rows have no verdict, more than "
      f"rewards.judge.max_invalid_frac={limit:g}; mend {whom} and run the same command again"
    )


def _lacks_verdict(row: dict[str, Any]) -> bool:
  # paper mode scores a row without verdict as 0, as the released code does, and calls it valid
  return not row["valid"] or (
    "decision" not in row and row["parse_error"] is None and row["judge_score"] is None
  )
