"""Folders as people have them: files of other kinds beside the weights, and hostile ones."""

import json
import os
import random
import shutil
import struct
import sys

import jax
import model_cases
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gtalign_jax import models
from gtalign_jax.errors import BadInput
from gtalign_jax.models import export

NAME = "qwen2"
ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
  arch, params = model_cases.build(NAME)
  out = tmp_path_factory.mktemp("folder") / "model"
  return export.save(arch, params, model_cases.small_tokenizer(), out, eos_ids=(2,))


@pytest.fixture
def folder(template, tmp_path):
  return shutil.copytree(template, tmp_path / "model")


def refused(folder, *words):
  """The one line with which the folder is refused."""
  with pytest.raises(BadInput) as caught:
    models.load(folder)
  line = str(caught.value)
  assert "\n" not in line and len(line) < 1500 and all(word in line for word in words), line
  return line


def zeros(folder, name="model.safetensors"):
  return {key: 0 * value for key, value in load_file(folder / name).items()}


def split(folder, twice=False):
  """Turns the single file into two shards with an index; returns the index. twice: one overlaps."""
  tensors = load_file(folder / "model.safetensors")
  (folder / "model.safetensors").unlink()
  names = sorted(tensors)
  parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2] + names[:twice]}
  for file, part in parts.items():
    save_file({name: tensors[name] for name in part}, folder / file)
  where = {name: file for file, part in parts.items() for name in part}
  index = {"weight_map": where}
  (folder / "model.safetensors.index.json").write_text(json.dumps(index))
  return index


BESIDE = [
  "._model.safetensors", "consolidated.safetensors", "adapter_model.safetensors",
  "old-model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "zz.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("shards", [False, True])
def test_only_the_named_files_are_read(folder, template, shards):
  others = zeros(folder)
  if shards:
    split(folder)
  for name in BESIDE:
    save_file(others, folder / name)
  (folder / "._model.safetensors").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
  got, wanted = models.load(folder), models.load(template)
  jax.tree.map(np.testing.assert_array_equal, got.params, wanted.params)


HINTS = [
  ("adapter_model.safetensors", "an adapter alone"),
  ("pytorch_model.bin", "PyTorch weights"),
  ("model-00001-of-00002.safetensors", "fetch that too"),
  ("model.fp16.safetensors", "rename it to model.safetensors"),
  ("weights.gguf", "name the .gguf file"),
  ("odd.safetensors", "fetch the model's files"),
]


@pytest.mark.parametrize("name, hint", HINTS)
def test_other_kinds_of_weights_alone(folder, name, hint):
  (folder / "model.safetensors").rename(folder / name)
  refused(folder, "has no model.safetensors", hint)


def test_a_tensor_in_two_files(folder):
  first = sorted(split(folder, twice=True)["weight_map"])[0]
  refused(folder, f"both hold {first}")
  shutil.copy(folder / "model-1.safetensors", folder / "model.safetensors")
  refused(folder, "holds its weights twice")


@pytest.mark.parametrize(
  "file", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "x.bin", "..", "", 5, None]
)
def test_an_index_that_names_other_places(folder, file):
  index = split(folder)
  index["weight_map"]["model.norm.weight"] = file
  (folder / "model.safetensors.index.json").write_text(json.dumps(index))
  refused(folder, "model.norm.weight is in", "of the same folder")


def test_an_index_that_is_wrong(folder):
  index = split(folder)
  path = folder / "model.safetensors.index.json"
  name = sorted(index["weight_map"])[0]
  path.write_text(json.dumps({"weight_map": index["weight_map"] | {name: "model-2.safetensors"}}))
  refused(folder, f"model-2.safetensors holds no tensor {name}")
  path.write_text(json.dumps({"weight_map": index["weight_map"] | {name: "model-3.safetensors"}}))
  refused(folder, "lacks shards model-3.safetensors")
  for text in (
    "{}",
    '{"weight_map": []}',
    '{"weight_map": {}}',
    "[]",
    "",
    "{",
    "[" * 10**5,
    "null",
  ):
    path.write_text(text)
    refused(folder, path.name)


HEADERS = [
  ("overlap", {"a": ONE, "b": ONE}, 8),
  ("hole", {"a": ONE, "b": ONE | {"data_offsets": [16, 24]}}, 24),
  ("cut", {"a": ONE}, 4),
  ("surplus", {"a": ONE}, 64),
  ("shape", {"a": ONE | {"shape": [3]}}, 8),
  ("negative", {"a": ONE | {"shape": [-2]}}, 8),
  ("huge shape", {"a": ONE | {"shape": [2**40, 2**40]}}, 8),
  ("dtype", {"a": ONE | {"dtype": "Q9"}}, 8),
  ("dtype kind", {"a": ONE | {"dtype": 5}}, 8),
  ("offsets", {"a": ONE | {"data_offsets": [0]}}, 8),
  ("entry", {"a": 5}, 8),
  ("list", [ONE], 8),
  ("deep", b"[" * 10**5, 8),
  ("text", b"\xff\xfe", 8),
]


@pytest.mark.parametrize(
  "header, data", [each[1:] for each in HEADERS], ids=[h[0] for h in HEADERS]
)
def test_headers_that_are_wrong(folder, header, data):
  raw = header if isinstance(header, bytes) else json.dumps(header).encode()
  path = folder / "model.safetensors"
  path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(data))
  refused(folder, "model.safetensors", "fetch it again")


