"""The decoder: one scanned stack of layers, called purely, for every family of models/variants.py.

Parameters are a plain pytree of arrays with layers stacked on axis 0:
  embed.table [V, D]   norm.scale [D]   head.kernel [D, V] (absent where tied)
  layers.{q,k,v}.kernel [L, D, heads, H]   layers.o.kernel [L, N, H, D]   layers.{gate,up}.kernel
  [L, D, F] layers.down.kernel [L, F, D]   layers.*.bias
  layers.{attn_norm,mlp_norm,q_norm,…}.scale
Matrices are called `kernel` or `table`, the rest `bias` or `scale`.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gtalign_jax.models.attention import angles, causal_mask, context_mask
from gtalign_jax.models.layers import INIT_STD, PRODUCTS, SAVED_NAMES, Block, RMSNorm, View
from gtalign_jax.models.variants import Arch
from gtalign_jax.parallel.sharding import constrain
from gtalign_jax.types import Context, KVCache

_POLICIES = {
  "full": jax.checkpoint_policies.nothing_saveable,
  "dots": jax.checkpoint_policies.save_only_these_names(*PRODUCTS),
  "names": jax.checkpoint_policies.save_only_these_names(*SAVED_NAMES),
}


class _Embed(nn.Module):
  arch: Arch

  @nn.compact
  def __call__(self, tokens: jax.Array, dtype) -> jax.Array:
    a = self.arch
    normal = nn.with_logical_partitioning(nn.initializers.normal(INIT_STD), ("vocab", "embed"))
    table_VD: Any = self.param("table", normal, (a.vocab_size, a.width))
    x = jnp.take(table_VD, tokens, axis=0).astype(dtype)
    # the factor is rounded to the compute dtype, as the checkpoints were trained (sqrt(D) in bf16)
    return x if a.embed_scale == 1.0 else x * jnp.asarray(a.embed_scale, dtype)


class _Head(nn.Module):
  arch: Arch

  @nn.compact
  def __call__(self, hidden: jax.Array) -> jax.Array:
    a = self.arch
    normal = nn.with_logical_partitioning(nn.initializers.normal(INIT_STD), ("embed", "vocab"))
    kernel_DV: Any = self.param("kernel", normal, (a.width, a.vocab_size))
    return hidden @ kernel_DV.astype(hidden.dtype)


def _final_norm(arch: Arch, name: str | None = None) -> RMSNorm:
  return RMSNorm(arch.width, arch.norm_eps, arch.norm_offset, name=name)


class Decoder(nn.Module):
  """Embedding, scanned layers, final norm; the head is applied by `unembed`."""

  arch: Arch
  dtype: str
  remat: str

  @nn.compact
  def __call__(self, tokens_BT, positions_BT, mask_BT, context: Context | None):
    a = self.arch
    x_BTD = _Embed(a, name="embed")(tokens_BT, jnp.dtype(self.dtype))
    block = Block
    if self.remat != "none":
      block = nn.remat(Block, prevent_cse=False, policy=_POLICIES[self.remat])
    stack = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(0, nn.broadcast),
      length=a.num_layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    views = _views(a, lambda rope, window: _sequence_view(
      rope, a.head_dim, window, positions_BT, mask_BT, context
    ))  # fmt: skip
    layer = {
      "local": jnp.asarray([window > 0 for window in a.windows]) if all(views) else None,
      "k": None if context is None else _stacked(context.cache.k),
      "v": None if context is None else _stacked(context.cache.v),
    }
    x_BTD, (k, v) = stack(a, name="layers")(x_BTD, layer, views)
    x_BTD = constrain(_final_norm(a, "norm")(x_BTD), ("batch", "time", "act_embed"))
    if self.is_initializing() and not a.tied:
      _Head(a, name="head")(x_BTD)
    return x_BTD, KVCache(k, v)


def _stacked(cache) -> jax.Array:
  return jnp.stack(cache) if isinstance(cache, tuple) else cache


def _views(arch: Arch, make) -> tuple[View | None, View | None]:
  """Views of layers without and with a window; None for a kind that the model does not have."""
  windows = {window for window in arch.windows if window}
  full = make(arch.rope, 0) if 0 in arch.windows else None
  local = make(arch.local_rope or arch.rope, windows.pop()) if windows else None
  return full, local


def _sequence_view(rope, head_dim, window, positions_BT, mask_BT, context) -> View:
  shared = None
  if context is not None:
    shared = context_mask(positions_BT, context.positions_PS, context.mask_PS, window)
  return View(
    angles(rope, head_dim, positions_BT), causal_mask(positions_BT, mask_BT, window), shared
  )


def forward(
  arch: Arch,
  params: Any,
  tokens_BT: jax.Array,
  positions_BT: jax.Array,
  mask_BT: jax.Array,
  *,
  context: Context | None = None,
  dtype: str = "float32",
  remat: str = "none",
) -> tuple[jax.Array, KVCache]:
  """Hidden states after the final norm [B, T, D], and the tokens' KV [L, B, K, T, H].

  Causal by slot; only slots with mask_BT are attended to; sliding windows count positions. With a
  context of P rows, row b also attends to the real slots of context row b // (B / P); gradients
  flow through it. A token that may attend to nothing gets a finite, meaningless result.
  dtype: of matmuls and activations. remat: what the backward pass recomputes (none | full | dots |
  names).
  """
  module: Any = Decoder(arch, dtype, remat)
  return module.apply({"params": params}, tokens_BT, positions_BT, mask_BT, context)


def head(arch: Arch, params: Any) -> jax.Array:
  """The matrix from hidden states to logits [D, V], before softcap and `unembed`'s mask."""
  return params["embed"]["table"].T if arch.tied else params["head"]["kernel"]


