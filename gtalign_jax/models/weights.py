"""From named tensors of a checkpoint to the parameter tree, slice by slice, and back.

A checkpoint stores linear maps as [out, in] and one tensor a layer; the tree stores [in…, out…]
with layers stacked. Every device's part is read straight from the file, so no tensor is ever whole
on the host unless a device holds it whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import jax
import ml_dtypes
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from gtalign_jax.errors import BadInput
from gtalign_jax.models import decoder
from gtalign_jax.models.variants import FAMILIES, Arch, split_dimensions
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import sharding

Index = tuple[slice, ...]
_ALIGNMENT = 64  # bytes
_SHOWN = 8  # faults that an error lists
_BLOCK = 1 << 19  # values read at once
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


class Source(Protocol):
  """Named tensors under their Hugging Face names."""

  shapes: dict[str, tuple[int, ...]]

  def read(self, name: str, index: Index) -> np.ndarray:
    """Part of a tensor; slices have a start, a stop and step 1."""


class Leaf(NamedTuple):
  """One array of the parameter tree and where a checkpoint keeps it.

  path: keys into the tree. shape: of the tree's array. names: tensor names, one a layer if stacked.
  inputs: number of input axes of a matrix (0: not a matrix, stored as it is).
  """

  path: tuple[str, ...]
  shape: tuple[int, ...]
  names: tuple[str, ...]
  inputs: int

  @property
  def stacked(self) -> bool:
    return self.path[0] == "layers"

  @property
  def item_shape(self) -> tuple[int, ...]:
    """Shape of one layer's part."""
    return self.shape[1:] if self.stacked else self.shape

  @property
  def stored_shape(self) -> tuple[int, ...]:
    """Shape of one tensor in a checkpoint."""
    shape = self.item_shape
    if self.inputs:
      return math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs])
    return shape if self.path[-1] == "table" else (math.prod(shape),)


def leaves(arch: Arch) -> Iterator[Leaf]:
  """All arrays of the parameter tree, in its order."""
  keys = FAMILIES[arch.family].keys
  for path, leaf in jax.tree_util.tree_flatten_with_path(decoder.abstract(arch))[0]:
    parts = tuple(entry.key for entry in path)
    suffix = "bias" if parts[-1] == "bias" else "weight"
    if parts[0] == "layers":
      names = tuple(f"model.layers.{i}.{keys[parts[1]]}.{suffix}" for i in range(arch.num_layers))
    else:
      top = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}[parts[0]]
      names = (f"{top}.{suffix}",)
    inputs = (2 if parts[1] == "o" else 1) if parts[-1] == "kernel" else 0
    yield Leaf(parts, leaf.shape, names, inputs)


def check(arch: Arch, source: Source, where: str) -> None:
  """Raises BadInput that lists missing, surplus and mis-shaped tensors at once."""
  wanted = {name: leaf.stored_shape for leaf in leaves(arch) for name in leaf.names}
  found = dict(source.shapes)
  if arch.tied and "lm_head.weight" in found and _same_as_embedding(source):
    found.pop("lm_head.weight")  # some writers store the shared matrix under both names
  faults = [f"missing {name} {_show(shape)}" for name, shape in wanted.items() if name not in found]
  faults += [
    f"surplus {name} {_show(shape)}" for name, shape in found.items() if name not in wanted
  ]
  faults += [
    f"{name} is {_show(found[name])}, must be {_show(shape)}"
    for name, shape in wanted.items()
    if name in found and tuple(found[name]) != shape
  ]
  if faults:
    shown = "; ".join(faults[:_SHOWN])
    if len(faults) > _SHOWN:
      shown += f"; and {len(faults) - _SHOWN} more"
    raise BadInput(
      f"tensors of {where} do not fit its config ({arch.family}): {shown}; "
      "use the files of one and the same model"
    )


def _show(shape: tuple[int, ...]) -> str:
  return "x".join(map(str, shape))


def _same_as_embedding(source: Source) -> bool:
  names = ("lm_head.weight", "model.embed_tokens.weight")
  if any(name not in source.shapes for name in names):
    return False
  shape = source.shapes[names[0]]
  if shape != source.shapes[names[1]]:
    return False
  for start in range(0, shape[0], 4096):
    index = (slice(start, min(start + 4096, shape[0])), slice(0, shape[1]))
    first, second = (source.read(name, index) for name in names)
    if not np.array_equal(first, second):
      return False
  return True


