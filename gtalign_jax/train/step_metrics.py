"""The metrics of one GRPO step that come from the host: rewards, game, lengths, throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.models.flops import update_flops
from gtalign_jax.models.variants import Arch
from gtalign_jax.rollout import collect
from gtalign_jax.train.setup import Setup
from gtalign_jax.types import Experience, action_of


def rewards(experience: Experience) -> dict[str, float]:
  """TRL's reward statistics over the valid rows, and those of the chain and the game.

  The standard deviation is the mean over groups; a group needs two valid rows to have one. Rows
  that continue edited payoffs are counted apart from the others, in follow and carry alone: their
  openings are not what the policy writes.
  """
  reward_PG = experience.reward_PG
  valid_PG = np.isfinite(reward_PG)
  groups = [row[ok] for row, ok in zip(reward_PG, valid_PG) if ok.sum() > 1]
  out = {
    "reward": float(reward_PG[valid_PG].mean()) if valid_PG.any() else float("nan"),
    "reward_std": _mean([np.std(group, ddof=1) for group in groups]),
    "frac_reward_zero_std": _mean([len(set(group)) <= 1 for group in groups]),
  }
  own = [row for row in experience.rows if "intervened" not in row]
  out |= collect.summary(own)
  return out if experience.head_P is None else out | _intervened(experience.rows)


def _intervened(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Of the rows that continue edited payoffs: do they name the edited choice, and carry it out?"""
  edited = [row for row in rows if "intervened" in row]
  cells = [row["intervened"]["edited"] for row in edited]
  actions = map(action_of, cells)
  return {
    "rollout/intervened_frac": len(edited) / len(rows),
    "game/follow": _mean([row["named_cell"] == cell for row, cell in zip(edited, cells)]),
    "game/carry": _mean([row["action"] == action for row, action in zip(edited, actions)]),
  }


def _mean(values: Sequence[Any]) -> float:
  return float(np.mean(values)) if values else float("nan")


class Work(NamedTuple):
  """What a step computed, in tokens: of each prompt, each completion, each trained completion.

  dropped: of completions that dynamic sampling replaced. later: of the turns after the first, each
  with what it reads as its prompt.
  """

  length_P: np.ndarray
  count_PG: np.ndarray
  trained_PK: np.ndarray
  dropped: int
  later: Work | None = None

  @property
  def written(self) -> int:
    """Tokens of the completions of all turns."""
    return int(self.count_PG.sum()) + self.dropped + (self.later.written if self.later else 0)

  @property
  def trained(self) -> int:
    """Tokens of the trained completions of all turns."""
    return int(self.trained_PK.sum()) + (self.later.trained if self.later else 0)

  @property
  def read(self) -> int:
    """Tokens of the prompts of all turns."""
    return int(self.length_P.sum()) + (self.later.read if self.later else 0)

  def flops(self, arch: Arch) -> float:
    """Of one forward and backward pass over the trained rows of all turns."""
    seen_P = self.trained_PK.sum(1) > 0  # a later turn that is not trained on is not read again
    return update_flops(arch, self.length_P[seen_P], self.trained_PK[seen_P]) + (
      self.later.flops(arch) if self.later else 0
    )


def work(experience: Experience) -> Work:
  """The `Work` of one step."""
  count_PG, later = experience.count_PG, experience.later
  trained_PK = count_PG[experience.trained_PG].reshape(len(count_PG), -1)
  found = Work(experience.length_P, count_PG, trained_PK, experience.dropped_tokens)
  if later is None:
    return found
  trained_PK = later.count_PG * later.trained_PG
  return found._replace(later=Work(later.length_P, later.count_PG, trained_PK, 0))


def tokens(work: Work, progress: dict[str, Any]) -> dict[str, float]:
  """num_tokens, which `progress` goes on counting over the whole run."""
  new = work.read + work.written
  progress["num_tokens"] = progress.get("num_tokens", 0) + new
  return {"num_tokens": progress["num_tokens"]}


def throughput(
  setup: Setup, work: Work, seconds: Mapping[str, float], peak: float
) -> dict[str, float]:
  """Seconds by activity, and tokens and model FLOPs per second.

  peak: GFLOP/s of a matmul of the compute dtype on one device, measured: no table of peaks.
  """
  flops = work.flops(setup.arch)
  config = setup.config
  passes = config.grpo.inner_epochs * (1 + (config.has_critic and config.critic.trunk == "own"))
  rate = flops * passes / seconds["update"] / 1e9
  names = ("rollout", "reward", "logprob", "update")
  return {
    **{f"timing_s/{name}": seconds[name] for name in names},
    "perf/rollout_tokens_per_s": work.written / seconds["rollout"],
    "perf/update_tokens_per_s": work.trained / seconds["update"],
    "perf/mfu": rate / peak / setup.mesh.size,
  }
