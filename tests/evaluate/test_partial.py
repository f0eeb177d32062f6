"""What makes two starts one job: contents, not names; whose a partial file is; changed files."""

import fcntl
import json
import os
import resource
import shutil
import signal

import numpy as np
import pytest
from real_runs import TINY
from safetensors.numpy import load_file, save_file

from gtalign_jax import config as configs
from gtalign_jax.cli.main import main
from gtalign_jax.data import sources
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.errors import BadInput
from gtalign_jax.evaluate import partial
from gtalign_jax.models import contents, export, load
from gtalign_jax.sections import DataConfig
from gtalign_jax.train import contents as read_by_runs
from gtalign_jax.train import preflight

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")
OPTIONS = {"group_size": 1, "temperature": 1.0, "seed": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  policy = load("random:tiny")
  folder = tmp_path_factory.mktemp("model") / "m"
  export.save(policy.config, policy.params, policy.tokenizer, folder, eos_ids=policy.eos_ids)
  return folder


def encoded():
  found = sources.load(DataConfig(), "test")[:3]
  return Encoded(found, [np.arange(n + 1, dtype=np.int32) for n in range(3)], 0)


def job(*overrides, prompts=None, scored=True):
  config = configs.override(configs.Config(model="random:tiny"), overrides)
  return partial.job(config, OPTIONS, prompts or encoded(), scored)


def test_a_model_is_what_its_files_hold(model, tmp_path):
  copy = tmp_path / "other name"
  shutil.copytree(model, copy)
  same = contents.fingerprint(str(model))
  os.utime(copy / "model.safetensors", (1, 1))
  (copy / "._model.safetensors").write_bytes(b"of macOS")
  assert contents.fingerprint(str(copy)) == same
  tensors = load_file(copy / "model.safetensors")
  for change in ("weights", "config.json", "chat_template.jinja", "tokenizer.json"):
    other = tmp_path / change
    shutil.copytree(copy, other)
    if change == "weights":  # one matrix of a layer, as of another training
      name = next(name for name in tensors if "mlp" in name)
      save_file(tensors | {name: tensors[name] + 1e-3}, other / "model.safetensors")
    else:
      (other / change).write_text((other / change).read_text().replace("\n", "\n ", 1))
    assert contents.fingerprint(str(other)) != same, change


def test_large_files_are_read_in_samples(tmp_path):
  path = tmp_path / "big"
  content = np.random.default_rng(0).bytes(3_000_000)
  path.write_bytes(content)
  before = contents.of_file(path)
  assert before == contents.of_file(path)
  third = len(content) // 3  # as when a layer is trained
  path.write_bytes(content[:third] + bytes(third) + content[2 * third :])
  assert contents.of_file(path) != before
  path.write_bytes(content + b"x")
  assert contents.of_file(path) != before


def test_a_job_is_what_it_reads():
  same = job()
  assert json.loads(json.dumps(same)) == json.loads(json.dumps(job()))
  # what training alone reads, where things lie, and how the machine computes
  for free in ("grpo.kl_coef=0.1", "optim.lr=1e-3", "workdir=x", "rollout.segment=8",
               "rollout.temperature=0.5", "rollout.group_size=3", "mesh.data=1", "data.root=x"):  # fmt: skip
    assert job(free) == same, free
  for change in ("rollout.max_new_tokens=7", "rollout.top_p=0.5", "data.template=full",
                 "data.template_arguments={'a': 1}", "policy.dtype=bfloat16", "rewards.alpha=0.4",
                 "data.seed=3", "conversation.turns=2"):  # fmt: skip
    assert job(change) != same, change
  assert job("rewards.alpha=0.4", scored=False) == job(scored=False)


@pytest.mark.parametrize("field", ["id", "messages", "ground_truth", "extra_info"])
def test_edited_prompts_are_another_job(field):
  found = encoded()
  values = {"id": "x", "messages": [{"role": "user", "content": "?"}], "ground_truth": "x"}
  changed = found.records[1]._replace(**{field: values.get(field, {"x": 1})})
  other = found._replace(records=[found.records[0], changed, found.records[2]])
  assert job(prompts=other)["the prompts"] != job()["the prompts"]
  ids = [found.ids[0], found.ids[1] + 1, found.ids[2]]
  assert job(prompts=found._replace(ids=ids))["the prompts' tokens"] != job()["the prompts' tokens"]


def test_own_tasks_and_logs_of_verdicts_and_replies_count(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "my_own_tasks.py").write_text("def polite(example): ...\n")
  given = ["rewards.tasks={'s': 'my_own_tasks:polite'}", "conversation.turns=2"]
  for key, name in (("rewards.judge", "log.jsonl"), ("conversation.user", "said.jsonl")):
    (tmp_path / name).write_text("{}\n")
    given += [f"{key}.kind=recorded", f"{key}.log={tmp_path / name}"]
  seen = [job(*given)]
  for name in ("my_own_tasks.py", "log.jsonl", "said.jsonl"):
    (tmp_path / name).write_text("# changed\n")
    seen.append(job(*given))
  assert seen[0] != seen[1] != seen[2] != seen[3]


def rows_of(path, named, size=2, overwrite=False):
  with partial.opened(path, named, size, overwrite) as (rows, file):
    file.flush()
    return rows


def test_whole_chunks_are_kept(tmp_path):
  path, named = tmp_path / "x.partial", job()
  assert rows_of(path, named) == []
  with partial.opened(path, named, 2, False) as (_, file):
    file.write(b"".join(b'{"n": %d}\n' % n for n in range(5)))
  whole = path.read_bytes()
  for cut in range(1, 16):  # a kill in any byte of the last rows
    path.write_bytes(whole[:-cut])
    kept = [{"n": n} for n in range(4 if cut <= 9 else 2)]
    assert rows_of(path, named) == kept, cut
    assert path.read_bytes().count(b"\n") == len(kept) + 1
  path.write_bytes(whole[:20])  # a kill in the first line, when no row was there
  assert rows_of(path, named) == []


@pytest.mark.parametrize(
  ("change", "says"),
  [
    ({"seed": 1}, "seed: 0 -> 1"),
    ({"rollout.stop": ["x"]}, "rollout.stop: "),
    ({"the model's files": "x"}, "the model's files differ;"),
    ({"the prompts": "x", "seed": 3}, "seed: 0 -> 3, the prompts differ)"),
  ],
)
def test_rows_of_another_job_are_never_written_over(tmp_path, change, says):
  path = tmp_path / "x.partial"
  with partial.opened(path, job() | OPTIONS, 1, False) as (_, file):
    file.write(b'{"n": 1}\n')
  before = path.read_bytes()
  with pytest.raises(BadInput, match=r"x\.partial holds rows of another job") as caught:
    rows_of(path, job() | change)
  assert says.rstrip(";)") in str(caught.value) and "--overwrite" in str(caught.value)
  assert path.read_bytes() == before
  assert rows_of(path, job() | change, overwrite=True) == []


@pytest.mark.parametrize(
  "text", ["hello\n", '{"id": "somebody\'s rows"}\n', "\n", '["a"]\n', "\ufeff"]
)
def test_a_file_of_somebodys_is_left_alone(tmp_path, text):
  path = tmp_path / "x.partial"
  path.write_text(text)
  with pytest.raises(BadInput, match="holds rows of another job"):
    rows_of(path, job())
  assert path.read_text() == text


def test_opening_writes_no_row_again(tmp_path):
  path = tmp_path / "out.partial"
  with partial.opened(path, job(), 1, False) as (_, file):
    file.write(b'{"row": 1}\n{"row": 2}\n{"ro')
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  try:  # a disk on which nothing more can be written
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    with partial.opened(path, job(), 1, False) as (rows, _):
      pass
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)
  assert rows == [{"row": 1}, {"row": 2}]
  assert path.read_bytes().endswith(b'{"row": 2}\n')


