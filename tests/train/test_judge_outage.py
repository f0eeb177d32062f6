"""A judge that goes down under a run: it stops in order, and the same command goes on once the judge is back.

A real endpoint, and a process that takes one command after the other: every start loads anew, and
imports and compiled programs are shared.
"""

import json
import zlib

import pytest
from judge_servers import closed_socket, running
from real_runs import SHORT, has, metrics, one_process

from gtalign_jax.report import results
from gtalign_jax.train.stored import newest

pytestmark = pytest.mark.slow
KEY = "sk-of-the-test"


def verdict(messages):
  """0 or 1, as good as random and the same for the same question."""
  return f"VERDICT: {zlib.crc32(messages[-1]['content'].encode()) % 2}"


class Endpoint:
  """A judge; while `down()` it resets every connection."""

  def __init__(self, server):
    self.server, self.down = server, lambda: False

  def overrides(self):
    """Settings of a judge that is given up quickly."""
    settings = {
      "kind": "http",
      "base_url": self.server.url,
      "model": "m",
      "api_key_env": "OUTAGE_TEST_KEY",
      "deadline_s": 3,
      "max_attempts": 2,
      "breaker_failures": 3,
      "breaker_cooldown_s": 0.1,
      "max_invalid_frac": 0.25,
    }
    return [f"rewards.judge.{key}={value}" for key, value in settings.items()]


@pytest.fixture
def endpoint():
  def answer(handler, _, body):
    if it.down():
      closed_socket(handler)
    else:
      handler.reply(verdict(body["messages"]))

  with running(answer) as server:
    it = Endpoint(server)
    yield it


@pytest.fixture
def gtalign(tmp_path):
  """Runs a command; returns its exit code and what it wrote to stderr."""
  with one_process(tmp_path / "stderr", OUTAGE_TEST_KEY=KEY) as command:

    def run(*argv):
      done = command(*argv)
      assert KEY not in done.stderr + done.stdout
      return done.returncode, done.stderr

    yield run


def stopped(result, where):
  """The command ended as a failure that one line explains."""
  code, errors = result
  last = errors.strip().splitlines()[-1]
  assert code == 1 and "Traceback" not in errors
  assert last.startswith(f"gtalign: {where}: ") and "of the rows have no verdict" in last
  assert last.endswith("mend the judge and run the same command again")


def evaluations(run):
  return [(row["step"], row["policy"]) for row in metrics(run) if row["phase"] == "eval"]


def test_an_outage_stops_the_run_and_its_end_lets_it_go_on(tmp_path, endpoint, gtalign):
  def start(workdir):
    return gtalign("train", str(SHORT), f"workdir={workdir}", "grpo.steps=4", *endpoint.overrides())

  whole, run = tmp_path / "whole", tmp_path / "run"
  assert start(whole)[0] == 0
  assert all(row["judge/invalid_frac"] == 0 for row in metrics(whole) if row["phase"] == "grpo")
  assert len({row["answer_reward"] for row in rows(whole)}) == 2  # the judge had a say

  endpoint.down = lambda: has(run, "sft", 120)  # in the evaluation after the warm start
  stopped(start(run), "evaluation of sft at step 0")
  assert evaluations(run) == [(0, "base")] and not (run / "eval/sft.jsonl").exists()
  assert newest(run / "checkpoints/sft") == 120 and newest(run / "checkpoints/grpo") is None

  endpoint.down = lambda: has(run, "grpo", 3)  # in the middle of step 4
  stopped(start(run), "step 4")
  assert not has(run, "grpo", 4) and newest(run / "checkpoints/grpo") == 2

  endpoint.down = lambda: False
  assert start(run)[0] == 0
  assert (run / "DONE").exists() and metrics(run) == metrics(whole)
  assert {each["key"] for each in endpoint.server.requests} == {f"Bearer {KEY}"}
  texts = [path for path in run.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
  assert texts and not any(KEY.encode() in path.read_bytes() for path in texts)

  # the log and the table of the run mean one number by W
  trained = next(each for each in results.policies(results.load(run)) if each.name == "grpo")
  assert trained.welfare == metrics(run)[-1]["W"]

  # gtalign eval of the trained policy: the same, and no row without verdict stays behind
  model, out = tmp_path / "model", tmp_path / "rows.jsonl"
  assert gtalign("export", "--checkpoint", str(run), "--out", str(model))[0] == 0
  # its first question is whether the judge is there; the others meet the outage
  asked = len(endpoint.server.requests)
  command = ["eval", str(SHORT), str(out), f"model={model}", *endpoint.overrides()]
  endpoint.down = lambda: len(endpoint.server.requests) > asked + 1
  code, errors = gtalign(*command)
  assert code == 1 and "of the rows have no verdict" in errors.strip().splitlines()[-1]
  assert not out.exists()
  endpoint.down = lambda: False
  assert gtalign(*command)[0] == 0
  assert all(json.loads(line)["valid"] for line in out.read_text().splitlines())
  assert {path.name for path in tmp_path.glob("*.sqlite")} == {"judge_cache.sqlite"}


def rows(run):
  return [json.loads(line) for line in (run / "eval/grpo.jsonl").read_text().splitlines()]
