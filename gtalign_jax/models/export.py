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

from gtalign_jax.errors import BadInput, RunFailure
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

  params: plain parameters (LoRA merged), written in their own dtype. The directory appears by one
  rename, so a reader never sees half of it. Raises BadInput where `out_dir` exists and is not
  empty, RunFailure where the disk refuses.
  """
  out = Path(out_dir)
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise BadInput(f"--out {str(out)!r} exists and is not empty; name a new directory")
  part = out.with_name(f".{out.name}.part")
  shutil.rmtree(part, ignore_errors=True)
  try:
    part.mkdir(parents=True)
    dtype = _write_weights(arch, params, part, shard_bytes)
    ids = _special_ids(tokenizer, eos_ids)
    tokenizer.save_pretrained(part)
    _dump(part / "config.json", hf_config.write(arch, dtype) | ids)
    _dump(part / "generation_config.json", ids)
    part.replace(out)
  except (OSError, SafetensorError) as error:
    raise RunFailure(f"could not write {str(out)!r}: {error}; nothing was left there") from error
  finally:
    shutil.rmtree(part, ignore_errors=True)
  return out


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


def _write_weights(arch: Arch, params: Any, directory: Path, shard_bytes: int) -> str:
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
  dtype = tensor.dtype.name
  flush()
  _name_shards(directory, shards, total)
  return dtype


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
