"""One token per row through the decoder: the same function as `decoder.forward`, row by row.

For accelerators, and the oracle of models/decode_cpu.py (models/decoding.py picks one of them).
Unlike in models/layers.py `Block`, layers are unrolled, so that each cache is an array of its own
that the loop updates in place (a scan would copy the stacked cache, which costs more than the
attention itself), activations have no time axis, and adapters are merged.

Attention has two parts under one softmax: prompt attention, to keys and values that the G rows of a
prompt share, and row attention, to what the row itself wrote. Caches are [P, K, S, H] and
[P, K, G, C, H], heads before time, so that neither is transposed to meet the other: on v5e:2x2
Qwen2.5-3B then takes 0.036 GiB a device of temporaries, and 1.196 with time before heads.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.models.attention import MASKED, Angles, angles, context_mask, rotate
from gtalign_jax.models.layers import heads, rest, rms_norm, scaled
from gtalign_jax.models.variants import Arch
from gtalign_jax.ops.matmul import matmul
from gtalign_jax.parallel.sharding import constrain
from gtalign_jax.types import KVCache

GROWS = False  # row caches have all their slots from the start: reading empty ones is cheap here
CACHE_AXES = ("batch", "kv_heads", None, None, None)
SLOTS = 3  # axis C of [P, K, G, C, H]
PROMPT_SLOTS = (2, 2)  # axis S of the keys and of the values of prompts, [P, K, S, H]
Layers = tuple[dict[str, Any], ...]
product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def prepare(params: Any) -> Layers:
  """The weights of each layer, from parameters without adapters (models/lora.py `merge`).

  Raises ValueError on adapters: nothing here would add them.
  """
  if any("lora_a" in part for part in params["layers"].values()):
    raise ValueError("decoding reads plain weights; lora.merge the adapters first")
  return unstack(params["layers"])


def unstack(tree: Any) -> tuple[Any, ...]:
  """A tree of arrays [L, …] as a tuple of L trees; a tuple is returned as it is."""
  if isinstance(tree, tuple):
    return tree
  layers = jax.tree.leaves(tree)[0].shape[0]
  return tuple(jax.tree.map(lambda x, i=i: x[i], tree) for i in range(layers))


def prompt_cache(cache: KVCache) -> KVCache:
  """Keys and values of prompts [L, P, K, S, H] as `step` reads them: tuples of [P, K, S, H]."""
  return KVCache(unstack(cache.k), unstack(cache.v))


def empty(arch: Arch, prompts: int, group_size: int, slots: int, dtype: Any) -> KVCache:
  """Row caches, C = `slots`: two tuples of L arrays [P, K, G, C, H]."""
  shape = (prompts, arch.num_kv_heads, group_size, slots, arch.head_dim)
  return KVCache(zeros(arch, shape, dtype), zeros(arch, shape, dtype))


def zeros(arch: Arch, shape: tuple[int, ...], dtype: Any) -> tuple[jax.Array, ...]:
  """One array per layer, split over the mesh."""
  empty_layer = jnp.zeros(shape, dtype)
  return tuple(constrain(empty_layer, CACHE_AXES) for _ in range(arch.num_layers))


def grow(row_cache: KVCache, slots: int, axes: tuple[int, int] = (SLOTS, SLOTS)) -> KVCache:
  """Row caches with room for `slots` tokens; what they hold is kept. axes: C of keys, of values."""

  def padded(cache: jax.Array, axis: int) -> jax.Array:
    widths = [(0, slots - cache.shape[axis] if i == axis else 0) for i in range(cache.ndim)]
    return constrain(jnp.pad(cache, widths), CACHE_AXES)

  return KVCache(*(tuple(padded(x, axis) for x in part) for part, axis in zip(row_cache, axes)))


def place(
  row_cache: KVCache, cache: KVCache, slot, source_P, axes: tuple[int, int] = (SLOTS, SLOTS)
) -> KVCache:
  """Row caches in which each row's newest entries, up to the one before `slot`, are given.

  cache: of `prefix.extend` for some prompts [L, b, K, c, H], left-padded as it is there. source_P:
  which of those prompts slot p takes, or -1 where it keeps what it has. axes: as in `grow`.
  """
  P, K, G, slots, H = row_cache.v[0].shape
  ago_C = (slot - jnp.arange(slots, dtype=jnp.int32)) % slots  # 1: the entry before `slot`
  width = cache.v.shape[3]
  column_C, given_C = jnp.clip(width - ago_C, 0, width - 1), (ago_C > 0) & (ago_C <= width)

  def placed(old: jax.Array, new_BKCH: jax.Array, axis: int) -> jax.Array:
    new = jnp.take(new_BKCH.reshape(-1, G, K, width, H), jnp.maximum(source_P, 0), axis=0)
    new = jnp.moveaxis(jnp.take(new.swapaxes(1, 2), column_C, axis=SLOTS), SLOTS, axis)
    given = given_C.reshape(-1, *[1] * (old.ndim - 1 - axis))
    taken = (source_P >= 0).reshape(P, *[1] * (old.ndim - 1))
    return constrain(jnp.where(given & taken, new.astype(old.dtype), old), CACHE_AXES)

  return KVCache(
    *(
      tuple(placed(x, new, axis) for x, new in zip(part, unstack(whole), strict=True))
      for part, whole, axis in zip(row_cache, cache, axes)
    )
  )


class View(NamedTuple):
  """What a token of one kind of layer sees, and where it stands.

  row: slots of its row cache, bool [P, 1, G, 1, C]. prompt: of its prompt, [P, 1, G or 1, 1, S].
  """

  angles: Angles
  row: jax.Array
  prompt: jax.Array


def views(arch: Arch, position_B, context, slots: int, slot, count_B) -> Callable[[int], View]:
  """window of a layer (0: none) -> View. Arguments as in `step`; a model has at most one window."""
  ago_C = (slot - jnp.arange(slots, dtype=jnp.int32)) % slots  # tokens since it was written

  @functools.cache  # one view for all layers of a kind
  def view(window: int) -> View:
    rope = (arch.local_rope or arch.rope) if window else arch.rope
    row_BC = ago_C < count_B[:, None]  # older entries of the ring are a former row's
    if window:
      row_BC &= ago_C < window
    seen_PGTS = context_mask(position_B[:, None], context.positions_PS, context.mask_PS, window)
    row = row_BC.reshape(context.mask_PS.shape[0], 1, -1, 1, slots)
    return View(angles(rope, arch.head_dim, position_B), row, seen_PGTS[:, None])

  return view


def attend(row_logits, prompt_logits, row_v_PKGCH, prompt_v_PKSH, view: View, scale) -> jax.Array:
  """Attention of one query per row to its own slots and its prompt's, f32 [P, K, G, R, H].

  row_logits: [P, K, G, R, C], prompt_logits: [P, K, G, R, S], unscaled, f32.
  """
  dtype = prompt_v_PKSH.dtype
  prompt = jnp.where(view.prompt, prompt_logits * scale, MASKED)
  row = jnp.where(view.row, row_logits * scale, MASKED)
  # one maximum and one sum for both parts, which are never joined: that would copy the prompt's
  # values G times
  top = jnp.maximum(prompt.max(-1, keepdims=True), row.max(-1, keepdims=True))
  prompt, row = jnp.exp(prompt - top), jnp.exp(row - top)
  total = prompt.sum(-1, keepdims=True) + row.sum(-1, keepdims=True)
  out = product("pkgrs,pksh->pkgrh", prompt.astype(dtype), prompt_v_PKSH)
  out += product("pkgrc,pkgch->pkgrh", row.astype(dtype), row_v_PKGCH)
  return out / total


def _project(layer: dict[str, Any], x: jax.Array, *names: str) -> list[jax.Array]:
  """layers.Projection: the last axes of x to the outputs of each kernel."""
  parts = [layer[name] for name in names]
  made = [matmul(x, part["kernel"], 2 if names == ("o",) else 1) for part in parts]
  return [y + p["bias"].astype(x.dtype) if "bias" in p else y for y, p in zip(made, parts)]


def norm(arch: Arch, layer: dict[str, Any], x: jax.Array, name: str, axis: int = -1) -> jax.Array:
  if name not in layer:  # families without this norm have no weights of it
    return x
  return rms_norm(x, layer[name]["scale"], arch.norm_eps, arch.norm_offset, axis)


def _written(cache: jax.Array, new_BKH: jax.Array, slot: jax.Array) -> jax.Array:
  """One layer's row cache with the rows' newest keys or values in `slot`."""
  P, _, G = cache.shape[:3]
  # one slot for all rows: a slice is updated in place, where a scatter would copy the cache
  new_PKG1H = new_BKH.reshape(P, G, *new_BKH.shape[1:]).swapaxes(1, 2)[:, :, :, None]
  return jax.lax.dynamic_update_slice_in_dim(cache, new_PKG1H.astype(cache.dtype), slot, SLOTS)


def step(
  arch, params, layers, token_B, position_B, context, row_cache, slot, count_B, *, dtype="float32"
) -> tuple[jax.Array, KVCache]:
  """Feeds one token per row; returns its hidden state after the final norm [B, D] and the caches.

  params: embedding and final norm are read; layers: of `prepare`. row_cache: of `empty`, a ring of
  C slots: `slot` is written, and each row attends to its newest count_B tokens, this one included
  (1 <= count_B <= C), its positions being consecutive. context: of P prompts, its cache of
  `prompt_cache`; row b belongs to prompt b // (B / P).
  """
  P, K, G, C, H = row_cache.v[0].shape
  view_of = views(arch, position_B, context, C, slot, count_B)
  x_BD = scaled(arch, jnp.take(params["embed"]["table"], token_B, axis=0).astype(dtype))
  keys, values = [], []
  for i, (layer, window) in enumerate(zip(layers, arch.windows, strict=True)):
    parts = functools.partial(norm, arch, layer), functools.partial(_project, layer)
    view = view_of(window)
    q_BNH, k_BKH, v_BKH = heads(x_BD, *parts)
    q_BNH, k_BKH = rotate(q_BNH, view.angles), rotate(k_BKH, view.angles)
    keys.append(_written(row_cache.k[i], k_BKH, slot))
    values.append(_written(row_cache.v[i], v_BKH, slot))
    q_PKGRH = q_BNH.reshape(P, G, K, -1, H).swapaxes(1, 2)
    prompt_k, prompt_v = context.cache.k[i], context.cache.v[i]
    row = product("pkgrh,pkgch->pkgrc", q_PKGRH, keys[i])
    prompt = product("pkgrh,pksh->pkgrs", q_PKGRH.astype(prompt_k.dtype), prompt_k)
    out_PKGRH = attend(row, prompt, values[i], prompt_v, view, arch.scale).astype(x_BD.dtype)
    x_BD = rest(arch, x_BD, out_PKGRH.swapaxes(1, 2).reshape(P * G, -1, H), *parts)
  return norm(arch, params, x_BD, "norm"), KVCache(tuple(keys), tuple(values))
