"""Drawing tokens: temperature, top-k, top-p, min-p, and one uniform a row.

Truncation is a threshold on the weights exp(z - max z), found by bisection on their bit patterns:
exact, without a sort. Tokens that tie at the threshold are all kept, so the set does not depend on
the order of the vocabulary. The draw inverts the distribution function in two levels (lanes of the
vocabulary, then the entries of one lane): no V random numbers, no cumulative sum over V.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.types import Array, Leaf

LANES = 128  # sums of strided lanes vectorise, and divide every large vocabulary of the families


def row_uniforms(key: Array, step: Array, row_B: Array, t_B: Array) -> Array:
  """One uniform in [0, 1) for each row, f32: a function of (key, step, row, t) alone.

  t_B: the token of each row; one number stands for all rows.
  """

  def one(row, t):
    return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(at_step, row), t))

  # so mesh, slices, refills and an early exit cannot change a sample
  at_step = jax.random.fold_in(key, step)
  return jax.vmap(one)(row_B, jnp.broadcast_to(t_B, row_B.shape))


class Options(NamedTuple):
  """The options of `sample`, row by row; arrays of B."""

  temperature_B: Leaf
  top_k_B: Leaf
  top_p_B: Leaf
  min_p_B: Leaf


def sample(
  logits_BV: Array, uniform_B: Array, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0
) -> tuple[Array, Array]:
  """Draws one token a row by inverting the distribution function at `uniform_B`, in [0, 1).

  Order, as in transformers: temperature, top_k (0: off), top_p of what top_k left (1: off), min_p
  relative to the largest probability (0: off). temperature 0 is greedy: the lowest id of the
  largest logit, and log-probabilities are those at temperature 1. All options are static;
  `sample_each` has them row by row.
  Returns (token_B int32, logp_B of the tempered, untruncated policy). A token outside the truncated
  set, or whose probability underflows to 0, is never returned.
  """
  away_BV, weight_BV, total_B = _weights(
    logits_BV, temperature if temperature not in (0.0, 1.0) else None
  )
  if temperature == 0.0:
    # argmax takes the lowest id of a tie; `invert` would take the lowest lane, 130 before 5
    token_B = jnp.argmax(away_BV, axis=-1).astype(jnp.int32)
  else:
    drawn_BV = truncate(weight_BV, total_B, top_k=top_k, top_p=top_p, min_p=min_p)
    token_B = invert(drawn_BV, uniform_B)
  chosen_B = jnp.take_along_axis(away_BV, token_B[:, None], axis=-1)[:, 0]
  return token_B, chosen_B - jnp.log(total_B)


def sample_each(logits_BV: Array, uniform_B: Array, options: Options) -> tuple[Array, Array]:
  """`sample` with options of each row's own, which need no new program."""
  greedy_B = options.temperature_B == 0
  tempered_B1 = jnp.where(greedy_B, 1, options.temperature_B)[:, None]
  away_BV, weight_BV, total_B = _weights(logits_BV, tempered_B1)
  token_B = invert(_truncate_each(weight_BV, options), uniform_B)
  token_B = jnp.where(greedy_B, jnp.argmax(away_BV, axis=-1), token_B).astype(jnp.int32)
  chosen_B = jnp.take_along_axis(away_BV, token_B[:, None], axis=-1)[:, 0]
  return token_B, chosen_B - jnp.log(total_B)


def _weights(logits_BV: Array, temperature: Any) -> tuple[Array, Array, Array]:
  """(z - max z, its exponential, the sum of that per row) of tempered logits z; None: as they are.

  The exponentials are at most 1: no overflow at any temperature.
  """
  # f32: in bf16 a sum over 150,000 weights stops at 256, where adding 1 changes nothing
  logits_BV = logits_BV.astype(jnp.promote_types(logits_BV.dtype, jnp.float32))
  z_BV = logits_BV if temperature is None else logits_BV / temperature
  away_BV = z_BV - jnp.max(z_BV, axis=-1, keepdims=True)
  weight_BV = jnp.exp(away_BV)
  return away_BV, weight_BV, lane_sums(weight_BV).sum(-1)


def _truncate_each(weight_BV: Array, options: Options) -> Array:
  """`truncate` by options of each row's own. A limit of infinity leaves a row whole."""

  def kept(weight_BV, on_B, limit_B, measure):
    limit_B = jnp.where(on_B, limit_B, jnp.inf)
    # 30 passes over the vocabulary, for rows that ask for them alone
    return jax.lax.cond(
      on_B.any(),
      lambda: jnp.where(weight_BV >= _threshold(weight_BV, limit_B, measure), weight_BV, 0),
      lambda: weight_BV,
    )

  k_B, p_B = options.top_k_B, options.top_p_B
  weight_BV = kept(weight_BV, k_B > 0, k_B.astype(weight_BV.dtype), jnp.ones_like)
  limit_B = p_B * lane_sums(weight_BV).sum(-1)
  weight_BV = kept(weight_BV, p_B < 1, limit_B, lambda w: w)
  return jnp.where(weight_BV >= options.min_p_B[:, None], weight_BV, 0)


