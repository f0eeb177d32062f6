"""Linen modules of one decoder layer; parameters carry logical axis names."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gtalign_jax.models.attention import Angles, Shared, attend_shared, rotate
from gtalign_jax.models.variants import Arch
from gtalign_jax.ops.matmul import keep, matmul
from gtalign_jax.parallel.sharding import constrain

# remat="dots" keeps every product with a weight: only attention and elementwise work is made again
PRODUCTS = ("input", "projection")
# remat="names": with these, the backward pass recomputes the mlp but no attention
SAVED_NAMES = ("input", "query", "key", "value", "attention")
ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": lambda x: nn.gelu(x, approximate=True)}
INIT_STD = 0.02  # as transformers initialises these families


def rms_norm(x, scale: jax.Array, eps: float, offset: float, axis: int = -1) -> jax.Array:
  """x / rms(x) * (offset + scale), in f32, over `axis` of x: the last one or the one before it."""
  # f32: bf16 has 8 bits, so every layer would scale its input by up to 0.2 % wrong
  wide = x.astype(jnp.float32)
  root = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=axis, keepdims=True) + eps)
  factor = offset + scale.astype(jnp.float32)
  return (wide * root * (factor if axis == -1 else factor[:, None])).astype(x.dtype)


def scaled(arch: Arch, x: jax.Array) -> jax.Array:
  """Embeddings times the factor of the family."""
  # the factor is rounded to the compute dtype, as the checkpoints were trained (sqrt(D) in bf16)
  return x if arch.embed_scale == 1.0 else x * jnp.asarray(arch.embed_scale, x.dtype)


class RMSNorm(nn.Module):
  """`rms_norm` over the last axis."""

  width: int
  eps: float
  offset: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    start = nn.initializers.zeros if self.offset else nn.initializers.ones
    scale: Any = self.param("scale", nn.with_logical_partitioning(start, ("norm",)), (self.width,))
    return rms_norm(x, scale, self.eps, self.offset)


class Projection(nn.Module):
  """Linear map of the last `len(inputs)` axes of x to `outputs`, computed in the dtype of x.

  Where the parameters hold `lora_a` and `lora_b` (models/lora.py), their product is added.
  """

  inputs: tuple[int, ...]
  outputs: tuple[int, ...]
  names: tuple[str, ...]  # logical names of inputs and outputs
  bias: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    normal = nn.with_logical_partitioning(nn.initializers.normal(INIT_STD), self.names)
    kernel: Any = self.param("kernel", normal, self.inputs + self.outputs)
    axes = len(self.inputs)
    y = keep(matmul(x, kernel, axes), "projection")
    if self.has_variable("params", "lora_a"):
      low = matmul(x, self.get_variable("params", "lora_a"), axes)  # [B, T, r]: cheap to keep
      y += matmul(keep(low, "projection"), self.get_variable("params", "lora_b"), 1)
    if self.bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.names[axes:])
      bias: Any = self.param("bias", zeros, self.outputs)
      y += bias.astype(x.dtype)
    return y


class View(NamedTuple):
  """Where the tokens of a layer stand and what they see.

  own: bool mask over own slots, [B or 1, T, slots]. context: over context slots
  [P, G or 1, T or 1, S], or None.
  """

  angles: Angles
  own: jax.Array
  context: Any


def heads(x, norm, project) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Queries, keys and values of a layer, not yet rotated; in any layout (see `rest`)."""
  q, k, v = project(norm(x, "attn_norm"), "q", "k", "v")
  return norm(q, "q_norm"), norm(k, "k_norm"), v


def rest(arch: Arch, x, attended, norm, project) -> jax.Array:
  """What a layer makes of x and what it attended to: output projection, gated mlp, residuals.

  norm(x, name): x itself where the family has no such norm. project(x, *names): the products of x
  with these matrices, biases added. Both in the layout of x, rows or columns.
  """
  (update,) = project(attended, "o")
  x = x + norm(update, "post_attn_norm")
  gate, up = project(norm(x, "mlp_norm"), "gate", "up")
  (update,) = project(ACTIVATIONS[arch.activation](gate) * up, "down")
  return x + norm(update, "post_mlp_norm")


class Block(nn.Module):
  """One layer: attention and gated mlp, each with its norms and residual."""

  arch: Arch

  def _norm(self, x: jax.Array, name: str) -> jax.Array:
    a = self.arch
    with_it = a.qk_norm if name in ("q_norm", "k_norm") else a.post_norms
    if not with_it and name not in ("attn_norm", "mlp_norm"):
      return x
    return RMSNorm(x.shape[-1], a.norm_eps, a.norm_offset, name=name)(x)

  def _project(self, x: jax.Array, *names: str) -> list[jax.Array]:
    a = self.arch
    D, N, K, H, F = a.width, a.num_heads, a.num_kv_heads, a.head_dim, a.mlp_width
    kv = ((D,), (K, H), ("embed", "kv_heads", "head_dim"), a.qkv_bias)
    wide = ((D,), (F,), ("embed", "mlp"), a.mlp_bias)
    parts = {
      "q": ((D,), (N, H), ("embed", "heads", "head_dim"), a.qkv_bias), "k": kv, "v": kv,
      "o": ((N, H), (D,), ("heads", "head_dim", "embed"), a.o_bias),
      "gate": wide, "up": wide, "down": ((F,), (D,), ("mlp", "embed"), a.mlp_bias),
    }  # fmt: skip
    return [Projection(*parts[name], name=name)(x) for name in names]

  @nn.compact
  def __call__(self, x_BTD, layer, views):
    """A whole sequence. Returns x_BTD and (k, v) of this layer as [B, K, T, H].

    layer: {"local": bool scalar or None, "k", "v": context [P, K, S, H] or None}.
    views: (View without window, View with window or None).
    """
    a, view = self.arch, _pick(layer["local"], *views)
    x_BTD = keep(constrain(x_BTD, ("batch", "time", "act_embed")), "input")
    q, k, v = heads(x_BTD, self._norm, self._project)
    q_BTNH, k_BTKH = keep(rotate(q, view.angles), "query"), keep(rotate(k, view.angles), "key")
    v_BTKH = keep(v, "value")
    # heads before time, as caches have them: decoding's attention then takes 1.4 ms a layer on CPU,
    # and 6.0 the other way (B=32, S=336)
    k_BKTH, v_BKTH = jnp.swapaxes(k_BTKH, 1, 2), jnp.swapaxes(v_BTKH, 1, 2)
    if layer["k"] is None:
      mask = view.own[:, None]
      out = jax.nn.dot_product_attention(q_BTNH, k_BTKH, v_BTKH, mask=mask, scale=a.scale)
    else:
      shared = Shared(layer["k"], layer["v"], view.context)
      out = attend_shared(q_BTNH, k_BKTH, v_BKTH, view.own, shared, a.scale)
    out = keep(out, "attention")
    return rest(a, x_BTD, out, self._norm, self._project), (k_BKTH, v_BKTH)


def _pick(local, full: View | None, windowed: View | None) -> Any:
  """The view of this layer; `local` is traced only where layers of both kinds share one scan."""
  if full is None or windowed is None:
    return full or windowed
  return jax.tree.map(lambda a, b: jnp.where(local, b, a), full, windowed)