def unembed(arch: Arch, params: Any, hidden: jax.Array) -> jax.Array:
  """Logits of hidden states, f32 [..., V]; -inf for ids without a token."""
  # not by `head`: XLA's CPU widens a narrow product with the transpose of the table
  matrix, axis = (params["embed"]["table"], 1) if arch.tied else (params["head"]["kernel"], 0)
  logits = jnp.tensordot(
    hidden, matrix.astype(hidden.dtype), (-1, axis), preferred_element_type=jnp.float32
  )
  if arch.softcap is not None:
    logits = arch.softcap * jnp.tanh(logits / arch.softcap)
  return logits if arch.spelled_V is None else jnp.where(arch.spelled_V, logits, -jnp.inf)


def _boxed(arch: Arch, key: jax.Array) -> Any:
  """Fresh parameters, each in a box that carries its logical axis names."""
  one = jnp.zeros((1, 1), jnp.int32)
  return Decoder(arch, "float32", "none").init(key, one, one, one == 0, None)["params"]


def init(arch: Arch, key: jax.Array, param_dtype: str = "float32") -> Any:
  """Fresh parameters as `abstract`: normal(0, 0.02) matrices, neutral norms, zero biases.

  Jit it with out_shardings, so that none of them is made whole on one device.
  """
  params = nn.meta.unbox(_boxed(arch, key))
  return cast(params, param_dtype)


def cast(params: Any, dtype: str) -> Any:
  """Parameters as `abstract(arch, dtype)` says: matrices and biases in `dtype`, norm scales not.

  Arrays or shapes.
  """
  return jax.tree.map_with_path(lambda path, x: x.astype(leaf_dtype(path[-1].key, dtype)), params)


def leaf_dtype(name: str, dtype: str) -> jnp.dtype:
  """The dtype of a parameter called `name` where matrices are in `dtype`: of scales at least f32.

  A layer computes its norms in f32. Rounded scales would make sampler and trainer differ by 0.02
  nats a token and more, and they are too few to save memory.
  """
  return jnp.promote_types(dtype, jnp.float32) if name == "scale" else jnp.dtype(dtype)


@functools.cache  # every loader and planner asks, and tracing takes a while
def _shapes(arch: Arch) -> Any:
  return jax.eval_shape(lambda: _boxed(arch, jax.random.key(0)))


def _is_box(x: Any) -> bool:
  return isinstance(x, nn.meta.AxisMetadata)


def abstract(arch: Arch, param_dtype: str = "float32") -> Any:
  """The parameter tree as ShapeDtypeStructs; norm scales are at least f32 (`leaf_dtype`)."""
  return jax.tree.map_with_path(
    lambda path, x: jax.ShapeDtypeStruct(x.shape, leaf_dtype(path[-1].key, param_dtype)),
    nn.meta.unbox(_shapes(arch)),
  )


def logical_axes(arch: Arch) -> Any:
  """The parameter tree with a tuple of logical axis names at each leaf."""
  return jax.tree.map(lambda box: tuple(box.names), _shapes(arch), is_leaf=_is_box)
