"""Which files of a Hugging Face directory are read; everything else that lies there is ignored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_JSON_BYTES = 2**27  # a tokenizer of 256,000 tokens takes a quarter of it
# what else people find in a folder without weights that are read, and what to do about it
_HINTS = {
  "adapter_model.safetensors": "it holds an adapter alone: merge it into its base model "
  "(peft: merge_and_unload) and name the merged model",
  "pytorch_model*.bin": "it holds PyTorch weights: save the model as safetensors",
  "*.gguf": "name the .gguf file itself",
  "model-*-of-*.safetensors": f"it holds shards without {INDEX}: fetch that too",
  "model.*.safetensors": f"it holds a variant alone: rename it to {SINGLE}",
}


def read_json(path: Path) -> dict[str, Any]:
  """The object that a JSON file holds. Raises BadInput where there is none, in one line."""
  try:
    if not path.is_file():  # also a pipe, which would never end
      raise BadInput(f"{path} is missing, or no file")
    if path.stat().st_size > _JSON_BYTES:
      raise BadInput(f"{path} is larger than {_JSON_BYTES} bytes, which no such file is")
  except OSError as error:
    raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
  return jsonl.read_object(path)


def read_optional(path: Path) -> dict[str, Any]:
  """`read_json`; {} where nothing of that name is there, not even a link to nowhere."""
  return read_json(path) if os.path.lexists(path) else {}


def shards(directory: Path) -> tuple[list[Path], dict[str, str]]:
  """The files that hold the weights, and which of them holds which tensor ({}: the only one).

  They are model.safetensors, or what its index names: a folder may hold weights of other kinds
  beside them (another format or precision, an adapter, remnants of a file system). Raises BadInput
  where they are missing, or there are both.
  """
  single = directory / SINGLE
  if not os.path.lexists(directory / INDEX):
    if single.is_file():
      return [single], {}
    raise BadInput(f"model {str(directory)!r} has no {SINGLE} and no {INDEX}{_hint(directory)}")
  index = read_json(directory / INDEX)
  where = index.get("weight_map")
  if not isinstance(where, dict) or not where:
    raise BadInput(f"{directory / INDEX}: weight_map={str(where)[:60]!r} must map tensors to files")
  for name, file in where.items():
    # a path would let the index of a stranger's model read files from elsewhere
    if not isinstance(file, str) or not file.endswith(".safetensors") or Path(file).name != file:
      raise BadInput(
        f"{directory / INDEX}: {name} is in {str(file)[:60]!r}, which is no name of a "
        ".safetensors file of the same folder"
      )
  named = sorted(set(where.values()))
  absent = [name for name in named if not (directory / name).is_file()]
  if absent:
    raise BadInput(f"model {str(directory)!r} lacks shards {_first(absent)}; fetch them")
  if single.is_file() and SINGLE not in named:
    raise BadInput(
      f"model {str(directory)!r} holds its weights twice, in {SINGLE} and in the shards of "
      f"{INDEX}; remove one of them"
    )
  return [directory / name for name in named], where


def _hint(directory: Path) -> str:
  for pattern, hint in _HINTS.items():
    if any(directory.glob(pattern)):
      return f"; {hint}"
  return "; fetch the model's files"


def _first(names: list[str], count: int = 8) -> str:
  more = f" and {len(names) - count} more" if len(names) > count else ""
  return ", ".join(names[:count]) + more
