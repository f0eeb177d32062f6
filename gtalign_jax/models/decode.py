"""One token a row through the decoder, laid out for speed; the same function as `decoder.forward`.

Activations are columns, [D, B]: with weights stored as [out, in], a product of few rows runs at 115-180
GFLOP/s on 2 CPU cores against 65-165 for [B, in] x [in, out] (docs/performance.md), so CPU decoding
reads a transposed copy of the layers, q, k, v and gate, up fused. Elsewhere the layers are read as they are.
Attention has two parts under one softmax: the prompt's keys and values, one copy for its G rows, and
each row's own. Caches are [P, K, S, H] and [P, K, G, C, H], so that no part is transposed to meet the other; on CPU
keys are [P, K, H, S] and [P, K, G, H, C]: in the loop the product with prompts' keys then takes a third of the
time, and that of R queries with own keys is fastest as one fused multiply and sum along H (docs/performance.md).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.models.attention import MASKED, Angles, angles, context_mask
from gtalign_jax.models.layers import ACTIVATIONS
from gtalign_jax.models.variants import Arch
from gtalign_jax.ops.linear import tensordot, turned
from gtalign_jax.parallel.sharding import constrain
from gtalign_jax.types import Context, KVCache

CACHE_AXES = ("batch", "kv_heads", None, None, None)
SLOTS = 3  # axis C of [P, K, G, C, H]


def unstack(tree: Any) -> tuple[Any, ...]:
  """A tree of arrays [L, …] as a tuple of L trees; a tuple is returned as it is."""
  if isinstance(tree, tuple):
    return tree
  layers = jax.tree.leaves(tree)[0].shape[0]
  return tuple(jax.tree.map(lambda x, i=i: x[i], tree) for i in range(layers))


def on_columns() -> bool:
  """Whether decoding here is faster on a transposed copy of the layers (CPU)."""
  return jax.default_backend() == "cpu"


def prepare(params: Any, transposed: bool) -> tuple[dict[str, Any], ...]:
  """One dict of weights a layer, from parameters without adapters (models/lora.py `merge`).

  Matrices are [out, in] if transposed, else [in, out]. Raises ValueError on adapters.
  """
  if any("lora_a" in part for part in params["layers"].values()):
    raise ValueError("decode.prepare reads plain weights; lora.merge the adapters first")
  return tuple(_layer(layer, transposed) for layer in unstack(params["layers"]))


def _layer(layer: dict[str, Any], transposed: bool) -> dict[str, Any]:
  def matrix(name: str, inputs: int = 1) -> jax.Array:
    kernel = layer[name]["kernel"]
    width = 1
    for size in kernel.shape[:inputs]:
      width *= size
    kernel = kernel.reshape(width, -1)
    return kernel.T if transposed else kernel

  def bias(name: str) -> jax.Array | None:
    return layer[name]["bias"].reshape(-1) if "bias" in layer[name] else None

  def together(*names: str) -> tuple[tuple[jax.Array, jax.Array | None], ...]:
    parts = [(matrix(name), bias(name)) for name in names]
    if not transposed:
      return tuple(parts)
    kernels, biases = zip(*parts)
    return ((jnp.concatenate(kernels), None if biases[0] is None else jnp.concatenate(biases)),)

  return {
    "qkv": together("q", "k", "v"),
    "o": ((matrix("o", 2), bias("o")),),
    "gate_up": together("gate", "up"),
    "down": ((matrix("down"), bias("down")),),
    "norms": {name: part["scale"] for name, part in layer.items() if "scale" in part},
  }


def prompt_cache(cache: KVCache, *, transposed: bool) -> KVCache:
  """Keys and values of prompts [L, P, K, S, H] as `step` reads them: two tuples of L arrays [P, K, S, H].

  If transposed the keys are [P, K, H, S], and both f32: a CPU would widen a narrow cache anew for every token.
  """
  if transposed:
    cache = jax.tree.map(lambda x: x.astype(jnp.float32), cache)
    cache = cache._replace(k=cache.k.swapaxes(-1, -2))
  return KVCache(unstack(cache.k), unstack(cache.v))


def empty(
  arch: Arch, prompts: int, group_size: int, slots: int, dtype: Any, *, transposed: bool
) -> KVCache:
  """Caches of the rows' own tokens, slots C: two tuples of L arrays [P, K, G, C, H].

  Those of the keys are [P, K, G, H, C] if transposed.
  """
  inner = (slots, arch.head_dim)

  def arrays(inner):
    # one array a layer: the loop updates each in place, a stacked cache would be copied
    zeros = jnp.zeros((prompts, arch.num_kv_heads, group_size, *inner), dtype)
    return tuple(constrain(zeros, CACHE_AXES) for _ in range(arch.num_layers))

  return KVCache(arrays(inner[::-1] if transposed else inner), arrays(inner))


def grow(own: KVCache, slots: int, *, transposed: bool) -> KVCache:
  """Caches of `empty` with room for `slots` slots; what they hold is kept."""

  def pad(x, axis):
    widths = [(0, slots - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
    return constrain(jnp.pad(x, widths), CACHE_AXES)

  return KVCache(
    tuple(pad(x, SLOTS + transposed) for x in own.k), tuple(pad(x, SLOTS) for x in own.v)
  )


def _apply(parts: Any, x_DB: jax.Array, sizes: tuple[int, ...], transposed: bool):
  """Products of one or several matrices with x, as arrays of `sizes` rows each."""
  out = []
  for matrix, bias in parts:
    y = tensordot(matrix.astype(x_DB.dtype), x_DB, ([1 if transposed else 0], [0]))
    out.append(y if bias is None else y + bias.astype(y.dtype)[:, None])
  if len(out) == len(sizes):
    return out
  return jnp.split(out[0], [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)])


def _norm(arch: Arch, x: jax.Array, scale: jax.Array, axis: int) -> jax.Array:
  """RMS norm over `axis` (layers.RMSNorm for columns)."""
  wide = x.astype(jnp.float32)
  root = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=axis, keepdims=True) + arch.norm_eps)
  factor = arch.norm_offset + scale.astype(jnp.float32)
  shape = [1] * x.ndim
  shape[axis] = -1
  return (wide * root * factor.reshape(shape)).astype(x.dtype)


def _rotate(x_NHB: jax.Array, by: Angles) -> jax.Array:
  """attention.rotate for columns; `by` holds cos and sin as [H/2, B]."""
  first, second = jnp.split(x_NHB.astype(jnp.float32), 2, axis=1)
  turned = [first * by.cos - second * by.sin, second * by.cos + first * by.sin]
  return jnp.concatenate(turned, axis=1).astype(x_NHB.dtype)


class _View(NamedTuple):
  """Angles as [H/2, B], own slots seen [P, 1, G, 1, C], context slots seen [P, 1, G or 1, 1, S]."""

  angles: Angles
  own: jax.Array
  context: jax.Array


def _view(
  arch: Arch, rope, window: int, position_B, context: Context, slots: int, slot, count_B
) -> _View:
  by = angles(rope, arch.head_dim, position_B)
  ago_C = (slot - jnp.arange(slots, dtype=jnp.int32)) % slots  # tokens since it was written
  own_BC = ago_C < count_B[:, None]
  if window:
    own_BC &= ago_C < window
  seen_PGTS = context_mask(position_B[:, None], context.positions_PS, context.mask_PS, window)
  own = own_BC.reshape(context.mask_PS.shape[0], 1, -1, 1, slots)
  return _View(Angles(by.cos[:, 0].T, by.sin[:, 0].T), own, seen_PGTS[:, None])


def _near_logits(q_PKGRH, k, transposed: bool) -> jax.Array:
  """Products of each row's queries with its own keys, [P, K, G, R, C] f32."""
  f32 = jnp.float32
  if transposed:
    k_PKGHC = k.astype(f32)
    return jnp.sum(q_PKGRH.astype(f32)[..., None] * k_PKGHC[:, :, :, None], axis=4)
  return jnp.einsum("pkgrh,pkgch->pkgrc", q_PKGRH, k, preferred_element_type=f32)


