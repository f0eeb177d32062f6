"""From named tensors of a checkpoint to the parameter tree, slice by slice, and back.

A checkpoint stores linear maps as [out, in] and one tensor a layer; the tree stores [in…, out…]
with layers stacked. Each device's part is read straight from the file, so no tensor is ever whole
on the host unless a device holds it whole.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from gtalign_jax.errors import BadInput
from gtalign_jax.models import decoder
from gtalign_jax.models.variants import FAMILIES, Arch, split_dimensions
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import sharding

Index = tuple[slice, ...]
_ALIGNMENT = 64  # bytes; XLA:CPU copies an array that begins elsewhere
_SHOWN = 8  # faults that an error lists
# values read at once, 2 MB in f32: what a source maps or dequantises for one read stays far below a
# large tensor
_BLOCK = 1 << 19
TOP_NAMES = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


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
    return shape if self.path[-1] == "table" else (math.prod(shape),)  # biases lie flat


def leaves(arch: Arch) -> Iterator[Leaf]:
  """All arrays of the parameter tree, in its order."""
  keys = FAMILIES[arch.family].keys
  for path, leaf in jax.tree_util.tree_flatten_with_path(decoder.abstract(arch))[0]:
    parts = tuple(entry.key for entry in path)
    suffix = "bias" if parts[-1] == "bias" else "weight"
    if parts[0] == "layers":
      names = tuple(f"model.layers.{i}.{keys[parts[1]]}.{suffix}" for i in range(arch.num_layers))
    else:
      names = (f"{TOP_NAMES[parts[0]]}.{suffix}",)
    inputs = (2 if parts[1] == "o" else 1) if parts[-1] == "kernel" else 0  # o sums over N and H
    yield Leaf(parts, leaf.shape, names, inputs)


def check(arch: Arch, source: Source, where: str) -> None:
  """Raises BadInput that lists missing, surplus and mis-shaped tensors at once."""
  wanted = {name: leaf.stored_shape for leaf in leaves(arch) for name in leaf.names}
  found = dict(source.shapes)
  if arch.tied and "lm_head.weight" in found and _same_as_embedding(source):
    found.pop("lm_head.weight")  # some writers store the shared matrix under both names
  faults = [f"missing {name} {_show(wanted[name])}" for name in wanted if name not in found]
  faults += [f"surplus {name} {_show(found[name])}" for name in found if name not in wanted]
  faults += [
    f"{name} is {_show(found[name])}, must be {_show(shape)}"
    for name, shape in wanted.items()
    if name in found and tuple(found[name]) != shape
  ]
  if faults:
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    raise BadInput(
      f"tensors of {where} do not fit its config ({arch.family}): "
      f"{'; '.join(faults[:_SHOWN] + more)}; use the files of one and the same model"
    )


def _show(shape: tuple[int, ...]) -> str:
  return "x".join(map(str, shape))


def _same_as_embedding(source: Source) -> bool:
  names = ("lm_head.weight", "model.embed_tokens.weight")
  shape = source.shapes[names[0]]
  if source.shapes.get(names[1]) != shape or len(shape) != 2:
    return False
  rows, width = shape
  for start in range(0, rows, 4096):  # 32 MB at a width of 2,048: the table itself may be 1 GB
    index = (slice(start, min(start + 4096, rows)), slice(0, width))
    first, second = (source.read(name, index) for name in names)
    if not np.array_equal(first, second):
      return False
  return True


def assemble(arch: Arch, source: Source, dtype: str, mesh: Mesh | None) -> Any:
  """The parameter tree, split over `mesh` (None: whole, on the default device).

  dtype: see `decoder.leaf_dtype`. Raises BadInput where the mesh does not divide the model, or a
  weight is NaN or infinite.
  """
  check_mesh(arch, mesh)  # before the first byte is read: 60 GB take minutes
  shapes, tree = jax.tree.flatten(decoder.abstract(arch, dtype))
  if mesh is None:
    device = getattr(jax.config, "jax_default_device", None)  # may be a platform's name
    device = device if isinstance(device, jax.Device) else jax.local_devices()[0]
    places = [SingleDeviceSharding(device)] * len(shapes)
  else:
    places = jax.tree.leaves(sharding.tree_shardings(mesh, decoder.logical_axes(arch)))
  each = zip(leaves(arch), shapes, places, strict=True)
  return jax.tree.unflatten(tree, [_array(leaf, source, x.dtype, place) for leaf, x, place in each])


def check_mesh(arch: Arch, mesh: Mesh | None) -> None:
  """Raises BadInput where an axis of the mesh does not divide what it splits."""
  if mesh is not None:
    meshes.check_model(mesh, split_dimensions(arch), arch.name)


def _array(leaf: Leaf, source: Source, dtype, place) -> jax.Array:
  """Part by part, so that beside what the devices hold only one part is on the host."""
  devices: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
  for device, index in place.addressable_devices_indices_map(leaf.shape).items():
    bounds = tuple(s.indices(size)[:2] for s, size in zip(index, leaf.shape))
    devices.setdefault(bounds, []).append(device)
  held = []
  for bounds, replicas in devices.items():
    part = _aligned([stop - start for start, stop in bounds], dtype)
    index = tuple(slice(*each) for each in bounds)
    if leaf.stacked:
      for row, i in enumerate(range(*bounds[0])):
        _read_item(leaf, source, leaf.names[i], index[1:], part[row])
    else:
      _read_item(leaf, source, leaf.names[0], index, part)
    # until ready: else the parts of all leaves would wait on the host at once. A CPU device takes
    # the part over as its own memory (may_alias) instead of copying it
    held += jax.block_until_ready([jax.device_put(part, d, may_alias=True) for d in replicas])
  return jax.make_array_from_single_device_arrays(leaf.shape, place, held)


def _aligned(shape: Sequence[int], dtype) -> np.ndarray:
  """An uninitialised array at a multiple of _ALIGNMENT."""
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
    # a view: the values are turned while they are copied out of the file
    out = out.reshape(ins.stop - ins.start, -1).T
  elif leaf.path[-1] == "table":
    rows, rest = index[0], index[1:]
  else:
    rows, rest = _flat_slice(leaf.item_shape, index), ()
    out = out.reshape(-1)
  block = max(1, _BLOCK * len(out) // max(1, out.size))
  for start in range(0, len(out), block):
    stop = min(start + block, len(out))
    part = source.read(name, (slice(rows.start + start, rows.start + stop), *rest))
    # one number that a NaN or an infinity anywhere reaches: cheaper than to look at each value
    if not np.isfinite(part.sum(dtype=np.float32)):
      fix = "fetch the model's files again"
      raise BadInput(f"tensor {name} holds values that are not finite; {fix}")
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
