"""Prompt sources: the sample set, files, folders; what happens to broken rows and files."""

import json
import os
import subprocess
import sys

import pytest

from gtalign_jax.data import sources
from gtalign_jax.data.records import Record, from_row
from gtalign_jax.errors import BadInput
from gtalign_jax.sections import DataConfig

ASK = [{"role": "user", "content": "How high is it?"}]
RELEASED = {
  "data_source": "ambig_qa",
  "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "<payoff> q"}],
  "reward_model": {"ground_truth": "singleAnswer###007", "style": "rule"},
  "extra_info": {"chat_history": ASK, "single_turn_prompt": "How high is it?", "index": 4},
}


def write_jsonl(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
  return path


def write_parquet(path, rows):
  import datasets

  path.parent.mkdir(parents=True, exist_ok=True)
  datasets.Dataset.from_list(rows).to_parquet(path)
  return path


def test_sample_set_holds_every_family():
  for split, least in (("train", 40), ("test", 16)):
    records = sources.load(DataConfig(), split)
    count = {source: 0 for source in ("ambig_qa", "concierge", "math-hard", "medium", "wildguard")}
    for record in records:
      count[record.data_source] += 1
      assert record.ground_truth
      assert record.id.startswith(f"{record.data_source}/{split}/")
    assert min(count.values()) >= least
  total = [len(sources.load(DataConfig(), split)) for split in ("train", "test")]
  assert sum(total) >= 240


def test_released_row():
  record = from_row(RELEASED, "f:1", "a/b/0")
  assert record.id == "a/b/0"
  assert record.messages == RELEASED["prompt"]
  assert record.ground_truth == "singleAnswer###007"
  assert record.extra_info == RELEASED["extra_info"]


@pytest.mark.parametrize("key", ["prompt", "messages"])
def test_row_of_chat_messages_only(key):
  record = from_row({"data_source": "mine", key: ASK}, "f:1", "x")
  assert record == Record("x", "mine", ASK, None, {})


@pytest.mark.parametrize(
  ("row", "truth"),
  [
    ({"ground_truth": "7"}, "7"),
    ({"reward_model": {"ground_truth": 7}}, "7"),
    ({"extra_info": {"ground_truth": "ambiguous"}}, "ambiguous"),  # abg-coqa
    ({"reward_model": None, "extra_info": None}, None),
  ],
)
def test_places_of_the_ground_truth(row, truth):
  assert from_row({"data_source": "m", "prompt": ASK} | row, "f:1", "x").ground_truth == truth


@pytest.mark.parametrize(
  ("change", "says"),
  [
    ({"data_source": None}, "data_source"),
    ({"data_source": ""}, "data_source"),
    ({"prompt": None}, "must be a non-empty list"),
    ({"prompt": "hello"}, "must be a non-empty list"),
    ({"prompt": [{"role": "user"}]}, r"prompt\[0\]"),
    ({"prompt": [{"role": "robot", "content": "x"}]}, r"prompt\[0\]"),
    ({"prompt": [{"role": "assistant", "content": "x"}]}, "end with the user"),
    ({"extra_info": "x"}, "extra_info"),
    ({"extra_info": {"chat_history": [{"role": "assistant", "content": "x"}]}}, "chat_history"),
    ({"reward_model": "x"}, "reward_model"),
    ({"reward_model": {"ground_truth": [1]}}, "ground_truth"),
    ({"id": ""}, "id="),
    ({"id": True}, "id="),
  ],
)
def test_malformed_rows_name_file_and_row(tmp_path, change, says):
  path = write_jsonl(tmp_path / "m" / "train.jsonl", [RELEASED, RELEASED | change])
  with pytest.raises(BadInput, match=says) as caught:
    sources.load(DataConfig(root=str(tmp_path)), "train")
  assert str(caught.value).startswith(f"{path}:2")


def test_parquet_and_jsonl_give_the_same_records(tmp_path):
  rows = [RELEASED | {"data_source": "a"}] * 3
  write_parquet(tmp_path / "p" / "a" / "train.parquet", rows)
  write_jsonl(tmp_path / "j" / "a" / "train.jsonl", rows)
  found = [sources.load(DataConfig(root=str(tmp_path / kind)), "train") for kind in "pj"]
  assert found[0] == found[1]
  assert [record.id for record in found[0]] == ["a/train/0", "a/train/1", "a/train/2"]


def test_jsonl_texts_stay_texts(tmp_path):
  """Also where a column mixes texts and numbers: "007" is an answer, 7 is another one."""
  rows = [
    RELEASED,
    {"data_source": "m", "prompt": ASK, "ground_truth": 5, "extra_info": {"a": "x"}},
  ]
  path = write_jsonl(tmp_path / "mixed.jsonl", rows)
  first, second = sources.read_file(path)
  assert (first.ground_truth, second.ground_truth) == ("singleAnswer###007", "5")
  assert second.extra_info == {"a": "x"}


def test_choice_of_sources_and_its_order(tmp_path):
  for name in "abc":
    write_jsonl(tmp_path / name / "test.jsonl", [RELEASED | {"data_source": name}])
  config = DataConfig(root=str(tmp_path), sources=("c", "a"))
  assert [record.data_source for record in sources.load(config, "test")] == ["c", "a"]


@pytest.mark.parametrize(
  ("config", "split", "says"),
  [
    (DataConfig(sources=("ambigqa",)), "train", "did you mean ambig_qa"),
    (DataConfig(), "validation", "no prompts of split 'validation'"),
    (DataConfig(sources=("medium",)), "dev", "'medium' .* has no split 'dev'"),
    (DataConfig(root="/no/such/place"), "train", "no such file or folder"),
  ],
)
def test_sources_that_are_not_there(config, split, says):
  with pytest.raises(BadInput, match=says):
    sources.load(config, split)


def test_a_source_without_the_split_is_passed_over_unless_named(tmp_path):
  write_jsonl(tmp_path / "a" / "train.jsonl", [RELEASED])
  write_jsonl(tmp_path / "only_test" / "test.jsonl", [RELEASED])
  assert len(sources.load(DataConfig(root=str(tmp_path)), "train")) == 1
  with pytest.raises(BadInput, match="no split 'train'"):
    sources.load(DataConfig(root=str(tmp_path), sources=("only_test",)), "train")


def test_unreadable_files(tmp_path):
  (tmp_path / "a").mkdir()
  path = tmp_path / "a" / "train.parquet"
  path.write_bytes(b"PAR1 not really")
  with pytest.raises(BadInput, match="not a readable parquet") as caught:
    sources.load(DataConfig(root=str(tmp_path)), "train")
  assert str(path) in str(caught.value)
  empty = tmp_path / "empty"
  empty.mkdir()
  with pytest.raises(BadInput, match="holds no <source>/train"):
    sources.load(DataConfig(root=str(empty)), "train")
  (tmp_path / "x.csv").write_text("a,b\n")
  with pytest.raises(BadInput, match=r"\.parquet and \.jsonl"):
    sources.load(DataConfig(root=str(tmp_path / "x.csv")), "train")


def test_own_ids_must_be_unique(tmp_path):
  path = write_jsonl(tmp_path / "own.jsonl", [RELEASED | {"id": "k"}, RELEASED | {"id": "k"}])
  with pytest.raises(BadInput, match="'k'"):
    sources.load(DataConfig(root=str(path)), "train")
  with pytest.raises(BadInput, match="'k'"):
    sources.read_file(path)


def test_one_file_as_root(tmp_path):
  path = write_jsonl(tmp_path / "own.jsonl", [RELEASED, RELEASED | {"data_source": "b"}])
  config = DataConfig(root=str(path), sources=("b",))
  assert [record.id for record in sources.load(config, "train")] == ["b/train/1"]


def test_reading_parquet_leaves_nothing_behind(tmp_path):
  path = write_parquet(tmp_path / "data" / "a" / "train.parquet", [RELEASED])
  home = tmp_path / "home"
  home.mkdir()
  code = f"from gtalign_jax.data import sources; assert sources.read_file({str(path)!r})"
  environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
  done = subprocess.run(
    [sys.executable, "-c", code],
    env=environment | {"HOME": str(home)},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
  assert [path for path in home.rglob("*") if path.is_file()] == []


@pytest.mark.skipif("GTALIGN_DATA" not in os.environ, reason="needs the released prompts")
def test_released_prompts():
  config = DataConfig(root=os.environ["GTALIGN_DATA"])
  counts = [len(sources.load(config, split)) for split in ("train", "test")]
  assert counts == [8696, 889]


def test_a_flat_folder_is_read_by_what_its_rows_and_names_say(tmp_path):
  for name, source in (("math-hard_train", "math-hard"), ("math-hard-test", "math-hard"),
                       ("ood.bench", "minerva"), ("qa_test", "ambig_qa")):  # fmt: skip
    write_jsonl(tmp_path / f"{name}.jsonl", [{"data_source": source, "prompt": ASK}] * 2)
  config = DataConfig(root=str(tmp_path))
  found = [each.data_source for each in sources.load(config, "test")]
  assert found == ["math-hard"] * 2 + ["minerva"] * 2 + ["ambig_qa"] * 2
  assert {each.data_source for each in sources.load(config, "train")} == {"math-hard"}
  with pytest.raises(BadInput, match="no file of split 'dev'"):
    sources.load(config, "dev")
  # a tree is a tree: what lies beside its folders is something else
  write_jsonl(tmp_path / "medium" / "test.jsonl", [{"data_source": "medium", "prompt": ASK}])
  assert {each.data_source for each in sources.load(config, "test")} == {"medium"}


def test_suites_by_name(tmp_path, caplog):
  for source in ("advbench", "wildguard", "math-hard", "mine"):
    write_jsonl(tmp_path / f"{source}_test.jsonl", [{"data_source": source, "prompt": ASK}])
  config = DataConfig(root=str(tmp_path))

  def suite(name, config=config):
    return list(dict.fromkeys(each.data_source for each in sources.suite(config, "test", name)))

  assert suite("in") == ["math-hard", "wildguard"] and suite("ood") == ["advbench"]
  assert "suite ood" in caplog.text and "has no test of minerva, abg-coqa" in caplog.text
  assert suite("concierge") == ["concierge"]
  assert suite("all") == ["math-hard", "wildguard", "advbench", "concierge"]
  assert suite("in", DataConfig()) == ["math-hard", "medium", "ambig_qa", "wildguard"]
  with pytest.raises(BadInput, match="the sample set has no 'test' of minerva"):
    suite("ood", DataConfig())
