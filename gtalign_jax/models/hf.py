"""Hugging Face directories: config, safetensors shards read through a memory map, tokenizer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jax.sharding import Mesh

from gtalign_jax.errors import BadInput
from gtalign_jax.models import hf_config, tokenizer, weights
from gtalign_jax.models.policy import Policy
from gtalign_jax.models.weights import Index

_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
# Buffers that old checkpoints carry along; rotary frequencies follow from the config.
_BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


class _Place(NamedTuple):
  path: Path
  dtype: type
  offset: int


class Safetensors:
  """All shards of a directory; a `weights.Source`. Raises BadInput where they cannot be read.

  Each read maps its tensor's bytes anew and lets go of them, so pages of the file never pile up in
  the process; the format is a JSON header of offsets (huggingface/safetensors, README).
  """

  def __init__(self, directory: Path):
    self.shapes: dict[str, tuple[int, ...]] = {}
    self._places: dict[str, _Place] = {}
    for path in _shards(directory):
      self._index(path)

  def _index(self, path: Path) -> None:
    try:
      with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= path.stat().st_size - 8:
          raise ValueError("the header is longer than the file")
        header: dict[str, Any] = json.loads(file.read(length))
    except (OSError, ValueError) as error:
      raise BadInput(f"model file {str(path)!r} is not readable safetensors: {error}") from error
    header.pop("__metadata__", None)
    for name, entry in header.items():
      if name.endswith(_BUFFERS):
        continue
      if entry["dtype"] not in _DTYPES:
        raise BadInput(
          f"model file {str(path)!r}: {name} has dtype {entry['dtype']}, not one of "
          f"{', '.join(_DTYPES)}; use an unquantised checkpoint"
        )
      dtype, (start, stop) = _DTYPES[entry["dtype"]], entry["data_offsets"]
      shape = tuple(entry["shape"])
      if stop - start != math.prod(shape) * np.dtype(dtype).itemsize or (
        8 + length + stop > path.stat().st_size
      ):
        raise BadInput(f"model file {str(path)!r} is cut short at tensor {name}; fetch it again")
      self.shapes[name] = shape
      self._places[name] = _Place(path, dtype, 8 + length + start)

  def read(self, name: str, index: Index) -> np.ndarray:
    """Part of a tensor, in the file's dtype."""
    path, dtype, offset = self._places[name]
    return np.memmap(path, dtype, "r", offset, self.shapes[name])[index]


def _shards(directory: Path) -> list[Path]:
  """Files of the index if there is one, else every .safetensors file."""
  index = directory / "model.safetensors.index.json"
  if not index.is_file():
    found = sorted(directory.glob("*.safetensors"))
    if not found:
      raise BadInput(f"model {str(directory)!r} has no *.safetensors files")
    return found
  named = sorted(set(_json(index)["weight_map"].values()))
  absent = [name for name in named if not (directory / name).is_file()]
  if absent:
    raise BadInput(f"model {str(directory)!r} lacks shards {', '.join(absent)}; fetch them")
  return [directory / name for name in named]


def _json(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise BadInput(f"{str(path)!r} is not readable JSON: {error}") from error


def load(directory: Path, dtype: str, mesh: Mesh | None):
  """A policy from a Hugging Face directory; see `models.load`."""
  config = _json(directory / "config.json")
  arch = hf_config.read(config, str(directory))
  source = Safetensors(directory)
  weights.check(arch, source, str(directory))
  made = tokenizer.from_directory(directory)
  params = weights.assemble(arch, source, dtype, mesh)
  return Policy(arch, params, made, _eos_ids(directory, config, made))


def _eos_ids(directory: Path, config: dict[str, Any], made: Any) -> tuple[int, ...]:
  """The ids that end a turn: of generation_config.json, config.json or the tokenizer."""
  generation = directory / "generation_config.json"
  given = _json(generation).get("eos_token_id") if generation.is_file() else None
  for ids in (given, config.get("eos_token_id"), made.eos_token_id):
    if ids is not None:
      return tuple(sorted({ids} if isinstance(ids, int) else set(ids)))
  return ()