@pytest.mark.parametrize("length", [0, 2**31, 2**62, 2**64 - 1])
def test_header_lengths_that_are_wrong(folder, length):
  path = folder / "model.safetensors"
  path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
  refused(folder, "model.safetensors", "fetch it again")


def test_a_pointer_in_place_of_the_file(folder):
  (folder / "model.safetensors").write_text(
    "version https://git-lfs.github.com/spec/v1\noid sha256:0"
  )
  refused(folder, "model.safetensors", "fetch it again")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(folder, value):
  tensors = load_file(folder / "model.safetensors")
  tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
  save_file(tensors, folder / "model.safetensors")
  refused(folder, "model.layers.1.mlp.up_proj.weight", "not finite")


def test_a_config_that_wants_more_than_the_file_has(folder):
  """Compared with the file's header before anything of that size is made."""
  config = json.loads((folder / "config.json").read_text())
  many = {"hidden_size": 2**20, "num_hidden_layers": 4096, "layer_types": None}
  (folder / "config.json").write_text(json.dumps(config | many))
  refused(folder, "do not fit its config", "more;")


JSON_FILES = ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"]
TEXTS = ["", "{", "[]", "null", "5", '"x"', "\x00\xff", "[" * 10**5, '{"a": ' * 10**4, "9" * 10**4]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", JSON_FILES)
def test_json_files_of_the_wrong_kind(folder, name, text):
  (folder / name).write_text(text, encoding="latin-1")
  refused(folder)


def directory(path):
  path.mkdir()


def loop(path):
  path.symlink_to(path.name)


@pytest.mark.parametrize("make", [directory, loop, os.mkfifo], ids=["directory", "loop", "pipe"])
@pytest.mark.parametrize("name", [*JSON_FILES, "model.safetensors", "special_tokens_map.json"])
def test_what_is_no_file(folder, name, make):
  (folder / name).unlink(missing_ok=True)
  make(folder / name)
  refused(folder)


TOKENIZERS = [
  {"model": None}, {"model": {"type": "BPE"}}, {"model": {"type": "Nothing", "vocab": {}}},
  {"model": {"type": "BPE", "vocab": [], "merges": []}},
  {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}},
  {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}},
  {"model": {"type": "BPE", "vocab": {}, "merges": []}},
  {"added_tokens": 5}, {"added_tokens": [{"id": "x", "content": 5}]}, {"decoder": {"type": "X"}},
  {"pre_tokenizer": 5},
]  # fmt: skip


@pytest.mark.parametrize("change", TOKENIZERS, ids=range(len(TOKENIZERS)))
def test_tokenizers_that_are_wrong(folder, change):
  path = folder / "tokenizer.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  refused(folder)


def test_code_of_the_folder_is_never_run(folder, monkeypatch, capsys):
  class Asked:
    def readline(self, *_):
      pytest.fail("someone was asked")

    read = readline

    def fileno(self):
      return 0

    def isatty(self):
      return True

  monkeypatch.setattr(sys, "stdin", Asked())
  (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass X: pass\n")
  path = folder / "tokenizer_config.json"
  own = {"auto_map": {"AutoTokenizer": ["own.X", "own.X"]}, "tokenizer_class": "X"}
  path.write_text(json.dumps(json.loads(path.read_text()) | own))
  refused(folder, "auto_map", "never run")
  path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": None}))
  config = folder / "config.json"
  own = {"auto_map": {"AutoConfig": "own.X", "AutoTokenizer": "own.X"}}
  config.write_text(json.dumps(json.loads(config.read_text()) | own))
  with_code = folder / "tokenizer_config.json"
  with_code.unlink()
  try:  # it may be read without its code, but not with it
    models.load(folder)
  except BadInput as error:
    assert "\n" not in str(error)
  assert not (folder / "ran").exists() and "[y/N]" not in capsys.readouterr().out


VALUES = [
  None, True, 0, -1, 2.5, 1e308, float("nan"), 10**30, "", "x", "a" * 5000, "\ud800", "a\nb", [], {},
  [1], {"a": 1}, 2**63,
]  # fmt: skip


def places(value, path=()):
  """The path to everything that a JSON value holds (of long lists: the first entries)."""
  inside = value.items() if isinstance(value, dict) else ()
  inside = enumerate(value[:6]) if isinstance(value, list) else inside
  for key, each in inside:
    yield (*path, key)
    yield from places(each, (*path, key))


@pytest.mark.parametrize("seed", range(4))
def test_any_value_anywhere(folder, seed):
  """Loaded, or refused in one line: 20 random changes of each file."""
  rng = random.Random(seed)
  for name in (*JSON_FILES, "model.safetensors"):
    path = folder / name
    whole = path.read_bytes()
    for _ in range(20):
      if name.endswith(".json"):
        value = node = json.loads(whole)
        *path_to, last = rng.choice(list(places(value)))
        for key in path_to:
          node = node[key]
        node[last] = rng.choice(VALUES)
        path.write_text(json.dumps(value))
      else:
        changed = bytearray(whole)
        changed[rng.randrange(3000)] = rng.randrange(256)
        path.write_bytes(changed)
      try:
        models.load(folder)
      except BadInput as error:
        assert "\n" not in str(error) and len(str(error)) < 1500
    path.write_bytes(whole)