def assemble(arch: Arch, source: Source, dtype: str, mesh: Mesh | None) -> Any:
  """The parameter tree in `dtype`, split over `mesh` (None: whole, on the default device).

  Norm scales are at least f32, whatever `dtype` is (`decoder.leaf_dtype`).

  Raises BadInput where the mesh does not divide the model, or a weight is NaN or infinite.
  """
  check_mesh(arch, mesh)
  axes = decoder.logical_axes(arch)
  tree: dict[str, Any] = {}
  for leaf in leaves(arch):
    node, names = tree, axes
    for key in leaf.path[:-1]:
      node = node.setdefault(key, {})
    for key in leaf.path:
      names = names[key]
    place = (
      SingleDeviceSharding(_default_device()) if mesh is None else sharding.sharding(mesh, names)
    )
    kind = np.dtype(decoder.leaf_dtype(leaf.path[-1], dtype))
    node[leaf.path[-1]] = _array(leaf, source, kind, place)
  return tree


def check_mesh(arch: Arch, mesh: Mesh | None) -> None:
  """Raises BadInput where an axis of the mesh does not divide what it splits."""
  if mesh is not None:
    meshes.check_model(mesh, split_dimensions(arch), arch.name)


def _default_device() -> jax.Device:
  device = getattr(jax.config, "jax_default_device", None)
  return device if isinstance(device, jax.Device) else jax.local_devices()[0]


def _array(leaf: Leaf, source: Source, dtype, place) -> jax.Array:
  """Part by part, so that beside what the devices hold only one part is on the host.

  A CPU device takes the part over as its own memory instead of copying it.
  """
  devices: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
  for device, index in place.addressable_devices_indices_map(leaf.shape).items():
    bounds = tuple(s.indices(size)[:2] for s, size in zip(index, leaf.shape))
    devices.setdefault(bounds, []).append(device)
  held = []
  for bounds, replicas in devices.items():
    part = read_leaf(leaf, source, tuple(slice(*each) for each in bounds), dtype)
    held += jax.block_until_ready(
      [jax.device_put(part, device, may_alias=True) for device in replicas]
    )
  return jax.make_array_from_single_device_arrays(leaf.shape, place, held)


def read_leaf(leaf: Leaf, source: Source, index: Index, dtype) -> np.ndarray:
  """The part `index` of a leaf as a host array."""
  out = _aligned(tuple(s.stop - s.start for s in index), dtype)
  if not leaf.stacked:
    _read_item(leaf, source, leaf.names[0], index, out)
    return out
  for row, i in enumerate(range(index[0].start, index[0].stop)):
    _read_item(leaf, source, leaf.names[i], index[1:], out[row])
  return out


def _aligned(shape: tuple[int, ...], dtype) -> np.ndarray:
  """An uninitialised array at a multiple of 64 bytes: XLA:CPU copies others."""
  size = math.prod(shape) * np.dtype(dtype).itemsize
  raw = np.empty(size + _ALIGNMENT, np.uint8)
  start = -raw.ctypes.data % _ALIGNMENT
  return raw[start : start + size].view(dtype).reshape(shape)


def _read_item(leaf: Leaf, source: Source, name: str, index: Index, out: np.ndarray) -> None:
  """Fills `out` with one tensor's part, some rows of the file at a time."""
  if leaf.inputs:
    n = leaf.inputs
    ins = _flat_slice(leaf.item_shape[:n], index[:n])
    rows = _flat_slice(leaf.item_shape[n:], index[n:])
    rest: Index = (ins,)
    out = out.reshape(ins.stop - ins.start, -1).T
  elif leaf.path[-1] == "table":
    rows, rest = index[0], index[1:]
  else:
    rows, rest = _flat_slice(leaf.item_shape, index), ()
    out = out.reshape(-1)
  # what a source maps or dequantises for one read stays far below a large tensor
  block = max(1, _BLOCK * len(out) // max(1, out.size))
  for start in range(0, len(out), block):
    stop = min(start + block, len(out))
    part = source.read(name, (slice(rows.start + start, rows.start + stop), *rest))
    # one number that a NaN or an infinity anywhere reaches: cheaper than to look at each value
    if not np.isfinite(part.sum(dtype=np.float32)):
      raise BadInput(
        f"tensor {name} holds values that are not finite; fetch the model's files again"
      )
    out[start:stop] = part


def _flat_slice(sizes: tuple[int, ...], index: Index) -> slice:
  """The slice of flattened axes that `index` selects; only the first axis may be split."""
  inner = math.prod(sizes[1:])
  if any(s.stop - s.start != size for s, size in zip(index[1:], sizes[1:])):
    raise ValueError(f"only the first of the axes {sizes} may be split over devices")
  return slice(index[0].start * inner, index[0].stop * inner)


def stored(leaf: Leaf, item: np.ndarray) -> np.ndarray:
  """One layer's part of a leaf in checkpoint layout; the inverse of reading."""
  if leaf.inputs:
    rows = math.prod(leaf.item_shape[: leaf.inputs])
    item = item.reshape(rows, -1).T
  return np.ascontiguousarray(item.reshape(leaf.stored_shape))
