"""Which files of a Hugging Face directory are read; everything else that lies there is ignored."""

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

  Raises BadInput where they are missing, or the folder holds them twice.
  """
  # by name, not all there are: a folder may hold weights of other kinds beside them (another format
  # or precision, an adapter, remnants of a file system)
  single, index, model = directory / SINGLE, directory / INDEX, f"model {str(directory)!r}"
  if not os.path.lexists(index):
    if single.is_file():
      return [single], {}
    hints = [hint for pattern, hint in _HINTS.items() if any(directory.glob(pattern))]
    fix = [*hints, "fetch the model's files"][0]
    raise BadInput(f"{model} has no {SINGLE} and no {INDEX}; {fix}")
  where = read_json(index).get("weight_map")
  if not isinstance(where, dict) or not where:
    raise BadInput(f"{index}: weight_map={str(where)[:60]!r} must map tensors to files")
  for name, file in where.items():
    # a path would let the index of a stranger's model read files from elsewhere
    if not isinstance(file, str) or not file.endswith(".safetensors") or Path(file).name != file:
      rule = "which is no name of a .safetensors file of the same folder"
      raise BadInput(f"{index}: {name} is in {str(file)[:60]!r}, {rule}")
  named = sorted(set(where.values()))
  absent = [name for name in named if not (directory / name).is_file()]
  if absent:
    more = f" and {len(absent) - 8} more" if len(absent) > 8 else ""  # a large model has hundreds
    raise BadInput(f"{model} lacks shards {', '.join(absent[:8])}{more}; fetch them")
  if single.is_file() and SINGLE not in named:
    both = f"in {SINGLE} and in the shards of {INDEX}"
    raise BadInput(f"{model} holds its weights twice, {both}; remove one of them")
  return [directory / name for name in named], where
