"""Tokens by the block of the chain that holds them: their weights in the loss, and their metrics.

block_BT: index into `types.BLOCKS`, -1 for a token outside every block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gtalign_jax.types import BLOCKS, Array


def members(xp: Any, block_BT: Any, keep_BT: Array) -> Iterator[Array]:
  """The tokens of each of BLOCKS that count, bool_BT."""
  block_BT = xp.asarray(block_BT)
  for index in range(len(BLOCKS)):
    yield keep_BT & (block_BT == index)


def counts(xp: Any, block_BT: Any, keep_BT: Array) -> Array:
  """How many tokens of each of BLOCKS count, [4]."""
  return xp.stack([in_BT.sum() for in_BT in members(xp, block_BT, keep_BT)])


def token_weights(xp: Any, block_BT: Any, like_BT: Array, weights: Sequence[float]) -> Array:
  """The weight of each token's block, 1 outside every block; shape and dtype of `like_BT`."""
  block_BT = xp.asarray(block_BT)
  weight_BT = xp.ones_like(like_BT)
  for index, weight in enumerate(weights):
    weight_BT = xp.where(block_BT == index, weight * xp.ones_like(like_BT), weight_BT)
  return weight_BT


def metrics(
  xp: Any, block_BT: Any, keep_BT: Array, values: Mapping[str, Array | None], whole: Any
) -> dict[str, Array]:
  """Means of each block: `block/<block>/<name>` over its tokens, NaN where no row has any.

  values: name -> one number a token, None = not known. `block/<block>/length`: its tokens in a row,
  mean over the rows with tokens. whole: `loss.Totals`, so that the results of slices add up.
  """
  out = {}
  for index, (block, in_BT) in enumerate(zip(BLOCKS, members(xp, block_BT, keep_BT), strict=True)):
    count = whole.blocks[index]
    out[f"block/{block}/length"] = in_BT.sum().astype(count.dtype) / whole.rows
    for name, value_BT in values.items():
      if value_BT is not None:
        total = xp.sum(xp.where(in_BT, value_BT, xp.zeros_like(value_BT)))
        out[f"block/{block}/{name}"] = xp.where(count > 0, total / xp.maximum(count, 1), xp.nan)
  return out
