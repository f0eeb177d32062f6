"""The device mesh ("data", "fsdp", "tensor"); one device is the mesh (1, 1, 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from gtalign_jax.errors import BadInput
from gtalign_jax.parallel import sharding
from gtalign_jax.sections import MeshConfig

AXES = ("data", "fsdp", "tensor")


def sizes(config: MeshConfig, devices: int) -> tuple[int, int, int]:
  """Axis sizes with -1 filled in.

  Raises BadInput where the sizes do not multiply to `devices`.
  """
  wanted = [config.data, config.fsdp, config.tensor]
  fixed = math.prod(size for size in wanted if size != -1)
  if -1 in wanted and devices % fixed == 0:
    wanted[wanted.index(-1)] = devices // fixed
  if math.prod(wanted) != devices:
    shape = ", ".join(f"mesh.{axis}={size}" for axis, size in zip(AXES, wanted))
    raise BadInput(
      f"{shape}: does not divide {devices} devices; choose sizes whose product is {devices}"
    )
  return wanted[0], wanted[1], wanted[2]


def make(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Builds the mesh over `devices` (default: all)."""
  devices = jax.devices() if devices is None else list(devices)
  # Split: fsdp=8 and tensor=2 have no axis of their own on a slice of 4x4, and jax.make_mesh fails.
  # Where whole axes of the slice do, the layout is the same as without it.
  placed = mesh_utils.create_device_mesh(
    sizes(config, len(devices)), devices, allow_split_physical_axes=True
  )
  # Auto: jax 0.9 made Explicit the default, and our programs leave propagation to the compiler.
  return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 3)


def row_shards(mesh: Mesh) -> int:
  """Parts that the rows of a batch are split into: data and fsdp together, as in ZeRO-3."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def check_model(mesh: Mesh, dimensions: dict[str, tuple[str, int]], model: str) -> None:
  """Checks that the mesh divides the model.

  dimensions: {name: (logical axis, size)}. Raises BadInput naming the first one that is not divided
  by its mesh axis.
  """
  for name, (logical, size) in dimensions.items():
    axis = sharding.RULES[logical]
    if isinstance(axis, str) and size % mesh.shape[axis]:
      fits = [d for d in range(1, size + 1) if size % d == 0]
      raise BadInput(
        f"mesh.{axis}={mesh.shape[axis]} does not divide {name}={size} ({model}); "
        f"use one of {fits[:8]}"
      )


def check_rows(key: str, rows: int, shards: int) -> None:
  """Raises BadInput where a batch of `rows` does not split over the data and fsdp axes.

  rows 0: of a slice, all rows of its batch, which has a check of its own.
  """
  if rows % shards:
    also = ", or 0 for all at once" if ".micro_" in key or key.endswith("_at_once") else ""
    raise BadInput(
      f"{key}={rows} does not split over mesh.data*mesh.fsdp={shards}; use a multiple of "
      f"{shards}{also}"
    )
