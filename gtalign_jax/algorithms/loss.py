"""Policy and value losses: arrays in, one number and metrics out; no text, no games.

NumPy in, NumPy out; jax in, jax out; computed in the dtype of `logp_BT`, at least f32. Masked
positions may hold anything: they reach neither the loss nor the gradient. Formulas and their
sources: docs/algorithms.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.algorithms import blocks
from gtalign_jax.algorithms import mismatch as mismatches
from gtalign_jax.algorithms.mismatch import LIMIT
from gtalign_jax.arrays import namespace
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import one_of
from gtalign_jax.sections import AGGREGATIONS, KL_ESTIMATORS, LOSSES
from gtalign_jax.types import Array


class Totals(NamedTuple):
  """Sizes of the whole optimiser batch that means are taken over (all devices, all slices).

  tokens: N, tokens that count. rows: rows with at least one. all_rows: rows, empty ones included.
  blocks: tokens that count in each of `types.BLOCKS`, [4]; None where blocks are not known.
  """

  tokens: Any
  rows: Any
  all_rows: Any
  blocks: Any = None


def totals(mask_BT: Any, block_BT: Any = None) -> Totals:
  """`Totals` of a batch that is not cut into slices."""
  xp = namespace(mask_BT)
  keep_BT = xp.asarray(mask_BT) != 0
  in_blocks = None if block_BT is None else blocks.counts(xp, block_BT, keep_BT)
  return Totals(keep_BT.sum(), keep_BT.any(1).sum(), keep_BT.shape[0], in_blocks)


def _stop(xp: Any, x: Array) -> Array:
  return x if xp is np else jax.lax.stop_gradient(x)


def _border(mask_BT: Any, *arrays: Any) -> tuple[Any, ...]:
  """(namespace, keep_BT, *arrays [B, T]) for a loss: the one place that touches raw arguments.

  Arrays come out in the dtype of the first, at least f32; None stays None. Masked entries become 0
  before any arithmetic, so that no 0 * inf reaches the gradient.
  """
  xp = namespace(mask_BT, *arrays)
  keep_BT = xp.asarray(mask_BT) != 0
  dtype = xp.promote_types(xp.asarray(arrays[0]).dtype, xp.float32)

  def clean(x: Any) -> Any:
    if x is None:
      return None
    x = xp.asarray(x).astype(dtype)
    x_BT = xp.broadcast_to(x if x.ndim == 2 else x[:, None], keep_BT.shape)  # one a row, or a token
    return xp.where(keep_BT, x_BT, xp.zeros_like(x_BT))

  return xp, keep_BT, *map(clean, arrays)


def _aggregate(
  xp: Any, loss_BT: Array, keep_BT: Array, aggregation: str, max_tokens: int | None, whole: Totals
) -> Array:
  """One number from per-token losses, 0 at masked tokens; 0 where nothing counts.

    token-mean               sum(l m) / N                                    TRL dapo
    seq-mean-token-mean      mean over non-empty rows of sum(l m) / |y|      TRL grpo
    seq-mean-token-sum       mean over non-empty rows of sum(l m)
    seq-mean-token-sum-norm  sum(l m) / (B T_max), B counting every row      TRL dr_grpo
  max_tokens: T_max, the completion budget (default: T). whole: sizes of the whole optimiser batch,
  so that the results of slices add up.
  """
  sum_B = xp.sum(xp.where(keep_BT, loss_BT, xp.zeros_like(loss_BT)), axis=1)
  if aggregation == "token-mean":
    return xp.sum(sum_B) / whole.tokens
  if aggregation == "seq-mean-token-mean":
    return xp.sum(sum_B / xp.maximum(keep_BT.sum(1), 1).astype(sum_B.dtype)) / whole.rows
  if aggregation == "seq-mean-token-sum":
    return xp.sum(sum_B) / whole.rows
  return xp.sum(sum_B) / (whole.all_rows * (max_tokens or loss_BT.shape[1]))


def _sizes(
  xp: Any, keep_BT: Array, given: Totals | None, dtype: Any, block_BT: Any = None
) -> Totals:
  """Totals in `dtype`, divisors at least 1; counted from the mask where none are given."""
  given = given or totals(keep_BT, block_BT)
  tokens, rows, all_rows = (
    xp.maximum(xp.asarray(size).astype(dtype), 1)
    for size in (given.tokens, given.rows, given.all_rows)
  )
  in_blocks = None if given.blocks is None else xp.asarray(given.blocks).astype(dtype)
  return Totals(tokens, rows, all_rows, in_blocks)


def _kl_terms(xp: Any, logp_BT: Array, ref_logp_BT: Array, estimator: str) -> Array:
  """Per-token estimate of KL(policy || reference) (Schulman 2020), delta = logp - ref_logp.

  k1 = delta, k2 = delta^2 / 2, k3 = exp(-delta) + delta - 1 of delta clamped to +-20 (as verl's
  low_var_kl); a `+` suffix gives that value the gradient of k2, which is the gradient of the KL
  itself.
  """
  delta_BT = logp_BT - ref_logp_BT
  half_square_BT = delta_BT * delta_BT / 2
  if estimator[:2] == "k1":
    value_BT = delta_BT
  elif estimator[:2] == "k2":
    value_BT = half_square_BT
  else:
    # both terms of the clamped delta: with the exponential alone held, the gradient beyond -20
    # would change its sign and push the policy away. expm1: exp(-d) - 1 loses f32 digits near 0.
    held_BT = xp.clip(delta_BT, -LIMIT, LIMIT)
    value_BT = xp.expm1(-held_BT) + held_BT
  if estimator.endswith("+"):
    return _stop(xp, value_BT) + half_square_BT - _stop(xp, half_square_BT)
  return value_BT


def _surrogate(
  xp: Any, kind: str, logp_BT: Array, old_BT: Array, keep_BT: Array, A_BT: Array, clip: Any
) -> tuple[Array, Array, dict[str, Array]]:
  """(per-token loss, ratio, which tokens are clipped from below and from above)."""
  clip_low, clip_high, dual_clip = clip
  low, high = 1 - clip_low, 1 + clip_high
  delta_BT = xp.clip(logp_BT - old_BT, -LIMIT, LIMIT)
  if kind == "gspo":
    count_B1 = xp.maximum(keep_BT.sum(1, keepdims=True), 1).astype(logp_BT.dtype)
    mean_B1 = xp.where(keep_BT, delta_BT, xp.zeros_like(delta_BT)).sum(1, keepdims=True) / count_B1
    delta_BT = logp_BT - _stop(xp, logp_BT) + _stop(xp, mean_B1)
  ratio_BT = xp.exp(delta_BT)
  bounded_BT = xp.clip(ratio_BT, low, high)
  below_BT, above_BT = ratio_BT < low, ratio_BT > high
  if kind == "cispo":
    return -_stop(xp, bounded_BT) * A_BT * logp_BT, ratio_BT, {"low": below_BT, "high": above_BT}
  free_BT, held_BT = -ratio_BT * A_BT, -bounded_BT * A_BT
  # where, not maximum: at a tie (ratio within bounds) the gradient is that of the free branch,
  # whole
  loss_BT = xp.where(free_BT >= held_BT, free_BT, held_BT)
  if dual_clip is not None:
    cap_BT = -dual_clip * A_BT + xp.zeros_like(loss_BT)
    loss_BT = xp.where((A_BT < 0) & (loss_BT > cap_BT), cap_BT, loss_BT)
  return loss_BT, ratio_BT, {"low": below_BT & (A_BT < 0), "high": above_BT & (A_BT > 0)}


def policy_loss(
  logp_BT: Any,
  old_logp_BT: Any,
  advantage_B: Any,
  mask_BT: Any,
  kind: str = "grpo",
  clip_low: float = 0.2,
  clip_high: float = 0.2,
  dual_clip: float | None = None,
  aggregation: str = "token-mean",
  max_tokens: int | None = None,
  ref_logp_BT: Any = None,
  kl_coef: float = 0.0,
  kl_estimator: str = "k3",
  *,
  sampler_logp_BT: Any = None,
  mismatch: str = "off",
  mismatch_mode: str | None = None,
  mismatch_bounds: tuple[float, float] | None = None,
  mismatch_veto: tuple[float, float] | None = None,
  entropy_BT: Any = None,
  block_BT: Any = None,
  block_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
  totals: Totals | None = None,
) -> tuple[Array, dict[str, Array]]:
  """Clipped policy-gradient loss of realised tokens, with r = exp(clip(logp - old_logp, +-20)).

    grpo   max(-r A, -clip(r, 1 - clip_low, 1 + clip_high) A)   Shao et al. 2024, eq. 3
    gspo   the same with r the row's geometric mean ratio       Zheng et al. 2025, GSPO-token
    cispo  -stop(clip(r, 1 - clip_low, 1 + clip_high)) A logp   MiniMax-M1 2025, eq. 4
  advantage_B: one a row, or [B, T] one a token (GAE). dual_clip: c > 1; where A < 0 the loss is at
  most -c A (Ye et al. 2020; not for cispo). mismatch: the surrogate is multiplied by
  `mismatch.weights` of old_logp - sampler_logp. kl_coef * k(logp - ref_logp) is then added per
  token, and the sum multiplied by the weight of the token's block (block_BT: blocks.py).
  totals: sizes of the whole optimiser batch where these rows are a slice.

  Returns (loss, metrics). Metrics are shares of the whole batch, so slices add up (`…/max`: take
  the larger): clip_ratio/{low,high,region}_mean, ratio/{mean,max}; and where the arrays are given:
  entropy, kl, sampling/*, block/*. Nothing that counts: all 0 (means of a block: NaN). Raises
  BadInput for an unknown name, and where an array is missing that an option needs.
  """
  one_of("grpo.kind", kind, LOSSES)
  one_of("grpo.aggregation", aggregation, AGGREGATIONS)
  one_of("grpo.kl_estimator", kl_estimator, KL_ESTIMATORS)
  correction = mismatches.Mismatch(mismatch, mismatch_mode, mismatch_bounds, mismatch_veto)
  correction.check()
  if correction.active and sampler_logp_BT is None:
    raise BadInput(f"grpo.mismatch={mismatch!r} needs the sampler's log-probabilities")
  if kl_coef and ref_logp_BT is None:
    raise BadInput(f"grpo.kl_coef={kl_coef} needs the reference log-probabilities")
  weighted = any(weight != 1 for weight in block_weights)
  if weighted and block_BT is None:
    raise BadInput(f"grpo.block_weights={block_weights} needs the block of each token")
  xp, keep_BT, logp_BT, old_BT, A_BT, ref_BT, sampler_BT, entropy_BT = _border(
    mask_BT, logp_BT, old_logp_BT, advantage_B, ref_logp_BT, sampler_logp_BT, entropy_BT
  )
  whole = _sizes(xp, keep_BT, totals, logp_BT.dtype, block_BT)
  clip = (clip_low, clip_high, dual_clip)
  loss_BT, ratio_BT, clipped = _surrogate(xp, kind, logp_BT, old_BT, keep_BT, A_BT, clip)
  metrics = _ratio_metrics(xp, ratio_BT, clipped, keep_BT, whole)
  if sampler_BT is not None:
    log_BT = _stop(xp, old_BT - sampler_BT)
    metrics |= mismatches.difference(xp, log_BT, whole.tokens)
    if correction.active:
      weight_BT = mismatches.weights(xp, log_BT, keep_BT, correction)
      metrics |= mismatches.masked(xp, weight_BT, keep_BT, whole)
      loss_BT = loss_BT * weight_BT
  each: dict[str, Any] = {"clip_ratio": (clipped["low"] | clipped["high"]).astype(logp_BT.dtype)}
  if entropy_BT is not None:
    each["entropy"] = _stop(xp, entropy_BT)
    metrics["entropy"] = xp.sum(each["entropy"]) / whole.tokens
  if ref_BT is not None:
    kl_BT = _kl_terms(xp, logp_BT, ref_BT, kl_estimator)
    each["kl"] = _stop(xp, kl_BT)
    metrics["kl"] = xp.sum(each["kl"]) / whole.tokens  # exactly 0 at masked tokens
    if kl_coef:
      loss_BT = loss_BT + kl_coef * kl_BT
  if block_BT is not None and whole.blocks is not None:
    metrics |= blocks.metrics(xp, block_BT, keep_BT, each, whole)
  if weighted:
    loss_BT = loss_BT * blocks.token_weights(xp, block_BT, loss_BT, block_weights)
  return _aggregate(xp, loss_BT, keep_BT, aggregation, max_tokens, whole), metrics


def _ratio_metrics(xp, ratio_BT, clipped, keep_BT, whole) -> dict[str, Array]:
  def share(flag_BT):
    return (flag_BT & keep_BT).sum().astype(whole.tokens.dtype) / whole.tokens

  ratio_BT = _stop(xp, xp.where(keep_BT, ratio_BT, xp.zeros_like(ratio_BT)))
  return {
    "clip_ratio/low_mean": share(clipped["low"]),
    "clip_ratio/high_mean": share(clipped["high"]),
    "clip_ratio/region_mean": share(clipped["low"] | clipped["high"]),
    "ratio/mean": xp.sum(ratio_BT) / whole.tokens,
    "ratio/max": xp.max(ratio_BT),
  }


def value_loss(
  value_BT: Any,
  old_value_BT: Any,
  return_BT: Any,
  mask_BT: Any,
  clip: float = 0.5,
  aggregation: str = "token-mean",
  *,
  max_tokens: int | None = None,
  totals: Totals | None = None,
) -> tuple[Array, dict[str, Array]]:
  """Clipped critic loss (Schulman et al. 2017, as in the paper's PPO recipe).

  1/2 agg(max((v - R)^2, (clip(v, old - clip, old + clip) - R)^2)). Arguments as in `policy_loss`.
  Returns (loss, {"value/clip_frac": share of tokens where the clipped branch is the larger}).
  """
  one_of("grpo.aggregation", aggregation, AGGREGATIONS)
  xp, keep_BT, value_BT, old_BT, return_BT = _border(mask_BT, value_BT, old_value_BT, return_BT)
  whole = _sizes(xp, keep_BT, totals, value_BT.dtype)
  free_BT = (value_BT - return_BT) ** 2
  held_BT = (xp.clip(value_BT, old_BT - clip, old_BT + clip) - return_BT) ** 2
  loss_BT = xp.where(free_BT >= held_BT, free_BT, held_BT)
  loss = _aggregate(xp, loss_BT, keep_BT, aggregation, max_tokens, whole) / 2
  return loss, {"value/clip_frac": (held_BT > free_BT).sum().astype(loss.dtype) / whole.tokens}
