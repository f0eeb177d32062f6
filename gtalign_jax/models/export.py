"""Hugging Face directories out: sharded safetensors, configs, tokenizer, template."""

import contextlib
import functools
import json
import operator
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError
from safetensors.numpy import save_file

from gtalign_jax import files
from gtalign_jax.errors import RunFailure
from gtalign_jax.models import folder, hf_config, weights
from gtalign_jax.models.variants import Arch
from gtalign_jax.sections import PolicyConfig

SHARD_BYTES = 4 * 2**30  # of a file of weights; below the limits of common file stores


def save(
  arch: Arch, params, tokenizer, out_dir, *, eos_ids, card: str = "", shard_bytes=SHARD_BYTES
) -> Path:
  """Writes a policy as a directory that transformers and `models.load` read; returns the directory.

  params: plain parameters (LoRA merged), written in their own dtype; None: no weights, for
  `models.describe`. eos_ids: every id that ends a turn. card: README.md, "" for none. Raises as
  `_whole` does.
  """
  with _whole(out_dir) as part:
    dtype = "float32"
    if params is not None:
      dtype = params["embed"]["table"].dtype.name  # norms may be wider
      _write_weights(arch, params, part, shard_bytes)
    eos = sorted(eos_ids)
    ids = {
      "bos_token_id": tokenizer.bos_token_id,
      "eos_token_id": eos[0] if len(eos) == 1 else eos,
      "pad_token_id": tokenizer.pad_token_id,
    }
    ids = {key: value for key, value in ids.items() if value not in (None, [])}
    _write_words(tokenizer, card, part)
    _dump(part / "config.json", hf_config.write(arch, dtype) | ids)
    _dump(part / "generation_config.json", ids)
  return Path(out_dir)


def save_adapters(
  arch: Arch, adapters, policy: PolicyConfig, tokenizer, out_dir, *, base: str, card: str = ""
) -> Path:
  """Writes LoRA adapters as PEFT reads them, without the base; returns the directory.

  adapters: the tree of models/lora.py. base: hub id of the model they belong to, "" where it has
  none. The tokenizer comes along, for it holds the chat template. Raises as `_whole` does.
  """
  with _whole(out_dir) as part:
    tensors, targets = {}, []
    for leaf in weights.leaves(arch):
      target = leaf.path[1]
      if leaf.path[-1] != "kernel" or target not in adapters.get(leaf.path[0], {}):
        continue
      targets.append(leaf.names[0].split(".")[-2])  # q_proj of model.layers.0.self_attn.q_proj
      # a tensor of PEFT is [out, in], and heads lie flat
      flat_a = np.asarray(adapters["layers"][target]["lora_a"])
      flat_a = flat_a.reshape(arch.num_layers, -1, policy.lora_rank)
      flat_b = np.asarray(adapters["layers"][target]["lora_b"])
      flat_b = flat_b.reshape(arch.num_layers, policy.lora_rank, -1)
      for i, name in enumerate(leaf.names):
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{stem}.lora_A.weight"] = np.ascontiguousarray(flat_a[i].T)
        tensors[f"{stem}.lora_B.weight"] = np.ascontiguousarray(flat_b[i].T)
    save_file(tensors, part / "adapter_model.safetensors", metadata={"format": "pt"})
    _write_words(tokenizer, card, part)
    config = {
      "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base or None,
      "r": policy.lora_rank, "lora_alpha": policy.lora_alpha, "lora_dropout": 0.0,
      "use_rslora": policy.lora_rank_stabilised, "target_modules": targets, "bias": "none",
      "fan_in_fan_out": False, "inference_mode": True,
    }  # fmt: skip
    _dump(part / "adapter_config.json", config)
  return Path(out_dir)


@contextlib.contextmanager
def _whole(out_dir: str | Path) -> Iterator[Path]:
  """A folder to fill, which becomes `out_dir` when the block ends without an error.

  A directory that is not there appears by one rename. Raises BadInput where `out_dir` cannot be
  written or is not empty, RunFailure where the disk refuses.
  """
  files.check_folder(out_dir, "--out", empty=True)
  out = Path(out_dir).resolve()  # a link stays, and what it names is filled
  # within a directory that is there: it may be a mount, and another file system than its parent
  part = out / ".part" if out.is_dir() else out.with_name(f".{out.name}.part")
  shutil.rmtree(part, ignore_errors=True)
  try:
    part.mkdir(parents=True)
    yield part
    _appear(part, out)
  except (OSError, SafetensorError) as error:
    raise RunFailure(f"could not write {str(out)!r}: {error}; nothing was left there") from error
  finally:
    shutil.rmtree(part, ignore_errors=True)


def _appear(part: Path, out: Path) -> None:
  """Puts what is in `part` in the place of `out`; on an error nothing of it is left there."""
  for path in part.iterdir():
    files.follow_umask(path)  # safetensors writes files that only their owner reads
  if not out.is_dir():
    part.replace(out)
    return
  # the config comes last: without one no reader takes a folder for a model
  last = ("config.json", "adapter_config.json")
  names = sorted((path.name for path in part.iterdir()), key=lambda name: name in last)
  try:
    for name in names:
      (part / name).replace(out / name)
  except BaseException:
    for name in names:
      (out / name).unlink(missing_ok=True)
    raise


def _write_words(tokenizer: Any, card: str, directory: Path) -> None:
  """The card, and the tokenizer's files as transformers 4 and programs built on it know them."""
  if card:
    (directory / "README.md").write_text(card, encoding="utf-8")
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


def _dump(path: Path, value: dict[str, Any]) -> None:
  path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_weights(arch: Arch, params: Any, directory: Path, shard_bytes: int) -> None:
  """Shards of at most `shard_bytes` (a larger tensor alone in one), and their index if several."""
  places = [(leaf, i) for leaf in weights.leaves(arch) for i in range(len(leaf.names))]
  # layer by layer: whoever reads the model in order opens one shard at a time
  places.sort(key=lambda place: (place[0].stacked, place[1]))
  tensors = {leaf.names[i]: (leaf, i) for leaf, i in places}

  def array(leaf: weights.Leaf) -> Any:
    return functools.reduce(operator.getitem, leaf.path, params)

  def item(leaf: weights.Leaf, i: int) -> np.ndarray:
    return weights.stored(leaf, np.asarray(array(leaf)[i] if leaf.stacked else array(leaf)))

  split = split_state_dict_into_shards_factory(
    {name: array(leaf).nbytes // len(leaf.names) for name, (leaf, _) in tensors.items()},
    get_storage_size=int,
    filename_pattern="model{suffix}.safetensors",
    max_shard_size=shard_bytes,
  )
  for file, names in split.filename_to_tensors.items():  # one shard at a time on the host
    shard = {name: item(*tensors[name]) for name in names}
    save_file(shard, directory / file, metadata={"format": "pt"})
  if split.is_sharded:
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    _dump(directory / folder.INDEX, index)
