"""Corrections for a sampler that computes other log-probabilities than the trainer.

Both sides take the whole tempered distribution: the log-probability of a token under a truncated
one (top-k, top-p, min-p) is not kept, and a run with both is refused (config.py). Formulas and
their sources: docs/algorithms.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gtalign_jax.fields import one_of
from gtalign_jax.sections import MISMATCH_DEFAULTS, MISMATCH_MODES, MISMATCHES
from gtalign_jax.types import Array

LIMIT = 20.0  # nats; bound on log-ratios before exp

Bounds = tuple[float, float]


class Mismatch(NamedTuple):
  """What is corrected: keys `grpo.mismatch`, `…_mode`, `…_bounds`, `…_veto`; None = the default."""

  level: str = "off"
  mode: str | None = None
  bounds: Bounds | None = None
  veto: Bounds | None = None

  @property
  def active(self) -> bool:
    """Whether there is anything to correct."""
    return self.level != "off" or self.veto is not None

  def check(self) -> None:
    """Raises BadInput for an unknown name."""
    one_of("grpo.mismatch", self.level, MISMATCHES)
    if self.mode is not None:
      one_of("grpo.mismatch_mode", self.mode, MISMATCH_MODES)


def weights(xp: Any, log_BT: Array, keep_BT: Array, how: Mismatch) -> Array:
  """Importance weights of the tokens, w = exp of the level's log-ratio; [B, T] or [B, 1].

  log_BT: old - sampler, 0 at masked tokens. Levels: token (one w a token), sequence (one a row,
  from the sum over its tokens), sequence-geometric (from the mean); the exponent is clamped to
  +-20. Modes: truncate (w is cut to the bounds) or mask (0 outside them). veto: a token whose own w
  lies outside these bounds gives its whole row the weight 0, at every level and with `off`.
  """
  weight_BT = _at_level(xp, log_BT, keep_BT, how)
  if how.veto is not None:
    low, high = how.veto
    token_BT = _ratio(xp, log_BT)
    outlier_B1 = (keep_BT & ((token_BT < low) | (token_BT > high))).any(1, keepdims=True)
    weight_BT = xp.where(outlier_B1, xp.zeros_like(weight_BT), weight_BT)
  return weight_BT


def _at_level(xp: Any, log_BT: Array, keep_BT: Array, how: Mismatch) -> Array:
  if how.level == "off":
    return xp.ones_like(log_BT)
  if how.level != "token":
    sum_B1 = log_BT.sum(1, keepdims=True)
    count_B1 = xp.maximum(keep_BT.sum(1, keepdims=True), 1).astype(log_BT.dtype)
    log_BT = sum_B1 if how.level == "sequence" else sum_B1 / count_B1
  default_mode, default_bounds = MISMATCH_DEFAULTS[how.level]
  low, high = how.bounds or default_bounds
  weight_BT = _ratio(xp, log_BT)
  if (how.mode or default_mode) == "truncate":
    return xp.clip(weight_BT, low, high)
  inside_BT = (weight_BT >= low) & (weight_BT <= high)
  return xp.where(inside_BT, weight_BT, xp.zeros_like(weight_BT))


def _ratio(xp: Any, log_BT: Array) -> Array:
  return xp.exp(xp.clip(log_BT, -LIMIT, LIMIT))


def difference(xp: Any, log_BT: Array, tokens: Array) -> dict[str, Array]:
  """How far sampler and trainer are apart; tokens: N of the whole batch, so that slices add up."""
  away_BT = xp.abs(log_BT)
  return {
    "sampling/sampling_logp_difference/mean": xp.sum(away_BT) / tokens,
    "sampling/sampling_logp_difference/max": xp.max(away_BT),
  }


def masked(xp: Any, weight_BT: Array, keep_BT: Array, whole: Any) -> dict[str, Array]:
  """Shares of the tokens, and of the rows with tokens, that a correction leaves without weight.

  whole: `loss.Totals`, so that slices add up.
  """
  out_BT = keep_BT & (weight_BT == 0)
  row_B = keep_BT.any(1) & (out_BT == keep_BT).all(1)
  return {
    "sampling/masked_token_frac": out_BT.sum().astype(weight_BT.dtype) / whole.tokens,
    "sampling/masked_row_frac": row_B.sum().astype(weight_BT.dtype) / whole.rows,
  }
