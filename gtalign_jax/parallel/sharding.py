"""Logical axis names of arrays and the mesh axes they are split over.

Models and programs speak logical names (`("embed", "heads", "head_dim")`); only this room knows
mesh axes. Parameters: FSDP splits the width, tensor parallelism splits heads, mlp and vocabulary.
Activations: rows go over data and fsdp together, as in ZeRO-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# logical axis -> mesh axes. One table for parameters, activations and caches.
RULES: dict[str, str | tuple[str, ...] | None] = {
  "layers": None,
  "embed": "fsdp",
  "heads": "tensor",
  "kv_heads": "tensor",
  "head_dim": None,
  "mlp": "tensor",
  "vocab": "tensor",
  "lora_rank": None,
  "norm": None,
  "batch": ("data", "fsdp"),
  "time": None,
  "act_embed": None,
}


def spec(names: Sequence[str | None]) -> PartitionSpec:
  """PartitionSpec of an array whose axes have these logical names (None = not split)."""
  return PartitionSpec(*(None if name is None else RULES[name] for name in names))


def sharding(mesh: Mesh, names: Sequence[str | None]) -> NamedSharding:
  """NamedSharding on `mesh` for the logical `names` of an array's axes."""
  return NamedSharding(mesh, spec(names))


def tree_shardings(mesh: Mesh, names_tree: Any) -> Any:
  """Maps a pytree whose leaves are tuples of logical names to NamedShardings."""
  return jax.tree.map(
    lambda names: sharding(mesh, names), names_tree, is_leaf=lambda x: isinstance(x, tuple)
  )


def gathered(names_tree: Any) -> Any:
  """The names tree of parameters that are whole along the width, as decoding wants them.

  Tensor parallelism stays; what FSDP splits is gathered once per step, not at every token.
  """

  def gather(names: tuple[str | None, ...]) -> tuple[str | None, ...]:
    return tuple(None if name and RULES[name] == "fsdp" else name for name in names)

  return jax.tree.map(gather, names_tree, is_leaf=lambda x: isinstance(x, tuple))


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh) -> NamedSharding:
  """The first axis (rows) split over the devices, the others whole."""
  return sharding(mesh, ("batch",))


def constrain(array: jax.Array, names: Sequence[str | None]) -> jax.Array:
  """Sharding constraint by logical names; nothing where no mesh is set (`jax.set_mesh`)."""
  if jax.sharding.get_abstract_mesh().empty:
    return array
  return jax.lax.with_sharding_constraint(array, spec(names))
