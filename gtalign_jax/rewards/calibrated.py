"""Payoffs that come true as a part of the LLM's utility (FORMULAS 10: calibration as a reward).

What an action is worth shows in the other samples of the prompt, so this comes when all rows of a
batch are scored. Corrected mode only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gtalign_jax.game import reward
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards.games import array
from gtalign_jax.rewards.summary import calibrate, matrices

Row = dict[str, Any]


def calibrated(rows: list[Row], config: RewardConfig) -> list[Row]:
  """Scored rows of a whole batch, with `rewards.llm_calibration` as their weight w of calibration.

  L' = L + w (c - d), not below the floor, w times the patience of a conversation; W and the score
  follow. c is that of `measures.calibrate`
  for parsed rows: a row without target takes the mean of its prompt, else of the batch; where that
  has none either the weight stays with d. A valid row without matrix has c = 0, as it has d = 0.
  Targets are made of L before this, so that no row's c depends on another's. Rows get `calibration`
  (c) and `llm_uncalibrated` (L); with w = 0 the very same rows come back. Rows that continue edited
  payoffs (`intervened`), which are not theirs to answer for, keep d; their c is None.
  """
  if not config.llm_calibration:
    return rows
  own = [row["valid"] and "intervened" not in row for row in rows]
  at_N = [at for at, row in enumerate(rows) if own[at] and row["parsed"]]
  games = [rows[at] for at in at_N]
  user_N, llm_N, decision_N = (
    array([row[name] for row in games]) for name in ("user_reward", "llm_reward", "decision")
  )
  known_N = _filled(calibrate(games).score_N, matrices(games).prompt_N)
  c_N = np.where(np.isnan(known_N), decision_N, known_N)
  turns_N = array([row.get("n_turns", 1) for row in games])
  weight_N = config.llm_calibration * reward.patience(config, turns_N)[:, 0]  # as d's is
  gained_N = weight_N * (c_N - decision_N)
  new_N = np.maximum(llm_N + gained_N, config.floor)
  alpha_N = array([row.get("alpha", config.alpha) for row in games])  # the request's own goes first
  welfare_N, score_N = reward.worth(user_N, new_N, config, config.variant, alpha_N)
  out = [
    row | {"calibration": 0.0 if mine else None, "llm_uncalibrated": row["llm_reward"]}
    for row, mine in zip(rows, own, strict=True)
  ]
  names = ("calibration", "llm_reward", "utility", "score")
  for at, *values in zip(at_N, *(each.tolist() for each in (c_N, new_N, welfare_N, score_N))):
    out[at] |= dict(zip(names, values))
  return out


def _filled(score_N: np.ndarray, prompt_N: np.ndarray) -> np.ndarray:
  """Scores with the gaps filled by the mean of the prompt, else of all; NaN where all are gaps."""
  known_N = ~np.isnan(score_N)
  if not known_N.any():
    return score_N
  size = prompt_N.max() + 1
  sum_P = np.bincount(prompt_N, np.where(known_N, score_N, 0.0), size)
  count_P = np.bincount(prompt_N, known_N, size)
  mean_P = np.where(count_P > 0, sum_P / np.maximum(count_P, 1), score_N[known_N].mean())
  return np.where(known_N, score_N, mean_P[prompt_N])
