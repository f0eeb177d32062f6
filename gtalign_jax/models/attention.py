"""Attention, its masks and rotary positions: pure functions of arrays."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.models.variants import Rope

# finite: a query with nothing to attend to gets the mean of all values instead of NaN
MASKED = -1e30


def inverse_frequencies(rope: Rope, head_dim: int) -> np.ndarray:
  """Angle per position of each pair of a head, f32 [H/2].

  `llama3`: wavelengths beyond the original context are stretched by `factor`, short ones are kept,
  and those in between are interpolated (Llama 3.1; transformers `modeling_rope_utils`).
  """
  frequency = rope.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
  if rope.kind == "linear":
    frequency = frequency / rope.factor
  elif rope.kind == "llama3":
    turns = rope.original_positions * frequency / (2 * math.pi)  # within the original context
    span = rope.high_freq_factor - rope.low_freq_factor
    keep = np.clip((turns - rope.low_freq_factor) / span, 0.0, 1.0)
    frequency = (1 - keep) * frequency / rope.factor + keep * frequency
  return frequency.astype(np.float32)


class Angles(NamedTuple):
  """cos and sin of the rotary angles of each position, f32 [..., 1, H/2] (1 = any head)."""

  cos: jax.Array
  sin: jax.Array


def angles(rope: Rope, head_dim: int, positions: jax.Array) -> Angles:
  """Angles of int32 `positions` of any shape."""
  # f32: bf16 cannot hold position 257 and rope then repeats.
  phase = positions[..., None, None].astype(jnp.float32) * inverse_frequencies(rope, head_dim)
  return Angles(jnp.cos(phase), jnp.sin(phase))


def rotate(x: jax.Array, by: Angles, axis: int = -1) -> jax.Array:
  """Rotates pairs (i, i + H/2) of each head along `axis`, x: [..., heads, H] or [heads, H, B]."""
  first, second = jnp.split(x.astype(jnp.float32), 2, axis)
  turned = [first * by.cos - second * by.sin, second * by.cos + first * by.sin]
  return jnp.concatenate(turned, axis).astype(x.dtype)


def causal_mask(positions_BT: jax.Array, mask_BT: jax.Array, window: int) -> jax.Array:
  """Which slots each token sees, bool [B, T, T]: real ones up to its own slot, inside the window.

  The order is that of slots; the window (0 = none) is counted in positions.
  """
  T = positions_BT.shape[1]
  seen_BTT = jnp.tril(jnp.ones((T, T), bool)) & mask_BT[:, None, :].astype(bool)
  if window:
    seen_BTT &= positions_BT[:, :, None] - positions_BT[:, None, :] < window
  return seen_BTT


def context_mask(positions_BT, positions_PS, mask_PS, window: int) -> jax.Array:
  """Which context slots each token sees, bool [P, G or 1, T or 1, S]."""
  P = mask_PS.shape[0]
  seen_PGTS = mask_PS[:, None, None, :].astype(bool)
  if window:
    at_PGT1 = positions_BT.reshape(P, -1, positions_BT.shape[1])[..., None]
    seen_PGTS = seen_PGTS & (at_PGT1 - positions_PS[:, None, None, :] < window)
  return seen_PGTS


class Shared(NamedTuple):
  """One layer's keys and values of the prompts, and what each query sees of them.

  k, v: [P, K, S, H]. mask: bool, broadcasts to [P, G, T, S].
  """

  k: jax.Array
  v: jax.Array
  mask: jax.Array


def attend_shared(q_BTNH, k_BKCH, v_BKCH, mask_BTC, shared: Shared, scale: float) -> jax.Array:
  """Attention to own slots and to those of the row's prompt (row b: prompt b // G), [B, T, N, H].

  One softmax over both parts, computed part by part and merged, so that the prompt's keys and
  values are neither copied G times nor concatenated. mask_BTC broadcasts over B and T.
  """
  B, T, N, H = q_BTNH.shape
  P, K = shared.k.shape[:2]
  G, M = B // P, T * (N // K)  # M: queries of one row that share a key head
  # a row's queries and then a prompt's rows side by side, so that each head's keys are read once
  q_BKMH = jnp.swapaxes(q_BTNH.reshape(B, T, K, N // K, H), 1, 2).reshape(B, K, M, H)
  q_PKXH = jnp.swapaxes(q_BKMH.reshape(P, G, K, M, H), 1, 2).reshape(P, K, G * M, H)
  far = _scores(q_PKXH, shared.k, scale).reshape(P, K, G, T, N // K, -1)
  near = _scores(q_BKMH, k_BKCH, scale).reshape(B, K, T, N // K, -1)
  far = jnp.where(shared.mask[:, None, :, :, None, :], far, MASKED)
  near = jnp.where(mask_BTC[:, None, :, None, :], near, MASKED)

  def by_row(x):  # [P, K, G, …] -> [B, K, …]
    return jnp.swapaxes(x, 1, 2).reshape(B, K, *x.shape[3:])

  def by_prompt(x):  # [B, K, …] -> [P, K, G, …]
    return jnp.swapaxes(x.reshape(P, G, *x.shape[1:]), 1, 2)

  # the maximum cancels out of the result, and would only cost a backward pass
  top = jax.lax.stop_gradient(jnp.maximum(by_row(far.max(-1)), near.max(-1)))
  far, near = jnp.exp(far - by_prompt(top)[..., None]), jnp.exp(near - top[..., None])
  total = by_row(far.sum(-1)) + near.sum(-1)
  out_PKXH = _values(far.reshape(P, K, G * M, -1), shared.v)
  out = by_row(out_PKXH.reshape(P, K, G, T, N // K, H))
  out += _values(near.reshape(B, K, M, -1), v_BKCH).reshape(out.shape)
  out_BKTRH = (out / total[..., None]).astype(q_BTNH.dtype)
  return jnp.swapaxes(out_BKTRH, 1, 2).reshape(B, T, N, H)


# Plain batched matrix products, [B, K] first: on CPU any other order of the result costs 20 times
# as much.
def _scores(q_BKMH: jax.Array, k_BKSH: jax.Array, scale: float) -> jax.Array:
  f32 = jnp.float32
  return jnp.einsum("bkmh,bksh->bkms", q_BKMH, k_BKSH, preferred_element_type=f32) * scale


def _values(weight_BKMS: jax.Array, v_BKSH: jax.Array) -> jax.Array:
  weight_BKMS = weight_BKMS.astype(v_BKSH.dtype)
  return jnp.einsum("bkms,bksh->bkmh", weight_BKMS, v_BKSH, preferred_element_type=jnp.float32)
