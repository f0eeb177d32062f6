"""One token per row through the decoder: the same function as `decoder.forward`, row by row.

For accelerators, and the oracle of models/decode_cpu.py (models/decoding.py picks one of them). It
repeats models/layers.py `Block` instead of calling it because a token of decoding needs other
things: layers are unrolled, so that each cache is an array of its own that the loop updates in
place (a scan would copy the stacked cache, which costs more than the attention itself); norms and
attention act on [B, D] without a time axis; adapters are merged and nothing is rematerialised.

Attention has two parts under one softmax: prompt attention, to keys and values that the G rows of a
prompt share, and row attention, to what the row itself wrote. Caches are [P, K, S, H] and
[P, K, G, C, H], heads before time, so that neither is transposed to meet the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.models.attention import MASKED, Angles, angles, context_mask, rotate
from gtalign_jax.models.layers import ACTIVATIONS
from gtalign_jax.models.variants import Arch, Rope
from gtalign_jax.ops.matmul import matmul
from gtalign_jax.parallel.sharding import constrain
from gtalign_jax.types import Context, KVCache

GROWS = False  # row caches have all their slots from the start: reading empty ones is cheap here
CACHE_AXES = ("batch", "kv_heads", None, None, None)
SLOTS = 3  # axis C of [P, K, G, C, H]
Layers = tuple[dict[str, Any], ...]


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


def grow(row_cache: KVCache, slots: int) -> KVCache:
  """Row caches with room for `slots` tokens; what they hold is kept."""
  return KVCache(*(tuple(padded(x, slots, SLOTS) for x in part) for part in row_cache))


def padded(cache: jax.Array, slots: int, axis: int) -> jax.Array:
  """One layer's cache, `axis` lengthened to `slots`."""
  widths = [(0, slots - cache.shape[axis] if i == axis else 0) for i in range(cache.ndim)]
  return constrain(jnp.pad(cache, widths), CACHE_AXES)


class View(NamedTuple):
  """What a token of one kind of layer sees, and where it stands.

  angles: rotary angles. row: slots of its row cache, bool [P, 1, G, 1, C]. prompt: slots of its
  prompt, bool [P, 1, G or 1, 1, S].
  """

  angles: Angles
  row: jax.Array
  prompt: jax.Array


def views(
  arch: Arch,
  position_B: jax.Array,
  context: Context,
  slots: int,
  slot: jax.Array,
  count_B: jax.Array,
) -> Callable[[int], View]:
  """window of a layer (0: none) -> View. Arguments as in `step`; a model has at most one window."""

  @functools.cache  # one view for all layers of a kind
  def view(window: int) -> View:
    rope = (arch.local_rope or arch.rope) if window else arch.rope
    return _view(arch, rope, window, position_B, context, slots, slot, count_B)

  return view


def _view(
  arch: Arch,
  rope: Rope,
  window: int,
  position_B: jax.Array,
  context: Context,
  slots: int,
  slot: jax.Array,
  count_B: jax.Array,
) -> View:
  by = angles(rope, arch.head_dim, position_B)
  ago_C = (slot - jnp.arange(slots, dtype=jnp.int32)) % slots  # tokens since it was written
  row_BC = ago_C < count_B[:, None]  # older entries of the ring are a former row's
  if window:
    row_BC &= ago_C < window
  seen_PGTS = context_mask(position_B[:, None], context.positions_PS, context.mask_PS, window)
  row = row_BC.reshape(context.mask_PS.shape[0], 1, -1, 1, slots)
  return View(by, row, seen_PGTS[:, None])


def attend(
  row_logits: jax.Array,
  prompt_logits: jax.Array,
  row_v_PKGCH: jax.Array,
  prompt_v_PKSH: jax.Array,
  view: View,
  scale: float,
) -> jax.Array:
  """Attention of one query per row to its own slots and its prompt's, f32 [P, K, G, R, H].

  row_logits: [P, K, G, R, C], prompt_logits: [P, K, G, R, S], unscaled, f32.
  """
  f32, dtype = jnp.float32, prompt_v_PKSH.dtype
  prompt = jnp.where(view.prompt, prompt_logits * scale, MASKED)
  row = jnp.where(view.row, row_logits * scale, MASKED)
  top = jnp.maximum(prompt.max(-1, keepdims=True), row.max(-1, keepdims=True))
  prompt, row = jnp.exp(prompt - top), jnp.exp(row - top)
  total = prompt.sum(-1, keepdims=True) + row.sum(-1, keepdims=True)
  out = jnp.einsum(
    "pkgrs,pksh->pkgrh", prompt.astype(dtype), prompt_v_PKSH, preferred_element_type=f32
  )
  out += jnp.einsum(
    "pkgrc,pkgch->pkgrh", row.astype(dtype), row_v_PKGCH, preferred_element_type=f32
  )
  return out / total