def _far_logits(q_PKGRH, k, transposed: bool) -> jax.Array:
  """Products of the queries of a prompt's rows with its keys, [P, K, G, R, S] f32."""
  keys = "pkhs" if transposed else "pksh"
  q_PKGRH = q_PKGRH.astype(k.dtype)
  return jnp.einsum(f"pkgrh,{keys}->pkgrs", q_PKGRH, k, preferred_element_type=jnp.float32)


def _attend(near, far, v_PKGCH, far_v_PKSH, view: _View, scale: float):
  """Attention of one query a row to its own slots and its prompt, f32 [P, K, G, R, H].

  near, far: of `_near_logits` and `_far_logits`.
  """
  f32, dtype = jnp.float32, far_v_PKSH.dtype
  far = jnp.where(view.context, far * scale, MASKED)
  near = jnp.where(view.own, near * scale, MASKED)
  top = jnp.maximum(far.max(-1, keepdims=True), near.max(-1, keepdims=True))
  far, near = jnp.exp(far - top), jnp.exp(near - top)
  total = far.sum(-1, keepdims=True) + near.sum(-1, keepdims=True)
  out = jnp.einsum("pkgrs,pksh->pkgrh", far.astype(dtype), far_v_PKSH, preferred_element_type=f32)
  out += jnp.einsum("pkgrc,pkgch->pkgrh", near.astype(dtype), v_PKGCH, preferred_element_type=f32)
  return out / total


