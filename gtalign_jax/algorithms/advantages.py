"""Advantages: from rewards of groups, or from rewards and values of tokens.

NumPy in, NumPy out; jax in, jax out; the dtype follows the input. Rewards may be NaN where invalid.
Formulas: docs/algorithms.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.algorithms.scoring import TURNS, Recipe
from gtalign_jax.arrays import floats
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import one_of
from gtalign_jax.ops import stats
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.sections import GROUP_ADVANTAGES, CriticConfig, GRPOConfig
from gtalign_jax.types import Array, Experience

# ---------------------------------------------------------------- on the page (train/grpo.py)


def select(experience: Experience, recipe: Recipe) -> Experience:
  """Puts the reward in its final form, and adds which rows are trained on.

  Rewards get the punishment of overlong completions where asked for; gdpo compares U and L, and
  the reward is then their weighted sum.
  """
  config = recipe.grpo
  reward_PG, utility_PGC = _final_rewards(experience, config)
  trained_PG = np.ones(reward_PG.shape, bool)
  if config.train_samples:
    trained_PG = max_variance_subset(reward_PG, config.train_samples)
  valid_PG = trained_PG & np.isfinite(reward_PG)
  if config.resample_rounds:
    valid_PG &= carries_signal(experience, recipe)[:, None]
  later = experience.later
  if later is not None:
    trained_P1, valid_P1 = (
      mask_PG.reshape(-1, 1)[later.parent_P] for mask_PG in (trained_PG, valid_PG)
    )
    later = _counted(later, trained_P1, valid_P1, config)
  experience = experience._replace(reward_PG=reward_PG, utility_PGC=utility_PGC, later=later)
  return _counted(experience, trained_PG, valid_PG, config)


def _counted(
  experience: Experience, trained_PG: np.ndarray, valid_PG: np.ndarray, config: GRPOConfig
) -> Experience:
  """Adds which rows are trained on, and which of them have tokens that the loss counts."""
  counted_PG = valid_PG
  if config.mask_truncated:
    counted_PG = valid_PG & experience.rollout.stopped_B.reshape(valid_PG.shape)
  return experience._replace(trained_PG=trained_PG, valid_PG=valid_PG, counted_PG=counted_PG)


def carries_signal(experience: Experience, recipe: Recipe) -> np.ndarray:
  """Which groups tell their samples apart, bool_P; experience: with its rewards."""
  reward_PG, utility_PGC = _final_rewards(experience, recipe.grpo)
  compared = utility_PGC if recipe.grpo.advantage == "gdpo" else reward_PG
  return np.asarray(signal_mask(compared, np.ones(reward_PG.shape, bool)))


def advantages(experience: Experience, recipe: Recipe, programs: Executables) -> Experience:
  """Adds advantages, computed on the device over [P, G], or with a critic over tokens."""
  config = recipe.grpo
  compared = experience.utility_PGC if config.advantage == "gdpo" else experience.reward_PG
  rows = sharding.rows(programs.mesh)
  # group statistics span the rows of all processes: computed on the mesh, never on one host
  given = distributed.to_device(
    (compared.astype(np.float32), experience.valid_PG, experience.counted_PG), (rows,) * 3
  )
  scored = (experience.old_logp_BC, experience.ref_logp_BC, experience.value_BC)
  if config.advantage != "gae":
    scored = (None,) * 3
  rated = programs["advantages"](*given, experience.rollout.mask_BC, *scored)
  if experience.later is not None:
    rated["later"] = _of_conversation(rated["advantage"], experience.later, programs)
  statistics = (experience.statistics or {}) | rated.get("statistics", {})
  return experience._replace(**rated | {"statistics": statistics})


def _of_conversation(advantage_B: Array, later: Experience, programs: Executables) -> Experience:
  """Later turns with the advantage of the conversation that each belongs to."""
  mask_RC = later.rollout.mask_BC
  parent_R, counted_R = np.zeros(len(mask_RC), np.int32), np.zeros(len(mask_RC), bool)
  parent_R[: len(later.parent_P)] = later.parent_P
  counted_R[: len(later.parent_P)] = later.counted_PG[:, 0]
  rows = sharding.rows(programs.mesh)
  given = distributed.to_device((parent_R, counted_R), (rows, rows))
  return later._replace(**programs[f"{TURNS}advantages"](advantage_B, *given, mask_RC))


def handed_down(
  advantage_B: jax.Array, parent_R: jax.Array, counted_R: jax.Array, mask_RC: jax.Array
) -> dict[str, Any]:
  """The device's part of `advantages` for later turns: all turns carry their conversation's."""
  return {
    "advantage": jnp.where(counted_R, advantage_B[parent_R], 0),
    "mask_BC": mask_RC & counted_R[:, None],
  }


def _final_rewards(experience: Experience, config: GRPOConfig) -> tuple[np.ndarray, np.ndarray]:
  """(one reward a row [P, G], (U, L) [P, G, 2]) in float64; NaN where a row has no verdict.

  The punishment is added to whatever groups compare.
  """
  max_tokens = experience.rollout.tokens_BC.shape[1]  # rows are padded to the budget
  longest_PG = experience.count_PG.copy()
  if experience.later is not None:  # of a conversation, the longest of its turns
    np.maximum.at(
      longest_PG.reshape(-1), experience.later.parent_P, experience.later.count_PG[:, 0]
    )
  penalty_PG = overlong_penalty(longest_PG, max_tokens, config.overlong_buffer)
  if config.advantage == "gdpo":
    utility_PGC = experience.utility_PGC + penalty_PG[..., None]
    return utility_PGC @ np.asarray(config.gdpo_weights), utility_PGC
  return experience.reward_PG + penalty_PG, experience.utility_PGC


def rated(
  config: GRPOConfig,
  critic: CriticConfig,
  reward: jax.Array,
  valid_PG: jax.Array,
  counted_PG: jax.Array,
  mask_BC: jax.Array,
  old_logp_BC: jax.Array | None,
  ref_logp_BC: jax.Array | None,
  value_BC: jax.Array | None,
) -> dict[str, Any]:
  """The device's part of `advantages`: fields of an Experience by name.

  reward: [P, G], for gdpo [P, G, 2]. A row that does not count has no tokens in the loss, the KL or
  the entropy. The last three are read with a critic alone.
  """
  mask_BC = mask_BC & counted_PG.reshape(-1, 1)
  if value_BC is not None:
    kl_BC = None
    if old_logp_BC is not None and ref_logp_BC is not None:
      kl_BC = jnp.where(mask_BC, old_logp_BC - ref_logp_BC, 0)
    return {"mask_BC": mask_BC} | _rated_by_critic(
      critic, reward.reshape(-1), mask_BC, kl_BC, value_BC
    )
  advantage_PG = group_advantages(
    reward, valid_PG, kind=config.advantage, weights=config.gdpo_weights
  )
  return {"advantage": advantage_PG.reshape(-1), "mask_BC": mask_BC}


def _rated_by_critic(
  config: CriticConfig,
  reward_B: jax.Array,
  mask_BC: jax.Array,
  kl_BC: jax.Array | None,
  value_BC: jax.Array,
) -> dict[str, Any]:
  """Advantages and returns of tokens; the reward of a row comes with its last token that counts.

  kl_BC: k1 of old policy and reference; None where it is no part of the reward.
  """
  keep_BC = mask_BC.astype(value_BC.dtype)
  last_BC = mask_BC & (jnp.cumsum(keep_BC[:, ::-1], axis=1)[:, ::-1] == 1)
  reward_BC = jnp.where(last_BC, jnp.where(mask_BC.any(1), reward_B, 0)[:, None], 0)
  count = jnp.maximum(keep_BC.sum(), 1)
  statistics = {}
  if config.kl_coef and kl_BC is not None:
    reward_BC = reward_BC - config.kl_coef * kl_BC
    statistics["critic/kl_in_reward"] = kl_BC.sum() / count
  advantage_BC, return_BC = gae(reward_BC, value_BC, mask_BC, config.gamma, config.lam)
  left_BC = jnp.where(mask_BC, return_BC - value_BC, 0)
  spread = stats.masked_std(return_BC, mask_BC) ** 2
  statistics |= {
    "critic/values/mean": jnp.where(mask_BC, value_BC, 0).sum() / count,
    "critic/returns/mean": return_BC.sum() / count,
    # 1: values say all that differs between returns; 0: no more than their mean. Returns that are
    # equal differ by roundings, about 1e-17, of which nothing can be explained
    "critic/vf_explained_var": jnp.where(
      spread > 1e-12, 1 - stats.masked_std(left_BC, mask_BC) ** 2 / spread, jnp.nan
    ),
  }
  return {"advantage": advantage_BC, "return_BC": return_BC, "statistics": statistics}


# ---------------------------------------------------------------- kernels


def group_advantages(
  reward_PG: Any,
  valid_PG: Any,
  kind: str = "grpo",
  weights: Sequence[float] = (0.5, 0.5),
) -> Array:
  """Advantage of each of the G samples of P prompts, [P, G].

  reward_PG: rewards; for gdpo reward_PGC with C = (U, L). valid_PG: rows with a verdict (bool or
  0/1); a reward that is not finite counts as invalid. Invalid rows leave mean, deviation and G, and
  get 0; so does every row of a group with fewer than two valid ones.
    grpo (Shao et al. 2024)             (R - mu) / (sigma_{ddof=1} + 1e-6)
    dr_grpo (Liu et al. 2025)           R - mu
    rloo (Ahmadian et al. 2024)         n / (n - 1) (R - mu), n = valid rows of the group
    reinforce_baseline (Hu et al. 2025) R - mu, then whitened over the valid rows of the batch
    gdpo (Liu et al. 2026)              sum over C of weights_C * grpo(reward_C), then whitened
  A group of equal rewards gives exactly 0. Raises BadInput for an unknown kind or a wrong rank.
  """
  one_of("grpo.advantage", kind, GROUP_ADVANTAGES)
  xp, reward = floats(reward_PG)
  wanted = 3 if kind == "gdpo" else 2
  if reward.ndim != wanted:
    raise BadInput(f"rewards of rank {reward.ndim} for grpo.advantage={kind!r}: must be {wanted}")
  finite_PG = xp.isfinite(reward) if kind != "gdpo" else xp.isfinite(reward).all(-1)
  valid_PG = (xp.asarray(valid_PG) != 0) & finite_PG
  count_P1 = valid_PG.sum(-1, keepdims=True)
  if kind == "gdpo":
    parts = [w * _scaled(reward[..., c], valid_PG) for c, w in enumerate(weights)]
    advantage_PG = stats.whiten(sum(parts), valid_PG)
  elif kind == "grpo":
    advantage_PG = _scaled(reward, valid_PG)
  else:
    advantage_PG = stats.centred(reward, valid_PG, axis=-1)
    if kind == "rloo":
      count = count_P1.astype(reward.dtype)
      advantage_PG = advantage_PG * (count / xp.maximum(count - 1, 1))
    if kind == "reinforce_baseline":
      advantage_PG = stats.whiten(advantage_PG, valid_PG)
  return xp.where(valid_PG & (count_P1 >= 2), advantage_PG, xp.zeros_like(advantage_PG))


def _scaled(reward_PG: Array, valid_PG: Array) -> Array:
  deviation_P1 = stats.masked_std(reward_PG, valid_PG, ddof=1, axis=-1, keepdims=True)
  return stats.centred(reward_PG, valid_PG, axis=-1) / (deviation_P1 + 1e-6)


def signal_mask(reward_PG: Any, valid_PG: Any) -> Array:
  """Which groups carry a signal for dynamic sampling (Yu et al. 2025), bool_P.

  A group whose valid rewards are all *equal* (exactly, not merely close) carries none, nor does
  one with fewer than two valid rows. reward_PG, or reward_PGC where any of C may differ.
  """
  xp, reward = floats(reward_PG)
  reward_PGC = reward if reward.ndim == 3 else reward[..., None]
  valid_PG = (xp.asarray(valid_PG) != 0) & xp.isfinite(reward_PGC).all(-1)
  keep_PGC = valid_PG[..., None]
  top_PC = xp.max(xp.where(keep_PGC, reward_PGC, -xp.inf), axis=1)
  bottom_PC = xp.min(xp.where(keep_PGC, reward_PGC, xp.inf), axis=1)
  return (top_PC > bottom_PC).any(-1)


def max_variance_subset(reward_PG: np.ndarray, count: int) -> np.ndarray:
  """The `count` samples of each group whose rewards vary most, bool_PG (PODS, Xu et al. 2025).

  Some of the highest and the rest of the lowest rewards, split where the variance is largest.
  Rewards that are not finite are chosen only where a group has too few others. Equal rewards: the
  first sample goes first. NumPy, float64.
  """
  reward_PG = np.asarray(reward_PG, np.float64)
  chosen_PG = np.zeros(reward_PG.shape, bool)
  for reward_G, chosen_G in zip(reward_PG, chosen_PG):
    finite_G = np.isfinite(reward_G)
    order = np.argsort(np.where(finite_G, reward_G, np.inf), kind="stable")
    some = order[: finite_G.sum()]
    if len(some) <= count:
      chosen_G[order[:count]] = True
      continue
    splits = [np.r_[some[: count - high], some[len(some) - high :]] for high in range(count + 1)]
    chosen_G[splits[int(np.argmax([reward_G[each].var() for each in splits]))]] = True
  return chosen_PG


def overlong_penalty(length_B: Any, max_tokens: int, buffer: int) -> Array:
  """Soft length punishment to add to rewards (Yu et al. 2025, DAPO), at most 0.

  min(-e / buffer, 0) with e = length - (max_tokens - buffer), all in tokens; -1 at the budget.
  """
  xp, length_B = floats(length_B)
  if buffer <= 0:
    return xp.zeros_like(length_B)
  return xp.minimum(-(length_B - (max_tokens - buffer)) / buffer, xp.zeros_like(length_B))


def gae(
  reward_BT: Any,
  value_BT: Any,
  mask_BT: Any,
  gamma: float = 1.0,
  lam: float = 1.0,
  whiten: bool = True,
) -> tuple[Array, Array]:
  """Generalised advantage estimation (Schulman et al. 2016) over the tokens of `mask_BT`.

  delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lam A_{t+1}, zeros after a row's last
  token; t+1 is the next token that counts. Returns (advantage_BT, return_BT = A + V), the former
  whitened over all tokens that count where `whiten`; both 0 where the mask is 0.
  """
  xp, reward_BT, value_BT = floats(reward_BT, value_BT)
  keep_BT = xp.asarray(mask_BT) != 0
  reward_BT = xp.where(keep_BT, reward_BT, xp.zeros_like(reward_BT))
  value_BT = xp.where(keep_BT, value_BT, xp.zeros_like(value_BT))

  def back(carry, x):
    after_B, value_after_B = carry
    reward_B, value_B, keep_B = x
    advantage_B = reward_B + gamma * value_after_B - value_B + gamma * lam * after_B
    carry = xp.where(keep_B, advantage_B, after_B), xp.where(keep_B, value_B, value_after_B)
    return carry, xp.where(keep_B, advantage_B, xp.zeros_like(advantage_B))

  zero_B = xp.zeros_like(reward_BT[:, 0] + value_BT[:, 0])
  scan = _host_scan if xp is np else jax.lax.scan
  _, out_TB = scan(back, (zero_B, zero_B), (reward_BT.T, value_BT.T, keep_BT.T), reverse=True)
  advantage_BT = out_TB.T
  return_BT = advantage_BT + value_BT
  return (stats.whiten(advantage_BT, keep_BT) if whiten else advantage_BT), return_BT


def _host_scan(step, carry, xs, reverse):
  """`jax.lax.scan(reverse=True)` for NumPy."""
  assert reverse
  outs = []
  for x in reversed(list(zip(*xs))):
    carry, out = step(carry, x)
    outs.append(out)
  return carry, np.stack(outs[::-1])
