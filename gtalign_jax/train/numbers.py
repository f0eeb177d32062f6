"""The metrics of one GRPO step that come from the host: rewards, game, lengths, throughput."""

from __future__ import annotations

from typing import Any

import numpy as np

from gtalign_jax.config import Config
from gtalign_jax.evaluate import suites


def rewards(config: Config, sampled: suites.Sampled, reward_PGC: np.ndarray) -> dict[str, float]:
  """TRL's reward statistics over the valid rows, and those of the chain and the game.

  reward_PGC: what the advantages were computed from, NaN where invalid; components are summed by the
  gdpo weights where there are two.
  """
  weights_C = np.asarray(config.grpo.gdpo_weights) if reward_PGC.shape[-1] > 1 else np.ones(1)
  reward_PG = reward_PGC @ weights_C
  valid_PG = np.isfinite(reward_PG)
  spreads = [np.std(row[ok], ddof=1) for row, ok in zip(reward_PG, valid_PG) if ok.sum() > 1]
  flat = [len(set(row[ok])) <= 1 for row, ok in zip(reward_PG, valid_PG) if ok.sum() > 1]
  out = {
    "reward": float(reward_PG[valid_PG].mean()) if valid_PG.any() else float("nan"),
    "reward_std": float(np.mean(spreads)) if spreads else float("nan"),
    "frac_reward_zero_std": float(np.mean(flat)) if flat else float("nan"),
  }
  return out | suites.summary(sampled.rows)


def work(sampled: suites.Sampled, update_s: float, progress: dict[str, Any]) -> dict[str, float]:
  """Tokens and seconds; `progress["num_tokens"]` goes on counting over the whole run."""
  G = max(row["sample"] for row in sampled.rows) + 1
  completion = sum(row["completion_tokens"] for row in sampled.rows)
  prompt = sum(row["prompt_tokens"] for row in sampled.rows) // G
  progress["num_tokens"] = progress.get("num_tokens", 0) + prompt + completion
  return {
    "num_tokens": progress["num_tokens"],
    "timing_s/rollout": sampled.seconds["rollout"],
    "timing_s/reward": sampled.seconds["reward"],
    "timing_s/update": update_s,
    "perf/rollout_tokens_per_s": completion / sampled.seconds["rollout"],
    "perf/update_tokens_per_s": completion / update_s,
  }
