"""Preflight: what is found before anything is written, and the lock of a work directory.

Real directories, real processes, real servers; `main([...])` runs the command in this process.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from judge_servers import serve
from real_runs import TINY

from gtalign_jax.cli.main import main
from gtalign_jax.config import Config, load, vary
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.fields import Table
from gtalign_jax.game import pricing
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.sections import DataConfig
from gtalign_jax.train import lock, loop, preflight

MESH = ("mesh.data=4", "mesh.tensor=2")  # the tests' 8 devices


def config(workdir, *overrides):
  return load(TINY, [f"workdir={workdir}", *overrides])


def everything(folder):
  return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*"))


# ---------------------------------------------------------------- the lock

HOLD = """
import sys, time
from pathlib import Path
from gtalign_jax.train import lock
with lock.held(Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
  """A process of its own that holds the lock of tmp_path/run."""
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == "held\n"
  yield process
  process.kill()
  process.wait()


def test_a_second_start_is_refused_and_names_the_first(tmp_path, holder):
  run = tmp_path / "run"
  with pytest.raises(BadInput) as caught, lock.held(run):
    pass
  said = str(caught.value)
  assert said.startswith(
    f"workdir={run} is in use by process {holder.pid} on {os.uname().nodename};"
  )
  assert "choose another workdir=" in said and "\n" not in said
  assert everything(run) == ["lock"]  # the first one's, untouched
  assert json.loads((run / "lock").read_text())["pid"] == holder.pid


def test_a_killed_holder_frees_the_lock(tmp_path, holder, caplog):
  run = tmp_path / "run"
  holder.send_signal(signal.SIGKILL)
  holder.wait()
  assert everything(run) == ["lock"]  # kill -9 leaves the file, not the lock
  with caplog.at_level("INFO"), lock.held(run):
    assert json.loads((run / "lock").read_text())["pid"] == os.getpid()
  assert f"process {holder.pid} has ended; taking over" in caplog.text
  assert everything(run) == []  # the folder was there before us; the lock was not


@pytest.mark.parametrize("ends", [RuntimeError, KeyboardInterrupt])
def test_whatever_ends_the_block_frees_the_lock_and_what_was_made(tmp_path, ends):
  run = tmp_path / "a" / "b" / "run"
  with pytest.raises(ends), lock.held(run):
    (run / "eval").mkdir()
    (run / "eval" / "base.jsonl").write_text("{}")
    raise ends
  assert everything(tmp_path) == []
  with lock.held(run):
    (run / "config.json").write_text("{}")
  assert everything(tmp_path) == ["a", "a/b", "a/b/run", "a/b/run/config.json"]
  with pytest.raises(ends), lock.held(run):  # a later start that fails leaves the run alone
    raise ends
  assert everything(run) == ["config.json"]


def test_one_holder_at_a_time_among_many(tmp_path):
  """Starts that come and go: the lock file is removed and made anew, and never held twice."""
  inside, most, done = [], [], []

  def start(number):
    while number not in done:
      try:
        with lock.held(tmp_path / "run"):
          inside.append(number)
          most.append(len(inside))
          time.sleep(0.001)
          inside.remove(number)
          done.append(number)
      except BadInput:
        time.sleep(0.0005)
      except BaseException as error:
        done.append(error)
        raise

  threads = [threading.Thread(target=start, args=(n,)) for n in range(16)]
  for each in threads:
    each.start()
  for each in threads:
    each.join(timeout=60)
  assert sorted(done) == list(range(16)) and max(most) == 1


# ---------------------------------------------------------------- the work directory


def test_claimed_then_claim(tmp_path):
  run = config(tmp_path / "run")
  with preflight.claimed(run) as workdir:
    assert everything(workdir) == ["lock"]
    preflight.claim(run, {})
    before = (workdir / "config.json").stat()
    preflight.claim(run, {})
    assert (workdir / "config.json").stat().st_ino == before.st_ino  # nothing to say, no write
  assert everything(workdir) == ["config.json", "contents.json"]
  with preflight.claimed(run):
    pass
  with pytest.raises(BadInput, match="seed: 0 -> 1"), preflight.claimed(config(workdir, "seed=1")):
    pass
  assert everything(workdir) == ["config.json", "contents.json"]


@pytest.mark.parametrize(
  "key", ["rewards.pricing={}", "data.condition=pricing data.condition_policies=('free','{}')"]
)
def test_an_edited_pricing_policy_is_another_run(tmp_path, key):
  policy = tmp_path / "policy.toml"
  policy.write_text("[price]\nuser = 0.01\n")
  run = config(tmp_path / "run", *key.format(policy).split())
  with preflight.claimed(run):
    preflight.claim(run, preflight.check_contents(run, {}))
    assert preflight.check_contents(run, {})
    policy.write_text("[price]\nuser = 0.02\n")
    pricing.loaded.cache_clear()  # as in the process that goes on
    with pytest.raises(BadInput, match=r"policy\.toml'?: what it holds has changed"):
      preflight.check_contents(run, {})
    policy.write_text("[prise]\n")
    pricing.loaded.cache_clear()
    with pytest.raises(BadInput, match=r"unknown key prise"):
      preflight.check(run, {}, scored=True)


def test_other_processes_than_the_main_one_touch_nothing(tmp_path, monkeypatch):
  run = config(tmp_path / "run")
  monkeypatch.setattr(preflight.distributed, "is_main", lambda: False)
  monkeypatch.setattr(preflight.distributed, "agree", lambda _: True)  # what the main one found
  with preflight.claimed(run):
    preflight.claim(run, {})
  assert everything(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_config_that_cannot_be_read(tmp_path, text):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(BadInput, match="use another workdir="), preflight.claimed(config(tmp_path)):
    pass


def test_places_that_are_none(tmp_path):
  (tmp_path / "file").write_text("kept")
  for place, said in (
    ("gs://bucket/run", "workdir 'gs://bucket/run' is no local path"),
    (tmp_path / "file", "cannot be a folder: .*file is no folder"),
    (tmp_path / "file" / "run", "cannot be a folder: .*file is no folder"),
    ("/proc/gtalign/run", "workdir '/proc/gtalign/run': cannot be written "),
  ):
    with pytest.raises(BadInput, match=said), preflight.claimed(config(place)):
      pass
  assert everything(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "kept"
  assert not Path("gs:").exists()


def test_a_cache_in_a_bucket_is_refused(tmp_path):
  judge = ("kind=http", "base_url=http://127.0.0.1:1/v1", "model=m", "cache=s3://bucket/c.sqlite")
  with pytest.raises(BadInput, match=r"rewards\.judge\.cache='s3://bucket/c\.sqlite' is no local"):
    config(tmp_path, *(f"rewards.judge.{each}" for each in judge))


# ---------------------------------------------------------------- records and prompts


def record(number, source="math-hard", truth="4"):
  return Record(f"r{number}", source, [{"role": "user", "content": "2+2?"}], truth, {})


def test_a_run_judged_by_rules_says_so_first(tmp_path, caplog):
  with caplog.at_level("INFO"):
    preflight.check(config(tmp_path), {"train": [record(0), record(1, "wildguard", "harmful")]})
  (line,) = caplog.messages
  assert "the judge is a set of rules" in line and "safety 85.8 % of 141" in line


def test_all_records_are_looked_at():
  good = {"train": [record(n) for n in range(5)], "test": [record(9, "advbench", None)]}
  preflight.check_records(good, RewardConfig())
  bad = good | {"test": [record(1), record(2, "wildguard", "maybe"), record(3, truth=None)]}
  with pytest.raises(BadInput) as caught:
    preflight.check_records(bad, RewardConfig())
  said = str(caught.value)
  assert said.startswith("split 'test', record 'r2': ground_truth='maybe' must be harmful or ")
  assert said.endswith("(and 1 more record)")
  with pytest.raises(BadInput, match=r"record 'r0'.*rewards\.tasks=.*\(and 4 more records\)"):
    preflight.check_records({"train": [record(n, "poems") for n in range(5)]}, RewardConfig())
  paper = RewardConfig(mode="paper")
  preflight.check_records({"train": [record(2, "wildguard", "maybe")]}, paper)


def test_a_path_of_an_own_task_that_leads_nowhere():
  rewards = RewardConfig(tasks=Table({"mine": "no_such_module:f"}))
  with pytest.raises(BadInput, match=r"rewards\.tasks\['mine'\]='no_such_module:f'"):
    preflight.check_records({"train": [record(0, "mine")]}, rewards)


def test_many_records_are_checked_quickly():
  many = {"train": [record(n) for n in range(20_000)]}
  began = time.process_time()
  preflight.check_records(many, RewardConfig())
  assert time.process_time() - began < 2.0


def encoded(fit, left_out):
  return Encoded([record(n) for n in range(fit)], [np.zeros(3, np.int32)] * fit, left_out)


def test_prompts_that_are_too_long_are_told(caplog):
  with caplog.at_level("INFO"):
    preflight.check_prompts({"train": encoded(9, 1), "test": encoded(3, 0)}, DataConfig())
    assert [each.levelname for each in caplog.records] == ["INFO"]
    assert "train: left out 1 of 10 prompts over" in caplog.text
    preflight.check_prompts({"test": encoded(1, 2)}, DataConfig())
  assert caplog.records[-1].levelname == "WARNING"
  with pytest.raises(BadInput, match=r"no prompt is left of the 4 of split 'test'.*max_prompt_tok"):
    preflight.check_prompts({"train": encoded(2, 0), "test": encoded(0, 4)}, DataConfig())


# ---------------------------------------------------------------- the disk

PARAMS = {"a": jax.ShapeDtypeStruct((1000, 1000), jnp.float32), "b": jnp.zeros(576, jnp.float32)}
STATE = 12 * 1_000_576  # parameters and two moments


@pytest.mark.parametrize(
  ("overrides", "states", "best"),
  [
    (("sft.steps=0", "grpo.steps=100", "checkpoint.keep=2", "checkpoint.every=10"), 3, 2),
    (("sft.steps=0", "grpo.steps=100", "checkpoint.keep=1", "checkpoint.every=10"), 2, 2),
    (("sft.steps=0", "grpo.steps=3", "checkpoint.every=2"), 2, 2),  # saved twice in all
    (("sft.steps=0", "grpo.steps=3", "checkpoint.every=2", "grpo.advantage=gae"), 4, 2),  # a critic
    (("sft.steps=3", "sft.every=10", "grpo.steps=0"), 1, 0),
    (("sft.steps=30", "sft.every=10", "grpo.steps=3", "checkpoint.every=3"), 4, 2),
  ],
)
def test_bytes_of_checkpoints(overrides, states, best):
  needed = preflight.checkpoint_bytes(config("x", *overrides), PARAMS)
  assert needed == states * STATE + best * STATE // 3


def test_a_disk_that_is_too_small(tmp_path):
  run = config(tmp_path / "run", "sft.steps=0", "grpo.steps=100", "checkpoint.every=10")
  needed = preflight.checkpoint_bytes(run, PARAMS)
  preflight.check_disk(run, PARAMS, free=needed)
  preflight.check_disk(run, PARAMS)
  with pytest.raises(RunFailure, match=r"need up to 0\.04 GiB, and 0\.01 GiB are free;.*keep=2"):
    preflight.check_disk(run, PARAMS, free=needed // 4)
  step = tmp_path / "run" / "checkpoints" / "grpo" / "10"
  step.mkdir(parents=True)
  (step / "state").write_bytes(bytes(needed // 2))
  preflight.check_disk(run, PARAMS, free=needed - needed // 2)  # a resumed run replaces its own


# ---------------------------------------------------------------- the command


def refused(capfd, *arguments, code=2):
  capfd.readouterr()
  assert main(["train", str(TINY), *arguments]) == code
  return capfd.readouterr().err.strip().splitlines()[-1]


def bad_data(tmp_path):
  path = tmp_path / "prompts.jsonl"
  row = {"data_source": "wildguard", "prompt": [{"role": "user", "content": "Hi"}]}
  labels = ["harmful", "unharmful", "harmful", "unharmful", "maybe"]
  path.write_text("".join(json.dumps(row | {"ground_truth": each}) + "\n" for each in labels))
  return path


def test_a_first_start_that_fails_leaves_nothing_behind(capfd, tmp_path):
  work = tmp_path / "work"
  work.mkdir()
  run = work / "runs" / "first"
  for overrides, code, said in (
    (["model=/no/such/model"], 2, "/no/such/model"),
    (["data.weights={'mediun': 2}"], 2, "data.weights names 'mediun', but there are prompts of"),
    ([f"data.root={bad_data(tmp_path)}"], 2, "ground_truth='maybe' must be harmful or unharmful"),
    (
      ["rewards.judge.kind=http", "rewards.judge.base_url=http://127.0.0.1:1/v1",
       "rewards.judge.model=m"],
      1, "rewards.judge.base_url='http://127.0.0.1:1/v1' does not answer",
    ),
  ):  # fmt: skip
    line = refused(capfd, f"workdir={run}", *MESH, *overrides, code=code)
    assert line.startswith("gtalign: ") and said in line
    assert everything(work) == []


def test_a_second_start_exits_2_while_the_first_one_runs(capfd, tmp_path, holder):
  line = refused(capfd, f"workdir={tmp_path / 'run'}", *MESH)
  assert f"is in use by process {holder.pid}" in line


def test_a_run_that_is_done_is_left_alone_even_where_it_is_locked(tmp_path, holder):
  (tmp_path / "run" / "DONE").write_text("")
  assert loop.train(config(tmp_path / "run")) == tmp_path / "run"
  assert everything(tmp_path / "run") == ["DONE", "lock"]


def test_a_judge_is_asked_for_one_word(tmp_path):
  with serve(lambda _: "VERDICT: 1") as server:
    run = config(
      tmp_path / "run",
      "rewards.judge.kind=http",
      f"rewards.judge.base_url={server.url}",
      "rewards.judge.model=m",
    )
    preflight.check(run, {"train": encoded(4, 0).records})
    assert len(server.requests) == 1 and everything(tmp_path) == []


def test_a_task_of_a_source_without_records_is_told(tmp_path, caplog):
  run = config(tmp_path / "run", "rewards.tasks={'mediun': 'json:loads'}")
  preflight.check(run, {"train": encoded(4, 0).records})
  assert "rewards.tasks['mediun'] does nothing: no record has this data_source" in caplog.text


def test_a_warm_start_by_itself_needs_no_labels_and_no_judge(tmp_path):
  run = config(tmp_path / "run")
  records = {"train": [record(0, "poems", None)]}
  preflight.check(run, records, scored=False)
  with pytest.raises(BadInput, match="poems"):
    preflight.check(run, records)


def test_conversations_need_somebody_who_answers():
  config = vary(Config(), {"conversation.turns": 2})
  chat = [{"role": "user", "content": "How do I pick a lock?"}]
  alone = {"train": [Record("w", "wildguard", chat, "harmful", {})]}
  with pytest.raises(BadInput) as caught:
    preflight.check(config, alone)
  said = str(caught.value)
  assert said.startswith("conversation.turns=2 has no effect: the rule user answers for none of ")
  assert "wildguard" in said and "\n" not in said
  both = {"train": [*alone["train"], Record("m", "math-hard", chat, "2", {})]}
  preflight.check(config, both)
  with pytest.raises(BadInput, match="knows one turn"):
    preflight.check(vary(config, {"rewards.mode": "paper"}), both)
