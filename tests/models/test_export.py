"""Hugging Face directories out, and in again."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import model_cases
import numpy as np
import pytest

from gtalign_jax import models
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.models import export


@pytest.mark.parametrize(
  "name, dtype", [(name, "float32") for name in model_cases.CASES] + [("gemma3", "bfloat16")]
)
def test_parameters_come_back_bit_for_bit(name, dtype, tmp_path):
  arch, params = model_cases.build(name)
  params = jax.tree.map(lambda x: x.astype(dtype), params)
  out = export.save(
    arch,
    params,
    model_cases.small_tokenizer(),
    tmp_path / "out",
    eos_ids=(7, 2),
    shard_bytes=40_000,
  )
  back = models.load(out, dtype=dtype)
  assert back.config == arch and back.eos_ids == (2, 7)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), back.params, params)  # fmt: skip
  assert back.params["layers"]["q"]["kernel"].dtype == dtype


def test_files(tmp_path):
  policy = models.load("random:tiny")
  out = export.save(
    policy.config, policy.params, policy.tokenizer, tmp_path / "deep" / "out",
    eos_ids=policy.eos_ids, shard_bytes=120_000,
  )  # fmt: skip
  index = json.loads((out / "model.safetensors.index.json").read_text())
  sizes = [path.stat().st_size for path in out.glob("model-*.safetensors")]
  assert len(sizes) == len(set(index["weight_map"].values())) > 1
  assert max(sizes) < 120_000 + 4096  # the header comes on top
  assert index["metadata"]["total_size"] == sum(x.nbytes for x in jax.tree.leaves(policy.params))
  assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == 2
  again = models.load(out)
  messages = [{"role": "user", "content": "what is <payoff> 42?"}]
  chats = [
    p.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    for p in (policy, again)
  ]
  assert chats[0] == chats[1]
  assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_one_file_where_it_fits(tmp_path):
  policy = models.load("random:tiny")
  out = export.save(policy.config, policy.params, policy.tokenizer, tmp_path, eos_ids=(2,))
  assert (out / "model.safetensors").is_file() and not list(out.glob("*index*"))


def save(out, **changes):
  policy = models.load("random:tiny")
  return export.save(policy.config, policy.params, policy.tokenizer, out, eos_ids=(2,), **changes)


def test_words_that_older_readers_know(tmp_path):
  """transformers 4 (and vLLM and llama.cpp's converter on it): no class and no list of version 5."""
  policy = models.load("random:tiny")
  policy.tokenizer.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
  policy.tokenizer.add_tokens(["[plain]"])
  arch = dataclasses.replace(policy.config, vocab_size=322)
  out = export.save(arch, None, policy.tokenizer, tmp_path / "out", eos_ids=(2,))
  config = json.loads((out / "tokenizer_config.json").read_text())
  assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
  assert config["additional_special_tokens"] == ["<|tool|>"]
  assert "extra_special_tokens" not in config and "backend" not in config
  assert config["chat_template"] == (out / "chat_template.jinja").read_text()
  assert (out / "tokenizer.json").is_file() and config["eos_token"] == "<|im_end|>"
  model = json.loads((out / "config.json").read_text())
  assert model["architectures"] == ["LlamaForCausalLM"] and model["torch_dtype"] == "float32"
  assert model["eos_token_id"] == 2 == json.loads((out / "generation_config.json").read_text())["eos_token_id"]  # fmt: skip
  again = models.describe(out).tokenizer
  assert again.get_vocab() == policy.tokenizer.get_vocab()
  assert again.convert_tokens_to_ids("<|tool|>") in again.all_special_ids


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_follow_the_umask(tmp_path, umask, mode):
  old = os.umask(umask)
  try:
    out = save(tmp_path / "out", shard_bytes=120_000)
  finally:
    os.umask(old)
  assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {mode}
  assert out.stat().st_mode & 0o777 == 0o777 & ~umask


def test_places_that_are_there(tmp_path, monkeypatch):
  """An empty folder, the current one, a link to one: each is filled and stays what it is."""
  for name in ("empty", "current", "linked"):
    (tmp_path / name).mkdir()
  (tmp_path / "link").symlink_to("linked")
  number = (tmp_path / "current").stat().st_ino  # a mount, or a shell's folder, is never replaced
  monkeypatch.chdir(tmp_path / "current")
  for out in (tmp_path / "empty", ".", tmp_path / "link"):
    save(out)
    assert models.load(out).config == models.load("random:tiny").config
  assert (tmp_path / "current").stat().st_ino == number
  assert (tmp_path / "link").is_symlink() and (tmp_path / "linked" / "config.json").is_file()
  assert not list(tmp_path.rglob(".*"))
  (tmp_path / "nowhere").symlink_to("gone")
  (tmp_path / "file").write_text("")
  for out in ("nowhere", "file", "file/below"):
    with pytest.raises(BadInput, match="--out"):
      save(tmp_path / out)


def test_a_failure_in_a_folder_that_is_there_leaves_it_empty(tmp_path, monkeypatch):
  rename = Path.replace

  def full(self, target):
    if Path(target).name == "tokenizer.json":
      raise OSError(28, "No space left on device")
    return rename(self, target)

  monkeypatch.setattr(Path, "replace", full)
  with pytest.raises(RunFailure, match="nothing was left there"):
    save(tmp_path)
  assert not list(tmp_path.iterdir())


def test_existing_files_are_kept(tmp_path):
  (tmp_path / "notes.txt").write_text("mine")
  policy = models.load("random:tiny")
  with pytest.raises(BadInput, match="exists and is not empty"):
    export.save(policy.config, policy.params, policy.tokenizer, tmp_path, eos_ids=(2,))
  assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
  def full(*_, **__):
    raise OSError(28, "No space left on device")

  policy = models.load("random:tiny")
  monkeypatch.setattr(export, "save_file", full)
  with pytest.raises(RunFailure, match="No space left on device; nothing was left there"):
    export.save(policy.config, policy.params, policy.tokenizer, tmp_path / "out", eos_ids=(2,))
  assert not list(tmp_path.iterdir())


def test_export_of_parameters_on_a_mesh(tmp_path):
  mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"))
  whole, split = models.load("random:tiny"), models.load("random:tiny", mesh=mesh)
  for name, policy in (("a", whole), ("b", split)):
    export.save(policy.config, policy.params, policy.tokenizer, tmp_path / name, eos_ids=(2,))
  files = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
  assert files[0] == files[1]