def test_a_broken_line_is_named(tmp_path):
  path = tmp_path / "x.partial"
  with partial.opened(path, job(), 1, False) as (_, file):
    file.write(b'{"n": 1}\n\0\0\n{"n": 3}\n')
  with pytest.raises(BadInput, match=r"x\.partial:3: not a line of JSON"):
    rows_of(path, job(), 1)


def test_two_processes_do_not_share_a_file(tmp_path):
  path = tmp_path / "x.partial"
  with path.open("ab") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    with pytest.raises(BadInput, match="is being written by another process"):
      rows_of(path, job())


def test_generate_goes_on_and_notices_other_weights(model, tmp_path, capsys, monkeypatch):
  """The whole command: stopped after a chunk, then with the model's weights replaced."""
  from gtalign_jax.evaluate import offline

  here, prompts, out = tmp_path / "m", tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  shutil.copytree(model, here)
  row = {"data_source": "mine", "prompt": [{"role": "user", "content": "1+1?"}], "at": float("nan")}
  prompts.write_text("".join(json.dumps(row | {"id": str(n)}) + "\n" for n in range(12)))
  given = [
    "generate",
    "--model",
    str(here),
    "--prompts",
    str(prompts),
    str(out),
    "--max-new-tokens",
    "2",
  ]
  monkeypatch.setattr(offline, "CHUNK", 8)
  chunks = offline.Job.chunks

  def stopped(self, encoded, *more):
    yield next(chunks(self, encoded, *more))
    raise KeyboardInterrupt

  monkeypatch.setattr(offline.Job, "chunks", stopped)
  assert main(given) == 130
  monkeypatch.setattr(offline.Job, "chunks", chunks)
  shutil.copytree(here, tmp_path / "kept")
  tensors = load_file(here / "model.safetensors")
  save_file({k: v * 1.5 for k, v in tensors.items()}, here / "model.safetensors", {"format": "pt"})
  capsys.readouterr()
  assert main(given) == 2
  assert "the model's files differ" in capsys.readouterr().err
  assert not out.exists()
  given[2] = str(tmp_path / "kept")  # the same contents under another name
  assert main([*given, "--template-arguments", '{"enable_thinking": false}']) == 2
  assert "enable_thinking=False changes nothing" in capsys.readouterr().err
  assert main(given) == 0
  found = [json.loads(line) for line in out.read_text().splitlines()]
  assert [each["id"] for each in found] == [f"{n}#0" for n in range(12)]
  assert found[0]["at"] is None  # strict JSON


