"""The decoder: one scanned stack of layers, called purely, for every family of models/variants.py.

Parameters are a plain pytree of arrays with layers stacked on axis 0:
  embed.table [V, D]   norm.scale [D]   head.kernel [D, V] (absent where tied)   layers.*.bias
  layers.{q,k,v}.kernel [L, D, heads, H]   layers.o.kernel [L, N, H, D]
  layers.{gate,up}.kernel [L, D, F]   layers.down.kernel [L, F, D]   layers.*_norm.scale
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gtalign_jax.models.attention import angles, causal_mask, context_mask
from gtalign_jax.models.layers import INIT_STD, PRODUCTS, SAVED_NAMES, Block, RMSNorm, View, scaled
from gtalign_jax.models.variants import Arch, Rope
from gtalign_jax.parallel.sharding import constrain
from gtalign_jax.types import Context, KVCache

_POLICIES = {
  "full": jax.checkpoint_policies.nothing_saveable,  # the least memory, a forward pass more
  "dots": jax.checkpoint_policies.save_only_these_names(*PRODUCTS),
  "names": jax.checkpoint_policies.save_only_these_names(*SAVED_NAMES),
}


class _Matrix(nn.Module):
  """A matrix of its own in the tree: {the module's name: {`key`: array}}."""

  key: str
  axes: tuple[str, str]
  shape: tuple[int, int]

  @nn.compact
  def __call__(self) -> Any:
    normal = nn.with_logical_partitioning(nn.initializers.normal(INIT_STD), self.axes)
    return self.param(self.key, normal, self.shape)


class Decoder(nn.Module):
  """Embedding, scanned layers, final norm; the head is applied by `unembed`."""

  arch: Arch
  dtype: str
  remat: str

  @nn.compact
  def __call__(self, tokens_BT, positions_BT, mask_BT, context: Context | None):
    a = self.arch
    V, D = a.vocab_size, a.width
    table_VD = _Matrix("table", ("vocab", "embed"), (V, D), name="embed")()
    x_BTD = scaled(a, jnp.take(table_VD, tokens_BT, axis=0).astype(self.dtype))
    block = Block
    if self.remat != "none":
      # inside a scan nothing is shared between layers, and barriers against it would cost fusions
      block = nn.remat(Block, prevent_cse=False, policy=_POLICIES[self.remat])
    stack = nn.scan(
      block, variable_axes={"params": 0}, split_rngs={"params": True}, length=a.num_layers,
      in_axes=(0, nn.broadcast), metadata_params={nn.PARTITION_NAME: "layers"},
    )  # fmt: skip
    views = _views(a, positions_BT, mask_BT, context)
    k, v = (None, None) if context is None else map(_stacked, context.cache)
    local = jnp.asarray([window > 0 for window in a.windows]) if all(views) else None
    x_BTD, cache = stack(a, name="layers")(x_BTD, {"local": local, "k": k, "v": v}, views)
    x_BTD = RMSNorm(a.width, a.norm_eps, a.norm_offset, name="norm")(x_BTD)
    if self.is_initializing() and not a.tied:  # `unembed` multiplies with it; here it is made
      _Matrix("kernel", ("embed", "vocab"), (D, V), name="head")()
    return constrain(x_BTD, ("batch", "time", "act_embed")), KVCache(*cache)


def _stacked(cache) -> jax.Array:
  # a scan reads one array; decoding holds one a layer, which its loop updates in place
  return jnp.stack(cache) if isinstance(cache, tuple) else cache


def _views(arch: Arch, positions_BT, mask_BT, context) -> tuple[View | None, View | None]:
  """Views of layers without and with a window; None for a kind that the model does not have."""

  def view(rope: Rope, window: int) -> View:
    shared = None
    if context is not None:
      shared = context_mask(positions_BT, context.positions_PS, context.mask_PS, window)
    own = causal_mask(positions_BT, mask_BT, window)
    return View(angles(rope, arch.head_dim, positions_BT), own, shared)

  window = max(arch.windows)  # a model has windows of one size
  full = view(arch.rope, 0) if 0 in arch.windows else None
  return full, view(arch.local_rope or arch.rope, window) if window else None


def forward(
  arch, params, tokens_BT, positions_BT, mask_BT, *, context=None, dtype="float32", remat="none"
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
  # f32: bf16 has 8 bits, and of 150,000 logits the largest would often tie
  matrix, f32 = matrix.astype(hidden.dtype), jnp.float32
  logits = jnp.tensordot(hidden, matrix, (-1, axis), preferred_element_type=f32)
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
  return cast(nn.meta.unbox(_boxed(arch, key)), param_dtype)


def cast(params: Any, dtype: str) -> Any:
  """Arrays or shapes as `abstract(arch, dtype)` says: all in `dtype` but the scales of norms."""
  return jax.tree.map_with_path(lambda path, x: x.astype(leaf_dtype(path[-1].key, dtype)), params)


def leaf_dtype(name: str, dtype: str) -> jnp.dtype:
  """The dtype of a parameter `name` where matrices are in `dtype`: of scales at least f32."""
  # a layer computes its norms in f32: rounded scales would make sampler and trainer differ by 0.02
  # nats a token and more, and they are too few to save memory
  return jnp.promote_types(dtype, jnp.float32) if name == "scale" else jnp.dtype(dtype)


@functools.cache  # every loader and planner asks, and tracing takes a while
def _shapes(arch: Arch) -> Any:
  return jax.eval_shape(lambda: _boxed(arch, jax.random.key(0)))


def abstract(arch: Arch, param_dtype: str = "float32") -> Any:
  """The parameter tree as ShapeDtypeStructs; dtypes as `leaf_dtype` says."""
  return jax.tree.map_with_path(
    lambda path, x: jax.ShapeDtypeStruct(x.shape, leaf_dtype(path[-1].key, param_dtype)),
    nn.meta.unbox(_shapes(arch)),
  )


def logical_axes(arch: Arch) -> Any:
  """The parameter tree with a tuple of logical axis names at each leaf."""
  boxes, tree = jax.tree.flatten(_shapes(arch), is_leaf=lambda x: isinstance(x, nn.Partitioned))
  return jax.tree.unflatten(tree, [tuple(box.names) for box in boxes])
