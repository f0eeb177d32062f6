"""models/decode.py for XLA:CPU: the same functions, laid out for speed there.

Activations are columns, [D, B]: with weights stored as [out, in], a product of few rows runs at
115-180 GFLOP/s on 2 CPU cores against 65-165 for [B, in] x [in, out] (docs/performance.md), so
decoding reads a transposed copy of the layers, with q, k, v and gate, up fused. Keys are [P, K, H,
S] and [P, K, G, H, C]: in the loop the product with the prompts' keys then takes a third of the
time, and that of R queries with a row's keys is fastest as one fused multiply and sum along H.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gtalign_jax.models import decode
from gtalign_jax.models.attention import Angles
from gtalign_jax.models.decode import CACHE_AXES as CACHE_AXES
from gtalign_jax.models.decode import SLOTS, Layers, View
from gtalign_jax.models.layers import ACTIVATIONS
from gtalign_jax.models.variants import Arch
from gtalign_jax.ops.cpu import tensordot, turned
from gtalign_jax.types import Context, KVCache

GROWS = True  # a CPU reads every slot for every token, so the caches grow with what is written
KEY_SLOTS = SLOTS + 1  # axis C of the keys [P, K, G, H, C]
Part = tuple[jax.Array, jax.Array | None]  # kernel [out, in], bias [out]


def prepare(params: Any) -> Layers:
  """Weights of each layer as [out, in]; arguments and errors as in `decode.prepare`."""
  return tuple(map(_layer, decode.prepare(params)))


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
  def matrix(name: str, inputs: int = 1) -> jax.Array:
    kernel = layer[name]["kernel"]
    width = 1
    for size in kernel.shape[:inputs]:
      width *= size
    return kernel.reshape(width, -1).T

  def bias(name: str) -> jax.Array | None:
    return layer[name]["bias"].reshape(-1) if "bias" in layer[name] else None

  def together(*names: str) -> Part:
    # one product instead of several: each costs a pass over x and a start of the thread pool
    biases = [each for each in map(bias, names) if each is not None]  # of all parts or of none
    joined = jnp.concatenate(biases) if biases else None
    return jnp.concatenate([matrix(name) for name in names]), joined

  return {
    "qkv": together("q", "k", "v"),
    "o": (matrix("o", 2), bias("o")),
    "gate_up": together("gate", "up"),
    "down": (matrix("down"), bias("down")),
    "norms": {name: part["scale"] for name, part in layer.items() if "scale" in part},
  }


def prompt_cache(cache: KVCache) -> KVCache:
  """Keys [P, K, H, S] and values [P, K, S, H] of prompts, f32.

  A CPU would widen a narrow cache anew for every token.
  """
  cache = jax.tree.map(lambda x: x.astype(jnp.float32), cache)
  return decode.prompt_cache(cache._replace(k=cache.k.swapaxes(-1, -2)))


def empty(arch: Arch, prompts: int, group_size: int, slots: int, dtype: Any) -> KVCache:
  """Row caches, C = `slots`: L arrays [P, K, G, H, C] of keys and [P, K, G, C, H] of values."""
  outer = (prompts, arch.num_kv_heads, group_size)
  keys = decode.zeros(arch, (*outer, arch.head_dim, slots), dtype)
  return KVCache(keys, decode.zeros(arch, (*outer, slots, arch.head_dim), dtype))


def grow(row_cache: KVCache, slots: int) -> KVCache:
  """Row caches with room for `slots` tokens; what they hold is kept."""
  keys = tuple(decode.padded(x, slots, KEY_SLOTS) for x in row_cache.k)
  return KVCache(keys, tuple(decode.padded(x, slots, SLOTS) for x in row_cache.v))


def _apply(part: Part, x_DB: jax.Array, sizes: tuple[int, ...]) -> list[jax.Array]:
  """A product with x, as arrays of `sizes` rows each."""
  matrix, bias = part
  y = tensordot(matrix.astype(x_DB.dtype), x_DB, ([1], [0]))
  y = y if bias is None else y + bias.astype(y.dtype)[:, None]
  if len(sizes) == 1:
    return [y]
  return jnp.split(y, [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)])


def _norm(arch: Arch, x: jax.Array, scale: jax.Array, axis: int) -> jax.Array:
  """layers.RMSNorm over `axis`."""
  wide = x.astype(jnp.float32)
  root = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=axis, keepdims=True) + arch.norm_eps)
  factor = arch.norm_offset + scale.astype(jnp.float32)
  shape = [1] * x.ndim
  shape[axis] = -1
  return (wide * root * factor.reshape(shape)).astype(x.dtype)


def _rotate(x_NHB: jax.Array, by: Angles) -> jax.Array:
  """attention.rotate for columns; `by` holds cos and sin as [H/2, B]."""
  first, second = jnp.split(x_NHB.astype(jnp.float32), 2, axis=1)
  both = [first * by.cos - second * by.sin, second * by.cos + first * by.sin]
  return jnp.concatenate(both, axis=1).astype(x_NHB.dtype)


def _columns(view: View) -> View:
  """The view with its angles as [H/2, B]."""
  by = view.angles
  return view._replace(angles=Angles(by.cos[:, 0].T, by.sin[:, 0].T))


def _written(cache: jax.Array, new_KHPG: jax.Array, slot: jax.Array, axis: int) -> jax.Array:
  """One layer's row cache with the rows' newest keys or values in `slot` of `axis`."""
  new = jnp.expand_dims(new_KHPG.transpose(2, 0, 3, 1), axis).astype(cache.dtype)
  return jax.lax.dynamic_update_slice_in_dim(cache, new, slot, axis)


def _row_logits(q_PKGRH: jax.Array, k_PKGHC: jax.Array) -> jax.Array:
  """Products of each row's queries with its own keys, [P, K, G, R, C] f32."""
  wide = k_PKGHC.astype(jnp.float32)[:, :, :, None]
  return jnp.sum(q_PKGRH.astype(jnp.float32)[..., None] * wide, axis=4)


