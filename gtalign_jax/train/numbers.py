"""The metrics of one GRPO step that come from the host: rewards, game, lengths, throughput."""

from __future__ import annotations

import numpy as np

from gtalign_jax.config import Config
from gtalign_jax.evaluate import suites
from gtalign_jax.train import bench
from gtalign_jax.train.run import Run


def scalar(config: Config, reward_PGC: np.ndarray) -> np.ndarray:
  """One reward a row [P, G]: components are summed by the gdpo weights where there are two."""
  return reward_PGC @ (np.asarray(config.grpo.gdpo_weights) if reward_PGC.shape[-1] > 1 else [1.0])


def rewards(config: Config, sampled: suites.Sampled, reward_PGC: np.ndarray) -> dict[str, float]:
  """TRL's reward statistics over the valid rows, and those of the chain and the game.

  reward_PGC: of all rows, NaN where invalid; see `scalar`.
  """
  reward_PG = scalar(config, reward_PGC)
  valid_PG = np.isfinite(reward_PG)
  spreads = [np.std(row[ok], ddof=1) for row, ok in zip(reward_PG, valid_PG) if ok.sum() > 1]
  flat = [len(set(row[ok])) <= 1 for row, ok in zip(reward_PG, valid_PG) if ok.sum() > 1]
  out = {
    "reward": float(reward_PG[valid_PG].mean()) if valid_PG.any() else float("nan"),
    "reward_std": float(np.mean(spreads)) if spreads else float("nan"),
    "frac_reward_zero_std": float(np.mean(flat)) if flat else float("nan"),
  }
  return out | suites.summary(sampled.rows)


def work(
  run: Run,
  sampled: suites.Sampled,
  chosen_PG: np.ndarray,
  seconds: dict[str, float],
  gflops: float,
  progress: dict,
) -> dict[str, float]:
  """Tokens and seconds; `progress["num_tokens"]` goes on counting over the whole run.

  chosen_PG: rows that were trained on. seconds: of "logprob" and "update". gflops: rate of a matmul on
  one of the devices.
  """
  G, held = run.config.rollout.group_size, run.held
  count_PG = np.asarray([row["completion_tokens"] for row in sampled.rows]).reshape(-1, G)
  length_P = np.asarray([row["prompt_tokens"] for row in sampled.rows[::G]])
  completion = int(count_PG.sum())
  progress["num_tokens"] = progress.get("num_tokens", 0) + int(length_P.sum()) + completion
  params = held.trainable if held.frozen is None else held.frozen
  trained_PK = count_PG[chosen_PG].reshape(len(count_PG), -1)
  flops = bench.model_flops(held.arch, params, length_P, trained_PK) * run.config.grpo.inner_epochs
  return {
    "num_tokens": progress["num_tokens"],
    **{f"timing_s/{name}": value for name, value in (sampled.seconds | seconds).items()},
    "perf/rollout_tokens_per_s": completion / sampled.seconds["rollout"],
    "perf/update_tokens_per_s": int(trained_PK.sum()) / seconds["update"],
    "perf/mfu": flops / seconds["update"] / 1e9 / gflops / run.mesh.size,
  }
