"""Supervised cross entropy on completion tokens."""

from __future__ import annotations

from typing import Any

from gtalign_jax.arrays import floats
from gtalign_jax.types import Array


def sft_loss(
  logp_BT: Array, mask_BT: Array, denominator: Any = None
) -> tuple[Array, dict[str, Array]]:
  """Token-mean cross entropy in nats: -sum(logp * mask) / N.

  denominator: N, the tokens of the whole optimiser batch where this is one slice of it (default:
  of this mask), so that losses and gradients of slices add up. Masked entries may hold anything.
  Returns (loss, {"sft/num_tokens": tokens of this slice}).
  """
  xp, logp_BT = floats(logp_BT)
  keep_BT = xp.asarray(mask_BT) != 0
  count = xp.sum(keep_BT).astype(logp_BT.dtype)
  whole = count if denominator is None else xp.asarray(denominator).astype(logp_BT.dtype)
  loss = -xp.sum(xp.where(keep_BT, logp_BT, 0)) / xp.maximum(whole, 1)
  return loss, {"sft/num_tokens": count}