def truncate(weight_BV: Array, total_B: Array, *, top_k: int, top_p: float, min_p: float) -> Array:
  """`weight_BV` (at most 1, the largest exactly 1, sum `total_B`) with zeros outside the kept set.

  top_k keeps the entries that fewer than k exceed; top_p then those whose larger entries hold less
  than the share top_p of what is left; min_p those of at least min_p. The largest are always kept.
  """

  def kept(least):
    return jnp.where(weight_BV >= least, weight_BV, 0)

  if 0 < top_k < weight_BV.shape[-1]:
    weight_BV = kept(_threshold(weight_BV, jnp.asarray(float(top_k)), jnp.ones_like))
    total_B = lane_sums(weight_BV).sum(-1)
  if top_p < 1.0:
    weight_BV = kept(_threshold(weight_BV, top_p * total_B, lambda w: w))
  # of weights, not probabilities: the largest weight is 1, so the ratio needs no division
  return kept(min_p) if min_p > 0.0 else weight_BV


def _threshold(weight_BV: Array, limit_B: Array, measure) -> Array:
  """Smallest t >= 0 [B, 1] such that the `measure` of entries above t sums to less than the limit.

  Entries >= t are the kept ones: bisection on bit patterns, whose order is that of non-negative
  floats, ends at the exact value after as many steps as a float has bits.
  """
  size = weight_BV.dtype.itemsize
  limit_B = jnp.broadcast_to(limit_B, weight_BV.shape[:1])

  def value(bits):
    return jax.lax.bitcast_convert_type(bits, weight_BV.dtype)

  def body(_, bounds):
    low_B, high_B = bounds  # high satisfies the condition; low does not, or is 0
    middle_B = low_B + (high_B - low_B) // 2
    above_BV = weight_BV > value(middle_B)[:, None]
    sum_B = lane_sums(jnp.where(above_BV, measure(weight_BV), 0)).sum(-1)
    fits_B = sum_B < limit_B
    return jnp.where(fits_B, low_B, middle_B), jnp.where(fits_B, middle_B, high_B)

  ones_B = jnp.ones_like(limit_B, weight_BV.dtype)
  top_B = jax.lax.bitcast_convert_type(ones_B, jnp.int32 if size == 4 else jnp.int64)
  steps = 8 * size - 2  # the bits below the pattern of 1.0
  _, high_B = jax.lax.fori_loop(0, steps, body, (jnp.zeros_like(top_B), top_B))
  return value(high_B)[:, None]


def lane_sums(x_BV: Array) -> Array:
  """Sums [B, LANES] over entries of the vocabulary that are LANES apart."""
  # a sum along V itself would run scalar on a CPU: lanes are what its vectors add side by side
  return _by_lane(x_BV).sum(axis=-2)


def _by_lane(x_BV: Array) -> Array:
  """[B, V] -> [B, V / LANES, LANES], zeros after the end."""
  x_BV = jnp.pad(x_BV, ((0, 0), (0, -x_BV.shape[-1] % LANES)))
  return x_BV.reshape(x_BV.shape[0], -1, LANES)


def _first_beyond(weight: Array, target: Array) -> tuple[Array, Array]:
  """(index, sum before it) of the first entry whose running sum exceeds `target`.

  Rounding can leave no such entry, and a parallel running sum need not be monotone: only entries of
  positive weight qualify, and where none does the last positive one is taken.
  """
  running = jnp.cumsum(weight, axis=-1)
  beyond = (running > target[:, None]) & (weight > 0)
  last = weight.shape[-1] - 1 - jnp.argmax(weight[:, ::-1] > 0, axis=-1)
  index = jnp.where(beyond.any(-1), jnp.argmax(beyond, axis=-1), last)
  pick = functools.partial(jnp.take_along_axis, indices=index[:, None], axis=-1)
  return index, (pick(running) - pick(weight))[:, 0]


def invert(weight_BV: Array, uniform_B: Array) -> Array:
  """token_B, int32: inverts the distribution function of the weights at `uniform_B` in [0, 1).

  The function runs through the vocabulary lane by lane (ids j, j + LANES, …), which is as good an
  order as any. Entries of weight 0 are never returned.
  """
  lanes_BIJ = _by_lane(weight_BV)
  sums_BJ = lanes_BIJ.sum(axis=-2)
  target_B = uniform_B.astype(weight_BV.dtype) * sums_BJ.sum(-1)
  lane_B, before_B = _first_beyond(sums_BJ, target_B)
  column_BI = jnp.take_along_axis(lanes_BIJ, lane_B[:, None, None], axis=2)[:, :, 0]
  entry_B, _ = _first_beyond(column_BI, target_B - before_B)
  return (entry_B * LANES + lane_B).astype(jnp.int32)