def _prompt_logits(q_PKGRH: jax.Array, k_PKHS: jax.Array) -> jax.Array:
  """Products of the queries of a prompt's rows with its keys, [P, K, G, R, S] f32."""
  q_PKGRH = q_PKGRH.astype(k_PKHS.dtype)
  return jnp.einsum("pkgrh,pkhs->pkgrs", q_PKGRH, k_PKHS, preferred_element_type=jnp.float32)


def step(
  arch: Arch,
  params: Any,
  layers: Layers,
  token_B: jax.Array,
  position_B: jax.Array,
  context: Context,
  row_cache: KVCache,
  slot: jax.Array,
  count_B: jax.Array,
  *,
  dtype: str = "float32",
) -> tuple[jax.Array, KVCache]:
  """One token per row, as `decode.step`, on columns."""
  P, K, G, C, H = row_cache.v[0].shape
  N, R = arch.num_heads, arch.num_heads // arch.num_kv_heads
  view_of = decode.views(arch, position_B, context, C, slot, count_B)
  views = {window: _columns(view_of(window)) for window in dict.fromkeys(arch.windows)}
  x_DB = turned(decode.embed(arch, params, token_B, dtype))
  if arch.embed_scale != 1.0:
    x_DB = x_DB * jnp.asarray(arch.embed_scale, x_DB.dtype)
  keys, values = [], []
  for i, (layer, window) in enumerate(zip(layers, arch.windows, strict=True)):
    view, norms = views[window], layer["norms"]
    normed = _norm(arch, x_DB, norms["attn_norm"], 0)
    q, k, v = _apply(layer["qkv"], normed, (N * H, K * H, K * H))
    q_NHB, k_KHB = q.reshape(N, H, -1), k.reshape(K, H, -1)
    if arch.qk_norm:
      q_NHB = _norm(arch, q_NHB, norms["q_norm"], 1)
      k_KHB = _norm(arch, k_KHB, norms["k_norm"], 1)
    q_KRHPG = _rotate(q_NHB, view.angles).reshape(K, R, H, P, G)
    k_KHPG, v_KHPG = _rotate(k_KHB, view.angles).reshape(K, H, P, G), v.reshape(K, H, P, G)
    row_k = _written(row_cache.k[i], k_KHPG, slot, KEY_SLOTS)
    row_v = _written(row_cache.v[i], v_KHPG, slot, SLOTS)
    q_PKGRH = q_KRHPG.transpose(3, 0, 4, 1, 2)
    row = _row_logits(q_PKGRH, row_k)
    prompt = _prompt_logits(q_PKGRH, context.cache.k[i])
    out_PKGRH = decode.attend(row, prompt, row_v, context.cache.v[i], view, arch.scale)
    out_DB = out_PKGRH.astype(x_DB.dtype).transpose(1, 3, 4, 0, 2).reshape(N * H, -1)
    (update,) = _apply(layer["o"], out_DB, (arch.width,))
    if arch.post_norms:
      update = _norm(arch, update, norms["post_attn_norm"], 0)
    x_DB = x_DB + update
    normed = _norm(arch, x_DB, norms["mlp_norm"], 0)
    gate, up = _apply(layer["gate_up"], normed, (arch.mlp_width, arch.mlp_width))
    (update,) = _apply(layer["down"], ACTIVATIONS[arch.activation](gate) * up, (arch.width,))
    if arch.post_norms:
      update = _norm(arch, update, norms["post_mlp_norm"], 0)
    x_DB = x_DB + update
    keys.append(row_k)
    values.append(row_v)
  hidden_BD = turned(_norm(arch, x_DB, params["norm"]["scale"], 0))
  return hidden_BD, KVCache(tuple(keys), tuple(values))
