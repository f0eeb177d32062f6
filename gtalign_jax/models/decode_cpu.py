"""models/decode.py for XLA:CPU: the same functions, laid out for speed there.

Activations are columns, [D, B]: with weights stored as [out, in], a product of few rows runs at
115-180 GFLOP/s on 2 CPU cores against 65-165 for [B, in] x [in, out] (docs/performance.md), so
decoding reads a transposed copy of the layers, with q, k, v and gate, up fused. Keys are
[P, K, H, S] and [P, K, G, H, C]: in the loop the product with the prompts' keys then takes a third
of the time, and that of R queries with a row's keys is fastest as one fused multiply and sum
along H.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from gtalign_jax.models import decode
from gtalign_jax.models.attention import Angles, rotate
from gtalign_jax.models.decode import CACHE_AXES as CACHE_AXES
from gtalign_jax.models.decode import SLOTS, Layers, View
from gtalign_jax.models.layers import heads, rest, scaled
from gtalign_jax.models.variants import Arch
from gtalign_jax.ops.cpu import tensordot, turned
from gtalign_jax.types import KVCache

GROWS = True  # a CPU reads every slot for every token, so the caches grow with what is written
KEY_SLOTS = SLOTS + 1  # axis C of the keys [P, K, G, H, C]
PROMPT_SLOTS = (3, 2)  # axis S of the keys [P, K, H, S] and of the values [P, K, S, H] of prompts
Part = tuple[jax.Array, jax.Array | None]  # kernel [out, in], bias [out]


def prepare(params: Any) -> Layers:
  """Weights of each layer as [out, in]; arguments and errors as in `decode.prepare`."""
  return tuple(map(_layer, decode.prepare(params)))


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
  def together(*names: str) -> Part:
    # one product instead of several: each costs a pass over x and a start of the thread pool
    parts, inputs = [layer[name] for name in names], 2 if names == ("o",) else 1
    kernels = [x["kernel"].reshape(math.prod(x["kernel"].shape[:inputs]), -1).T for x in parts]
    biases = [x["bias"].reshape(-1) for x in parts if "bias" in x]  # of all parts or of none
    return jnp.concatenate(kernels), jnp.concatenate(biases) if biases else None

  products = ("q k v", "o", "gate up", "down")
  norms = {name: part for name, part in layer.items() if "scale" in part}
  return norms | {names: together(*names.split()) for names in products}


def prompt_cache(cache: KVCache) -> KVCache:
  """Keys [P, K, H, S] and values [P, K, S, H] of prompts, f32."""
  # a CPU would widen a narrow cache anew for every token
  cache = jax.tree.map(lambda x: x.astype(jnp.float32), cache)
  return decode.prompt_cache(cache._replace(k=cache.k.swapaxes(-1, -2)))


def empty(arch: Arch, prompts: int, group_size: int, slots: int, dtype: Any) -> KVCache:
  """Row caches, C = `slots`: L arrays [P, K, G, H, C] of keys and [P, K, G, C, H] of values."""
  outer = (prompts, arch.num_kv_heads, group_size)
  keys = decode.zeros(arch, (*outer, arch.head_dim, slots), dtype)
  return KVCache(keys, decode.zeros(arch, (*outer, slots, arch.head_dim), dtype))


def grow(row_cache: KVCache, slots: int) -> KVCache:
  """Row caches with room for `slots` tokens; what they hold is kept."""
  return decode.grow(row_cache, slots, (KEY_SLOTS, SLOTS))


def place(row_cache: KVCache, cache: KVCache, slot, source_P) -> KVCache:
  """`decode.place`."""
  return decode.place(row_cache, cache, slot, source_P, (KEY_SLOTS, SLOTS))


def _project(arch: Arch, layer: dict[str, Any], x: jax.Array, *names: str) -> list[jax.Array]:
  """`decode._project` of columns x_DB: [out, B]; queries, keys and values [heads, H, B]."""
  matrix, bias = layer[" ".join(names)]
  y = tensordot(matrix.astype(x.dtype), x, ([1], [0]))
  y = y if bias is None else y + bias.astype(y.dtype)[:, None]
  if len(names) == 1:
    return [y]
  H = arch.head_dim
  if names[0] != "q":
    return jnp.split(y, 2)
  q, kv = arch.num_heads * H, arch.num_kv_heads * H
  return [part.reshape(-1, H, part.shape[-1]) for part in jnp.split(y, [q, q + kv])]


def _columns(view: View) -> View:
  """The view with its angles as [H/2, B]."""
  by = view.angles
  return view._replace(angles=Angles(by.cos[:, 0].T, by.sin[:, 0].T))


def _written(cache: jax.Array, new_KHPG: jax.Array, slot: jax.Array, axis: int) -> jax.Array:
  """One layer's row cache with the rows' newest keys or values in `slot` of `axis`."""
  new = jnp.expand_dims(new_KHPG.transpose(2, 0, 3, 1), axis).astype(cache.dtype)
  return jax.lax.dynamic_update_slice_in_dim(cache, new, slot, axis)


def step(
  arch, params, layers, token_B, position_B, context, row_cache, slot, count_B, *, dtype="float32"
) -> tuple[jax.Array, KVCache]:
  """One token per row, as `decode.step`, on columns."""
  P, K, G, C, H = row_cache.v[0].shape
  R, f32 = arch.num_heads // arch.num_kv_heads, jnp.float32
  view_of = decode.views(arch, position_B, context, C, slot, count_B)
  # once a kind of layer, of which a model has two at most
  views = {window: _columns(view_of(window)) for window in dict.fromkeys(arch.windows)}
  x_DB = scaled(arch, turned(jnp.take(params["embed"]["table"], token_B, axis=0).astype(dtype)))
  keys, values = [], []
  for i, (layer, window) in enumerate(zip(layers, arch.windows, strict=True)):
    norm = functools.partial(decode.norm, arch, layer, axis=-2)
    project, view = functools.partial(_project, arch, layer), views[window]
    q_NHB, k_KHB, v_KHB = heads(x_DB, norm, project)
    q_NHB, k_KHB = rotate(q_NHB, view.angles, axis=1), rotate(k_KHB, view.angles, axis=1)
    keys.append(_written(row_cache.k[i], k_KHB.reshape(K, H, P, G), slot, KEY_SLOTS))
    values.append(_written(row_cache.v[i], v_KHB.reshape(K, H, P, G), slot, SLOTS))
    q_PKGRH = q_NHB.reshape(K, R, H, P, G).transpose(3, 0, 4, 1, 2)
    row = jnp.sum(q_PKGRH.astype(f32)[..., None] * keys[i].astype(f32)[:, :, :, None], axis=4)
    prompt_k, prompt_v = context.cache.k[i], context.cache.v[i]
    prompt = decode.product("pkgrh,pkhs->pkgrs", q_PKGRH.astype(prompt_k.dtype), prompt_k)
    out_PKGRH = decode.attend(row, prompt, values[i], prompt_v, view, arch.scale)
    out_DB = out_PKGRH.astype(x_DB.dtype).transpose(1, 3, 4, 0, 2).reshape(K * R * H, -1)
    x_DB = rest(arch, x_DB, out_DB, norm, project)
  hidden_BD = turned(decode.norm(arch, params, x_DB, "norm", axis=-2))
  return hidden_BD, KVCache(tuple(keys), tuple(values))
