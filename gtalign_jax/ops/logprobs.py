"""Log-probabilities and entropies of given tokens, without [B, T, V] ever existing.

The time axis is cut into chunks; a scan makes the logits of one chunk [B, c, V], reduces them, and
drops them. The backward pass makes them once more and emits the gradients of hidden states and head
directly. Chunks run along time because rows are split over devices (`data`, `fsdp`): a chunk then
keeps every device busy with its own rows, and no row moves. The vocabulary may be split over
`tensor`: everything over V is a reduction or a comparison with an iota, which the partitioner turns
into small all-reduces; there is no gather of logits.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from gtalign_jax.types import Array

CHUNK = 256  # rows of logits that exist at once (50 MB in f32 at V = 49,152)


def token_logprobs(
  hidden_BTD: Array,
  head_DV: Array,
  tokens_BT: Array,
  *,
  temperature: float = 1.0,
  softcap: float | None = None,
  chunk: int = CHUNK,
) -> tuple[Array, Array]:
  """Log-probability of `tokens_BT` and entropy of the distribution each was drawn from.

  hidden_BTD: states that predict tokens_BT (already shifted); their dtype is that of the matmuls.
  head_DV: output matrix, cast to it (its gradient is summed in f32 or wider). Logits are
  softcap * tanh(x / softcap) where a softcap is given, then divided by `temperature`. chunk: about
  how many of the B * T positions are in memory as logits at once, over all devices.
  Returns (logp_BT, entropy_BT) in nats, at least f32 whatever the matmul dtype; both differentiable
  with respect to hidden states and head.
  """
  B, T = tokens_BT.shape
  width = max(1, min(T, chunk // max(B, 1)))
  pad = -T % width
  hidden_BTD = jnp.pad(hidden_BTD, ((0, 0), (0, pad), (0, 0)))
  tokens_BT = jnp.pad(tokens_BT, ((0, 0), (0, pad)))
  cap = None if not softcap else float(softcap)
  logp_BT, entropy_BT = _chunked(hidden_BTD, head_DV, tokens_BT, float(temperature), cap, width)
  return logp_BT[:, :T], entropy_BT[:, :T]


def _logits(hidden_BcD: Array, head_DV: Array, temperature: float, cap: float | None) -> Array:
  wide = jnp.promote_types(hidden_BcD.dtype, jnp.float32)
  z_BcV = jnp.einsum("bcd,dv->bcv", hidden_BcD, head_DV, preferred_element_type=wide)
  if cap is not None:
    z_BcV = cap * jnp.tanh(z_BcV / cap)
  return z_BcV / temperature if temperature != 1.0 else z_BcV


def _cut(x: Array, width: int) -> Array:
  """[B, T, …] -> [T / width, B, width, …], the scanned axis first."""
  return jnp.moveaxis(x.reshape(x.shape[0], -1, width, *x.shape[2:]), 1, 0)


def _join(x: Array) -> Array:
  """Undoes `_cut`."""
  x = jnp.moveaxis(x, 0, 1)
  return x.reshape(x.shape[0], -1, *x.shape[3:])


def _is_token(z_BcV: Array, tokens_Bc: Array) -> Array:
  return jax.lax.broadcasted_iota(tokens_Bc.dtype, z_BcV.shape, 2) == tokens_Bc[..., None]


def _reduce(z_BcV: Array, tokens_Bc: Array) -> tuple[Array, Array, Array]:
  """(logp, entropy, logsumexp) of one chunk of logits."""
  top_Bc = jnp.max(z_BcV, axis=-1)
  away_BcV = z_BcV - top_Bc[..., None]
  weight_BcV = jnp.exp(away_BcV)
  total_Bc = jnp.sum(weight_BcV, axis=-1)
  # 0 * -inf: a vocabulary entry that is masked out with -inf adds nothing to the entropy
  moment_Bc = jnp.sum(jnp.where(weight_BcV > 0, weight_BcV * away_BcV, 0), axis=-1)
  chosen_Bc = jnp.sum(jnp.where(_is_token(z_BcV, tokens_Bc), away_BcV, 0), axis=-1)
  log_total_Bc = jnp.log(total_Bc)
  return chosen_Bc - log_total_Bc, log_total_Bc - moment_Bc / total_Bc, top_Bc + log_total_Bc


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _chunked(hidden_BTD, head_DV, tokens_BT, temperature, cap, width):
  return _forward(hidden_BTD, head_DV, tokens_BT, temperature, cap, width)[0]


def _forward(hidden_BTD, head_DV, tokens_BT, temperature, cap, width):
  matrix_DV = head_DV.astype(hidden_BTD.dtype)

  def body(_, x):
    hidden_BcD, tokens_Bc = x
    return None, _reduce(_logits(hidden_BcD, matrix_DV, temperature, cap), tokens_Bc)

  chunks = (_cut(hidden_BTD, width), _cut(tokens_BT, width))
  _, parts = jax.lax.scan(body, None, chunks)
  logp_BT, entropy_BT, lse_BT = map(_join, parts)
  return (logp_BT, entropy_BT), (hidden_BTD, head_DV, tokens_BT, entropy_BT, lse_BT)


def _backward(temperature, cap, width, kept, cotangents):
  hidden_BTD, head_DV, tokens_BT, entropy_BT, lse_BT = kept
  wide = lse_BT.dtype
  matrix_DV = head_DV.astype(hidden_BTD.dtype)

  def body(dhead_DV, x):
    hidden_BcD, tokens_Bc, entropy_Bc, lse_Bc, dlogp_Bc, dentropy_Bc = x
    z_BcV = _logits(hidden_BcD, matrix_DV, temperature, cap)
    logq_BcV = z_BcV - lse_Bc[..., None]
    # d logp / dz = onehot - p;  d entropy / dz = -p (log p + entropy)
    slope_BcV = dlogp_Bc[..., None] + dentropy_Bc[..., None] * (logq_BcV + entropy_Bc[..., None])
    p_BcV = jnp.exp(logq_BcV)
    dz_BcV = jnp.where(p_BcV > 0, -p_BcV * slope_BcV, 0)
    dz_BcV += jnp.where(_is_token(z_BcV, tokens_Bc), dlogp_Bc[..., None], 0)
    if temperature != 1.0:
      dz_BcV /= temperature
    if cap is not None:
      dz_BcV *= 1 - jnp.square(z_BcV * (temperature / cap))  # tanh' of the capped logit
    dz_BcV = dz_BcV.astype(matrix_DV.dtype)
    dhidden_BcD = jnp.einsum("bcv,dv->bcd", dz_BcV, matrix_DV, preferred_element_type=wide)
    more_DV = jnp.einsum("bcd,bcv->dv", hidden_BcD, dz_BcV, preferred_element_type=wide)
    return dhead_DV + more_DV, dhidden_BcD

  per_token = (hidden_BTD, tokens_BT, entropy_BT, lse_BT, *cotangents)
  zero_DV = jnp.zeros(head_DV.shape, wide)
  dhead_DV, parts = jax.lax.scan(body, zero_DV, tuple(_cut(x, width) for x in per_token))
  return _join(parts).astype(hidden_BTD.dtype), dhead_DV.astype(head_DV.dtype), None


_chunked.defvjp(_forward, _backward)