def test_a_run_notices_prompts_that_changed_in_place(tmp_path):
  """At any start, before the model is loaded: one line that names the source."""
  data = tmp_path / "data" / "math-hard"
  data.mkdir(parents=True)
  row = {
    "data_source": "math-hard",
    "prompt": [{"role": "user", "content": "1+1?"}],
    "ground_truth": "2",
  }
  for split in ("train", "test"):
    (data / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
  chain = json.dumps(row | {"completion": "a chain"})
  (tmp_path / "chains.jsonl").write_text(f"{chain}\n")
  given = [f"workdir={tmp_path / 'run'}", f"data.root={tmp_path / 'data'}", "sft.steps=2",
           f"sft.data={tmp_path / 'chains.jsonl'}"]  # fmt: skip
  config = configs.load(TINY, given)

  def start():
    found = {split: sources.load(config.data, split) for split in ("train", "test")}
    with preflight.claimed(config):
      preflight.claim(config, preflight.check_contents(config, found))

  start()
  start()
  (data / "train.jsonl").write_text(json.dumps(row | {"ground_truth": "3"}) + "\n")
  with pytest.raises(
    BadInput, match="split 'train', source 'math-hard': what it holds has changed"
  ):
    start()
  (data / "train.jsonl").write_text(" " + json.dumps(row) + "\n\n")  # the same prompt
  start()
  (tmp_path / "chains.jsonl").write_text(f"{chain} \n")
  with pytest.raises(BadInput, match=r"sft\.data: what it holds has changed"):
    start()
  (tmp_path / "run" / read_by_runs.NAME).write_text("{broken")
  start()  # it holds nothing that is needed
  start()
