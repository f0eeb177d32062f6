"""Log-probabilities and entropies of given tokens, without [B, T, V] ever existing.

The *vocabulary* is cut into blocks: a scan makes the logits of one block for all tokens, folds them
into a running logsumexp, and drops them; the backward pass makes them once more and writes the
gradient of that block of the head. So every column of the head enters one step only: under FSDP the
head is gathered once a pass and its gradient reduced once (a scan over tokens does both in each of
its steps), and no [D, V] accumulator is read again and again. Under `tensor` each device holds a
run of the vocabulary, and a block takes an equal piece of every run, so no column moves.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.ops.cpu import outer
from gtalign_jax.types import Array

# entries whose logits exist at once, for every token: 256 MB in f32 for 16 rows of 1,024 tokens
BLOCK = 4096
RUNS = 8  # contiguous runs of the vocabulary that a block takes pieces of; covers tensor <= 8


class Allowed(NamedTuple):
  """Which entries a token is drawn from. class_V: int32 class of each. classes_BTC: bool."""

  class_V: Array
  classes_BTC: Array


def token_logprobs(
  hidden_BTD,
  head_DV,
  tokens_BT,
  *,
  temperature=1.0,
  softcap=None,
  blank=(),
  allowed: Allowed | None = None,
  block=BLOCK,
) -> tuple[Array, Array]:
  """Log-probability of `tokens_BT` and entropy of the distribution each was drawn from.

  hidden_BTD: states that predict tokens_BT (already shifted); their dtype is that of the matmuls.
  head_DV: output matrix, cast to it (its gradient is summed in f32 or wider). Logits are
  softcap * tanh(x / softcap) where a softcap is given, then divided by `temperature`. blank: runs
  [first, end) of entries that have no part in the distribution; allowed: those that have one (None:
  all). block: vocabulary entries in memory at once; temporaries take about B * T * block * 4 bytes.
  Returns (logp_BT, entropy_BT) in nats, at least f32; both differentiable with respect to hidden
  states and head.
  """
  runs = math.gcd(head_DV.shape[1], RUNS)
  run = head_DV.shape[1] // runs
  width = max(1, min(run, block // runs))
  plan = _Plan(float(temperature), float(softcap or 0), blank, runs, run, width)
  return _logprobs(hidden_BTD, head_DV, tokens_BT, allowed, plan)


class _Plan(NamedTuple):
  """Static sizes. V = runs * run; a block is `width` neighbouring entries of every run."""

  temperature: float
  softcap: float  # 0: none
  blank: tuple[tuple[int, int], ...]
  runs: int
  run: int
  width: int

  @property
  def blocks(self) -> Array:
    return jnp.arange(-(-self.run // self.width))

  def start(self, i: Array) -> Array:
    return jnp.minimum(i * self.width, self.run - self.width)


def _block_logits(hidden_BTD, head_DRV, tokens_BT, allowed, i, plan: _Plan):
  """(logits before temperature [B, T, R, W], is it the token, the head's block [D, R, W])."""
  wide = jnp.promote_types(hidden_BTD.dtype, jnp.float32)
  start = plan.start(i)
  block_DRW = jax.lax.dynamic_slice_in_dim(head_DRV, start, plan.width, axis=2)
  z = jnp.einsum("btd,drw->btrw", hidden_BTD, block_DRW, preferred_element_type=wide)
  if plan.softcap:
    z = plan.softcap * jnp.tanh(z / plan.softcap)
  within = start + jax.lax.broadcasted_iota(jnp.int32, z.shape, 3)
  entry = within + plan.run * jax.lax.broadcasted_iota(jnp.int32, z.shape, 2)
  is_token = entry == tokens_BT[..., None, None]
  for first, end in plan.blank:
    z = jnp.where((entry >= first) & (entry < end), -jnp.inf, z)
  if allowed is not None:
    class_RV = allowed.class_V.reshape(plan.runs, plan.run)
    class_RW = jax.lax.dynamic_slice_in_dim(class_RV, start, plan.width, axis=1)
    z = jnp.where(jnp.take(allowed.classes_BTC, class_RW, axis=-1), z, -jnp.inf)
  if plan.run % plan.width:  # the last block reaches back: what an earlier one saw counts once
    fresh = within >= i * plan.width
    z, is_token = jnp.where(fresh, z, -jnp.inf), is_token & fresh
  return z, is_token, block_DRW


def _split(head_DV: Array, hidden_BTD: Array, plan: _Plan) -> Array:
  return head_DV.astype(hidden_BTD.dtype).reshape(-1, plan.runs, plan.run)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _logprobs(hidden_BTD, head_DV, tokens_BT, allowed, plan):
  return _forward(hidden_BTD, head_DV, tokens_BT, allowed, plan)[0]


def _forward(hidden_BTD, head_DV, tokens_BT, allowed, plan):
  head_DRV = _split(head_DV, hidden_BTD, plan)

  def body(carry, i):
    top_BT, total_BT, moment_BT, chosen_BT = carry
    z, is_token, _ = _block_logits(hidden_BTD, head_DRV, tokens_BT, allowed, i, plan)
    z = z / plan.temperature
    new_BT = jnp.maximum(top_BT, jnp.max(z, axis=(2, 3)))
    away = z - new_BT[..., None, None]
    weight = jnp.exp(away)
    drop_BT = top_BT - new_BT
    scale_BT = jnp.exp(drop_BT)
    # sums are relative to the running maximum: both move when it does
    moment_BT = scale_BT * (moment_BT + total_BT * drop_BT)
    # 0 * -inf: an entry that is masked out with -inf adds nothing to the entropy
    moment_BT += jnp.sum(jnp.where(weight > 0, weight * away, 0), axis=(2, 3))
    total_BT = scale_BT * total_BT + jnp.sum(weight, axis=(2, 3))
    chosen_BT += jnp.sum(jnp.where(is_token, z, 0), axis=(2, 3))
    return (new_BT, total_BT, moment_BT, chosen_BT), None

  zero_BT = jnp.zeros(tokens_BT.shape, jnp.promote_types(hidden_BTD.dtype, jnp.float32))
  lowest_BT = jnp.full_like(zero_BT, jnp.finfo(zero_BT.dtype).min / 2)  # finite: inf - inf is NaN
  begin = (lowest_BT, zero_BT, zero_BT, zero_BT)
  (top_BT, total_BT, moment_BT, chosen_BT), _ = jax.lax.scan(body, begin, plan.blocks)
  log_total_BT = jnp.log(total_BT)
  entropy_BT = log_total_BT - moment_BT / total_BT
  kept = (hidden_BTD, head_DV, tokens_BT, allowed, entropy_BT, top_BT + log_total_BT)
  # from the maximum first: their sum is rounded at its own size, by 4e-6 at 50; logp may be 1e-6
  return ((chosen_BT - top_BT) - log_total_BT, entropy_BT), kept


def _backward(plan, kept, cotangents):
  hidden_BTD, head_DV, tokens_BT, allowed, entropy_BT, lse_BT = kept
  dlogp_BT, dentropy_BT = (cotangent[..., None, None] for cotangent in cotangents)
  head_DRV, wide = _split(head_DV, hidden_BTD, plan), lse_BT.dtype

  def body(carry, i):
    dhidden_BTD, dhead_DRV = carry
    z, is_token, block_DRW = _block_logits(hidden_BTD, head_DRV, tokens_BT, allowed, i, plan)
    logq = z / plan.temperature - lse_BT[..., None, None]
    # d logp / dz = onehot - p;  d entropy / dz = -p (log p + entropy)
    q = jnp.exp(logq)
    slope = dlogp_BT + dentropy_BT * (logq + entropy_BT[..., None, None])
    dz = jnp.where(is_token, dlogp_BT, 0) - jnp.where(q > 0, q * slope, 0)
    dz = dz / plan.temperature
    if plan.softcap:  # tanh' at the capped logit; a blank entry has none
      dz = dz * jnp.where(jnp.isfinite(z), 1 - jnp.square(z / plan.softcap), 0)
    dz = dz.astype(block_DRW.dtype)
    dhidden_BTD += jnp.einsum("btrw,drw->btd", dz, block_DRW, preferred_element_type=wide)
    more_DRW = outer(hidden_BTD, dz, 2)
    start = plan.start(i)
    if plan.run % plan.width:  # part of the block has a gradient already
      more_DRW += jax.lax.dynamic_slice_in_dim(dhead_DRV, start, plan.width, axis=2)
    dhead_DRV = jax.lax.dynamic_update_slice_in_dim(dhead_DRV, more_DRW, start, axis=2)
    return (dhidden_BTD, dhead_DRV), None

  begin = (jnp.zeros(hidden_BTD.shape, wide), jnp.zeros(head_DRV.shape, wide))
  (dhidden_BTD, dhead_DRV), _ = jax.lax.scan(body, begin, plan.blocks)
  dhead_DV = dhead_DRV.reshape(head_DV.shape).astype(head_DV.dtype)
  return dhidden_BTD.astype(hidden_BTD.dtype), dhead_DV, None, None


_logprobs.defvjp(_forward, _backward)
