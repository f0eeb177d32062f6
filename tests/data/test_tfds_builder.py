"""Prepared data: written and read back by tensorflow-datasets without TensorFlow."""

import json
import subprocess
import sys

import pytest

from gtalign_jax.cli.main import main
from gtalign_jax.data import batches, sources, tfds_builder
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import Table
from gtalign_jax.sections import DataConfig

CONFIG = "from gtalign_jax.config import Config, DataConfig\ndef config():\n  return Config()\n"
ODD = Record(
  "ü/1", "own", [{"role": "user", "content": "€?\u2028\n\u0085"}], None, {"a": [None, 1.5]}
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """Written in a process of its own, which must not import TensorFlow."""
  folder = tmp_path_factory.mktemp("prepared")
  (folder / "c.py").write_text(CONFIG)
  code = (
    "import sys; from gtalign_jax.cli.main import main\n"
    f"code = main(['prepare', {str(folder / 'c.py')!r}, {str(folder / 'out')!r}, '--json'])\n"
    "assert 'tensorflow' not in sys.modules, 'TensorFlow was imported'\n"
    "from gtalign_jax.data import sources; from gtalign_jax.sections import DataConfig\n"
    f"sources.load(DataConfig(root={str(folder / 'out')!r}), 'test')\n"
    "assert 'tensorflow' not in sys.modules, 'TensorFlow was imported'\n"
    "sys.exit(code)"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return folder / "out", done.stdout


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_is_read_is_what_was_written(prepared, split):
  assert sources.load(DataConfig(root=str(prepared[0])), split) == sources.load(DataConfig(), split)


def test_it_is_array_record_with_random_access(prepared):
  folder, stdout = prepared
  assert list(folder.rglob("*.array_record-*"))
  assert json.loads(stdout.splitlines()[-1])["splits"] == {"train": 249, "test": 89}
  import tensorflow_datasets as tfds

  rows = tfds.builder_from_directory(str(tfds_builder.find(folder))).as_data_source(split="train")
  third = sources.load(DataConfig(), "train")[3]
  assert rows[3]["id"] == third.id.encode()
  assert json.loads(rows[3]["messages"]) == third.messages


def test_sources_and_weights_apply_to_prepared_data(prepared):
  config = DataConfig(
    root=str(prepared[0]),
    sources=("medium", "wildguard"),
    weights=Table({"medium": 1, "wildguard": 3}),
  )
  records = sources.load(config, "train")
  assert [r.data_source for r in records] == ["medium"] * 48 + ["wildguard"] * 48
  drawn = batches.batch_at(Encoded(records, records, 0), config, 40, 0).records
  assert sum(r.data_source == "medium" for r in drawn) == 10
  with pytest.raises(BadInput, match="did you mean medium"):
    sources.load(DataConfig(root=str(prepared[0]), sources=("medum",)), "train")
  with pytest.raises(BadInput, match="no split 'dev'; it has train, test"):
    sources.load(config, "dev")


def test_preparing_twice_is_refused(prepared, tmp_path, capsys):
  (tmp_path / "c.py").write_text(CONFIG)
  assert main(["prepare", str(tmp_path / "c.py"), str(prepared[0])]) == 2
  assert "already holds a prepared data set" in capsys.readouterr().err


def test_odd_texts_survive(tmp_path):
  plain = ODD._replace(id="2", ground_truth="", extra_info={})
  tfds_builder.write({"train": [ODD, plain]}, tmp_path)
  assert tfds_builder.read(tfds_builder.find(tmp_path), "train") == [ODD, plain]


def test_a_broken_folder_is_one_line(tmp_path):
  tfds_builder.write({"train": [ODD]}, tmp_path)
  next(tmp_path.rglob("*.array_record-*")).write_bytes(b"broken")
  with pytest.raises(BadInput, match="split 'train' cannot be read"):
    sources.load(DataConfig(root=str(tmp_path)), "train")
  tfds_builder.find(tmp_path).joinpath("dataset_info.json").write_text("{")
  with pytest.raises(BadInput, match="not a readable TFDS data set"):
    sources.load(DataConfig(root=str(tmp_path)), "train")
