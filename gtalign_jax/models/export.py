"""Hugging Face directories out: sharded safetensors, configs, tokenizer, template."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from gtalign_jax import files
from gtalign_jax.errors import RunFailure
from gtalign_jax.models import hf_config, weights
from gtalign_jax.models.variants import Arch

SHARD_BYTES = 4 * 2**30  # of a file of weights; below the limits of common file stores


def save(
  arch: Arch,
  params: Any,
  tokenizer: Any,
  out_dir: str | Path,
  *,
  eos_ids: Sequence[int],
  shard_bytes: int = SHARD_BYTES,
) -> Path:
  """Writes a policy as a directory that transformers and `models.load` read; returns the directory.

  params: plain parameters (LoRA merged), written in their own dtype; None: no weights, for
  `models.describe`. A directory that is not there appears by one rename; an empty one that is there
  gets its config.json last, without which no reader takes it for a model. Raises BadInput where
  `out_dir` cannot be written or is not empty, RunFailure where the disk refuses.
  """
  files.check_folder(out_dir, "--out", empty=True)
  out = Path(out_dir).resolve()  # a link stays, and what it names is filled
  # within a directory that is there: it may be a mount, and another file system than its parent
  part = out / ".part" if out.is_dir() else out.with_name(f".{out.name}.part")
  shutil.rmtree(part, ignore_errors=True)
  try:
    part.mkdir(parents=True)
    dtype = "float32"
    if params is not None:
      dtype = params["embed"]["table"].dtype.name  # norms may be wider
      _write_weights(arch, params, part, shard_bytes)
    ids = _special_ids(tokenizer, eos_ids)
    _write_tokenizer(tokenizer, part)
    _dump(part / "config.json", hf_config.write(arch, dtype) | ids)
    _dump(part / "generation_config.json", ids)
    _appear(part, out)
  except (OSError, SafetensorError) as error:
    raise RunFailure(f"could not write {str(out)!r}: {error}; nothing was left there") from error
  finally:
    shutil.rmtree(part, ignore_errors=True)
  return Path(out_dir)


def _appear(part: Path, out: Path) -> None:
  """Puts what is in `part` in the place of `out`; on an error nothing of it is left there."""
  for path in part.iterdir():
    files.follow_umask(path)  # safetensors writes files that only their owner reads
  if not out.is_dir():
    part.replace(out)
    return
  names = sorted((path.name for path in part.iterdir()), key="config.json".__eq__)
  try:
    for name in names:
      (part / name).replace(out / name)
  except BaseException:
    for name in names:
      (out / name).unlink(missing_ok=True)
    raise


def _write_tokenizer(tokenizer: Any, directory: Path) -> None:
  """The tokenizer's files, in words that transformers 4 knows, too, and programs built on it."""
  tokenizer.save_pretrained(directory)
  path = directory / "tokenizer_config.json"
  config = json.loads(path.read_text(encoding="utf-8"))
  # transformers 5 has names of its own for the class and for the list, and 4 reads neither
  config["tokenizer_class"] = "PreTrainedTokenizerFast"
  if isinstance(config.get("extra_special_tokens"), list):
    config["additional_special_tokens"] = config.pop("extra_special_tokens")
  config.pop("backend", None)
  if tokenizer.chat_template:  # also where readers looked before there was a file for it
    config["chat_template"] = tokenizer.chat_template
  _dump(path, config)


def _special_ids(tokenizer: Any, eos_ids: Sequence[int]) -> dict[str, Any]:
  ids = sorted(eos_ids)
  found = {
    "bos_token_id": tokenizer.bos_token_id,
    "eos_token_id": ids[0] if len(ids) == 1 else ids,
    "pad_token_id": tokenizer.pad_token_id,
  }
  return {key: value for key, value in found.items() if value not in (None, [])}


def _dump(path: Path, value: dict[str, Any]) -> None:
  path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _tensors(arch: Arch, params: Any) -> Iterator[tuple[str, np.ndarray]]:
  """All tensors under their names, in the order of layers, one at a time on the host."""
  per_layer: list[list[weights.Leaf]] = [[] for _ in range(arch.num_layers)]
  top = []
  for leaf in weights.leaves(arch):
    if leaf.stacked:
      for layer in per_layer:
        layer.append(leaf)
    else:
      top.append(leaf)
  for leaf in top:
    yield leaf.names[0], weights.stored(leaf, np.asarray(_at(params, leaf.path)))
  for i, layer in enumerate(per_layer):
    for leaf in layer:
      yield leaf.names[i], weights.stored(leaf, np.asarray(_at(params, leaf.path)[i]))


def _at(tree: Any, path: tuple[str, ...]) -> jax.Array:
  for key in path:
    tree = tree[key]
  return tree


def _write_weights(arch: Arch, params: Any, directory: Path, shard_bytes: int) -> None:
  """Shards of at most `shard_bytes` (a larger tensor alone in one), and their index if several."""
  shards: list[list[str]] = []
  held: dict[str, np.ndarray] = {}
  total = 0

  def flush() -> None:
    save_file(dict(held), directory / _shard(len(shards)), metadata={"format": "pt"})
    shards.append(list(held))
    held.clear()

  for name, tensor in _tensors(arch, params):
    if held and sum(t.nbytes for t in held.values()) + tensor.nbytes > shard_bytes:
      flush()
    held[name] = tensor
    total += tensor.nbytes
  flush()
  _name_shards(directory, shards, total)


def _shard(i: int) -> str:
  return f"shard-{i}.safetensors"


def _name_shards(directory: Path, shards: list[list[str]], total: int) -> None:
  if len(shards) == 1:
    (directory / _shard(0)).rename(directory / "model.safetensors")
    return
  where: dict[str, str] = {}
  for i, names in enumerate(shards):
    file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
    (directory / _shard(i)).rename(directory / file)
    where |= dict.fromkeys(names, file)
  index = {"metadata": {"total_size": total}, "weight_map": where}
  _dump(directory / "model.safetensors.index.json", index)
