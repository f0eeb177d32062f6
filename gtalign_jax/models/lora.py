"""Low-rank adapters (Hu et al. 2021): W + scale * A B on chosen projections, W frozen.

Adapters are a tree of their own, {"layers": {target: {"lora_a": [L, in…, r], "lora_b": [L, r,
out…]}}}, so an optimiser and a checkpoint that are given the adapters hold nothing else.
Differentiate with respect to them through `join`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gtalign_jax.errors import BadInput
from gtalign_jax.models import decoder
from gtalign_jax.models.variants import Arch
from gtalign_jax.sections import PolicyConfig


def scale(config: PolicyConfig) -> float:
  """alpha / rank, or alpha / sqrt(rank) for the rank-stabilised form (Kalajdzievski 2023)."""
  rank = math.sqrt(config.lora_rank) if config.lora_rank_stabilised else config.lora_rank
  return config.lora_alpha / rank


def _inputs(target: str) -> int:
  return 2 if target == "o" else 1  # o contracts heads and head_dim


def init(arch: Arch, key: jax.Array, config: PolicyConfig) -> dict[str, Any]:
  """Fresh adapters in f32: A uniform as in the paper's code, B zero: no change yet.

  Raises BadInput if `lora_rank` is 0 or there are no targets.
  """
  if config.lora_rank < 1 or not config.lora_targets:
    raise BadInput(
      f"policy.lora_rank={config.lora_rank} with policy.lora_targets={config.lora_targets}: "
      "adapters need a rank of at least 1 and at least one target"
    )
  base = decoder.abstract(arch)["layers"]
  made = {}
  # f32 whatever the dtype of the frozen base: a step of lr 1e-6 is lost in bf16
  for i, target in enumerate(config.lora_targets):
    L, *shape = base[target]["kernel"].shape
    ins, outs = shape[: _inputs(target)], shape[_inputs(target) :]
    bound = 1 / math.sqrt(math.prod(ins))  # kaiming_uniform(a=sqrt(5))
    shape_a = (L, *ins, config.lora_rank)
    made[target] = {
      "lora_a": jax.random.uniform(jax.random.fold_in(key, i), shape_a, jnp.float32, -bound, bound),
      "lora_b": jnp.zeros((L, config.lora_rank, *outs), jnp.float32),
    }
  return {"layers": made}


def logical_axes(arch: Arch, config: PolicyConfig) -> dict[str, Any]:
  """The adapter tree with a tuple of logical axis names at each leaf."""
  base = decoder.logical_axes(arch)["layers"]
  made = {}
  for target in config.lora_targets:
    layers, *names = base[target]["kernel"]
    ins, outs = names[: _inputs(target)], names[_inputs(target) :]
    made[target] = {"lora_a": (layers, *ins, "lora_rank"), "lora_b": (layers, "lora_rank", *outs)}
  return {"layers": made}


def join(params: Any, adapters: Any, config: PolicyConfig) -> Any:
  """Parameters that `decoder` computes with; gradients reach the adapters alone."""
  # held constant: gradients of the base would take as much memory as the base itself
  layers = dict(jax.lax.stop_gradient(params["layers"]))
  for target, pair in adapters["layers"].items():
    # the factor goes to B, [r, out…], and not to the product, [B, T, out…]
    scaled = pair["lora_b"] * jnp.asarray(scale(config), pair["lora_b"].dtype)
    layers[target] = layers[target] | {"lora_a": pair["lora_a"], "lora_b": scaled}
  return jax.lax.stop_gradient(params | {"layers": {}}) | {"layers": layers}


def merge(params: Any, adapters: Any, config: PolicyConfig) -> Any:
  """Plain parameters with the adapters added to their matrices, for sampling and export."""
  layers = dict(params["layers"])
  for target, pair in adapters["layers"].items():
    kernel = layers[target]["kernel"]
    # in f32: an adapter's change is often below the last bit of a bf16 kernel
    wide = (x.astype(jnp.float32) for x in (pair["lora_a"], pair["lora_b"]))
    product = jax.vmap(lambda a, b: jnp.tensordot(a, b, axes=1))(*wide)  # layer by layer
    merged = kernel.astype(jnp.float32) + scale(config) * product
    layers[target] = layers[target] | {"kernel": merged.astype(kernel.dtype)}
  return params | {"layers": layers}