def step(
  arch: Arch,
  params: Any,
  layers: tuple[dict[str, Any], ...],
  token_B: jax.Array,
  position_B: jax.Array,
  context: Context,
  own: KVCache,
  slot: jax.Array,
  count_B: jax.Array,
  *,
  transposed: bool,
  dtype: str = "float32",
) -> tuple[jax.Array, KVCache]:
  """Feeds one token a row; returns its hidden state after the final norm [B, D] and the caches.

  params: embedding and final norm are read; layers: of `prepare`. own: of `empty`, a ring of C slots:
  `slot` is written, and each row attends to its newest count_B, this one included (1 <= count_B <= C),
  its positions being consecutive. context: of P prompts, its cache of `prompt_cache`; row b belongs to
  prompt b // (B / P). transposed: as in `prepare`.
  """
  P, K, G, C, H = own.v[0].shape
  N, R = arch.num_heads, arch.num_heads // arch.num_kv_heads
  full = local = None
  if 0 in arch.windows:
    full = _view(arch, arch.rope, 0, position_B, context, C, slot, count_B)
  for window in {window for window in arch.windows if window}:
    local = _view(arch, arch.local_rope or arch.rope, window, position_B, context, C, slot, count_B)
  apply = functools.partial(_apply, transposed=transposed)
  x_DB = turned(jnp.take(params["embed"]["table"], token_B, axis=0).astype(dtype))
  if arch.embed_scale != 1.0:
    x_DB = x_DB * jnp.asarray(arch.embed_scale, x_DB.dtype)
  keys, values = [], []
  for i, (layer, window) in enumerate(zip(layers, arch.windows, strict=True)):
    view, norms = local if window else full, layer["norms"]
    assert view is not None
    normed = _norm(arch, x_DB, norms["attn_norm"], 0)
    q, k, v = apply(layer["qkv"], normed, (N * H, K * H, K * H))
    q_NHB, k_KHB = q.reshape(N, H, -1), k.reshape(K, H, -1)
    if arch.qk_norm:
      q_NHB = _norm(arch, q_NHB, norms["q_norm"], 1)
      k_KHB = _norm(arch, k_KHB, norms["k_norm"], 1)
    q_KRHPG = _rotate(q_NHB, view.angles).reshape(K, R, H, P, G)
    k_KHPG, v_KHPG = _rotate(k_KHB, view.angles).reshape(K, H, P, G), v.reshape(K, H, P, G)
    own_k, own_v = (
      jax.lax.dynamic_update_slice_in_dim(
        cache, jnp.expand_dims(new.transpose(2, 0, 3, 1), axis).astype(cache.dtype), slot, axis
      )
      for cache, new, axis in ((own.k[i], k_KHPG, SLOTS + transposed), (own.v[i], v_KHPG, SLOTS))
    )
    q_PKGRH = q_KRHPG.transpose(3, 0, 4, 1, 2)
    near = _near_logits(q_PKGRH, own_k, transposed)
    far = _far_logits(q_PKGRH, context.cache.k[i], transposed)
    out_PKGRH = _attend(near, far, own_v, context.cache.v[i], view, arch.scale).astype(x_DB.dtype)
    (update,) = apply(
      layer["o"], out_PKGRH.transpose(1, 3, 4, 0, 2).reshape(N * H, -1), (arch.width,)
    )
    if arch.post_norms:
      update = _norm(arch, update, norms["post_attn_norm"], 0)
    x_DB = x_DB + update
    normed = _norm(arch, x_DB, norms["mlp_norm"], 0)
    gate, up = apply(layer["gate_up"], normed, (arch.mlp_width, arch.mlp_width))
    (update,) = apply(layer["down"], ACTIVATIONS[arch.activation](gate) * up, (arch.width,))
    if arch.post_norms:
      update = _norm(arch, update, norms["post_mlp_norm"], 0)
    x_DB = x_DB + update
    keys.append(own_k)
    values.append(own_v)
  hidden_BD = turned(_norm(arch, x_DB, params["norm"]["scale"], 0))
  return hidden_BD, KVCache(tuple(keys), tuple(values))
