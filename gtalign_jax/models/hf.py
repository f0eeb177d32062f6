"""Hugging Face directories: config, safetensors shards read through a memory map, tokenizer."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.models import folder, hf_config, tokenizer, vocabulary
from gtalign_jax.models.variants import Arch
from gtalign_jax.models.weights import Index

_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
# buffers that old checkpoints carry along; rotary frequencies follow from the config
_BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


class Safetensors:
  """All shards of a directory; a `weights.Source`. Raises BadInput where they cannot be read.

  The format is a JSON header of offsets, and then the bytes (huggingface/safetensors, README).
  """

  def __init__(self, directory: Path):
    self.shapes: dict[str, tuple[int, ...]] = {}
    self._places: dict[str, tuple[Path, type, int]] = {}  # file, dtype, offset of each tensor
    paths, named = folder.shards(directory)
    for path in paths:
      self._index(path)
    for name, file in named.items():
      found = self._places[name][0].name if name in self._places else None
      if not name.endswith(_BUFFERS) and found != file:
        raise BadInput(f"{directory / folder.INDEX}: {file} holds no tensor {name}")

  def _index(self, path: Path) -> None:
    try:
      # the library's own reader first: it refuses offsets that overlap, leave holes or lie beyond
      # the file, shapes that do not fit them, and headers that are no header
      with safe_open(path, "numpy"), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    except (OSError, ValueError, SafetensorError) as error:
      reason = f"is cut short or no readable safetensors ({first_line(error)})"
      raise BadInput(f"model file {str(path)!r} {reason}; fetch it again") from error
    header.pop("__metadata__", None)
    for name, entry in header.items():
      if name.endswith(_BUFFERS):
        continue
      if name in self._places:
        other = self._places[name][0].name
        raise BadInput(f"model files {str(path)!r} and {other} both hold {name}; remove one")
      if entry["dtype"] not in _DTYPES:
        raise BadInput(
          f"model file {str(path)!r}: {name} has dtype {entry['dtype']}, not one of "
          f"{', '.join(_DTYPES)}; use an unquantised checkpoint"
        )
      self.shapes[name] = tuple(entry["shape"])
      offset = 8 + length + entry["data_offsets"][0]
      self._places[name] = path, _DTYPES[entry["dtype"]], offset

  def read(self, name: str, index: Index) -> np.ndarray:
    """Part of a tensor, in the file's dtype."""
    path, dtype, offset = self._places[name]
    # mapped anew for each read, so pages of the file never pile up in the process
    return np.memmap(path, dtype, "r", offset, self.shapes[name])[index]


def describe(directory: Path) -> tuple[Arch, Any, tuple[int, ...]]:
  """(architecture, tokenizer, ids that end a turn) of a directory; no weights are looked at."""
  config = folder.read_json(directory / "config.json")
  arch = hf_config.read(config, str(directory))
  made = tokenizer.from_directory(directory)
  generation = folder.read_optional(directory / "generation_config.json")
  # in this order: config.json of an instruct model may still name the end of its base model
  files = {"generation_config.json": generation, "config.json": config}
  named = [(name, found.get("eos_token_id")) for name, found in files.items()]
  named.append(("the tokenizer", made.eos_token_id))
  return arch, made, vocabulary.eos_ids(named, made, str(directory))