def embed(arch: Arch, params: Any, token_B: jax.Array, dtype: str) -> jax.Array:
  """Embeddings of tokens, [B, D] in `dtype`, without the factor that some families apply."""
  return jnp.take(params["embed"]["table"], token_B, axis=0).astype(dtype)


def _norm(arch: Arch, x: jax.Array, scale: jax.Array) -> jax.Array:
  """layers.RMSNorm of the last axis."""
  wide = x.astype(jnp.float32)
  root = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + arch.norm_eps)
  return (wide * root * (arch.norm_offset + scale.astype(jnp.float32))).astype(x.dtype)


def _project(x: jax.Array, part: dict[str, jax.Array], inputs: int = 1) -> jax.Array:
  """layers.Projection: the last `inputs` axes of x to the outputs of a kernel."""
  y = matmul(x, part["kernel"], inputs)
  return y + part["bias"].astype(x.dtype) if "bias" in part else y


def _written(cache: jax.Array, new_BKH: jax.Array, slot: jax.Array) -> jax.Array:
  """One layer's row cache with the rows' newest keys or values in `slot`."""
  P, _, G = cache.shape[:3]
  new_PKG1H = new_BKH.reshape(P, G, *new_BKH.shape[1:]).swapaxes(1, 2)[:, :, :, None]
  return jax.lax.dynamic_update_slice_in_dim(cache, new_PKG1H.astype(cache.dtype), slot, SLOTS)


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
  """Feeds one token per row; returns its hidden state after the final norm [B, D] and the caches.

  params: embedding and final norm are read; layers: of `prepare`. row_cache: of `empty`, a ring of
  C
  slots: `slot` is written, and each row attends to its newest count_B tokens, this one included
  (1 <= count_B <= C), its positions being consecutive. context: of P prompts, its cache of
  `prompt_cache`; row b belongs to prompt b // (B / P).
  """
  P, K, G, C, H = row_cache.v[0].shape
  R, f32 = arch.num_heads // arch.num_kv_heads, jnp.float32
  view_of = views(arch, position_B, context, C, slot, count_B)
  x_BD = embed(arch, params, token_B, dtype)
  if arch.embed_scale != 1.0:
    x_BD = x_BD * jnp.asarray(arch.embed_scale, x_BD.dtype)
  keys, values = [], []
  for i, (layer, window) in enumerate(zip(layers, arch.windows, strict=True)):
    view = view_of(window)
    normed_BD = _norm(arch, x_BD, layer["attn_norm"]["scale"])
    q_BNH, k_BKH = _project(normed_BD, layer["q"]), _project(normed_BD, layer["k"])
    v_BKH = _project(normed_BD, layer["v"])
    if arch.qk_norm:
      q_BNH = _norm(arch, q_BNH, layer["q_norm"]["scale"])
      k_BKH = _norm(arch, k_BKH, layer["k_norm"]["scale"])
    q_BNH, k_BKH = rotate(q_BNH, view.angles), rotate(k_BKH, view.angles)
    row_k, row_v = (_written(row_cache.k[i], k_BKH, slot), _written(row_cache.v[i], v_BKH, slot))
    q_PKGRH = q_BNH.reshape(P, G, K, R, H).swapaxes(1, 2)
    row = jnp.einsum("pkgrh,pkgch->pkgrc", q_PKGRH, row_k, preferred_element_type=f32)
    prompt_k, prompt_v = context.cache.k[i], context.cache.v[i]
    prompt = jnp.einsum(
      "pkgrh,pksh->pkgrs", q_PKGRH.astype(prompt_k.dtype), prompt_k, preferred_element_type=f32
    )
    out_PKGRH = attend(row, prompt, row_v, prompt_v, view, arch.scale).astype(x_BD.dtype)
    out_BNH = out_PKGRH.swapaxes(1, 2).reshape(P * G, K * R, H)
    update_BD = _project(out_BNH, layer["o"], inputs=2)
    if arch.post_norms:
      update_BD = _norm(arch, update_BD, layer["post_attn_norm"]["scale"])
    x_BD = x_BD + update_BD
    normed_BD = _norm(arch, x_BD, layer["mlp_norm"]["scale"])
    gate_BF, up_BF = (_project(normed_BD, layer[name]) for name in ("gate", "up"))
    update_BD = _project(ACTIVATIONS[arch.activation](gate_BF) * up_BF, layer["down"])
    if arch.post_norms:
      update_BD = _norm(arch, update_BD, layer["post_mlp_norm"]["scale"])
    x_BD = x_BD + update_BD
    keys.append(row_k)
    values.append(row_v)
  return _norm(arch, x_BD, params["norm"]["scale"]), KVCache(tuple(keys), tuple(values))
