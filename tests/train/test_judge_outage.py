"""A judge that goes down under a run: it stops in order, and the same command goes on once the judge is back.

Real processes and a real endpoint; slow, because every start imports and loads anew.
"""

import json
import zlib

import pytest
from judge_servers import closed_socket, running
from real_runs import SHORT, attempt, finish, has, metrics

from gtalign_jax.cli.main import main
from gtalign_jax.report import results
from gtalign_jax.train.checkpoint import newest

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


def start(run, endpoint, good):
  go = finish if good else attempt
  done = go(run, *endpoint.overrides(), config=SHORT, OUTAGE_TEST_KEY=KEY)
  assert KEY not in done.stdout + done.stderr
  return done


def stopped(done, where):
  """The run ended as a failure that one line explains."""
  last = done.stderr.strip().splitlines()[-1]
  assert done.returncode == 1 and "Traceback" not in done.stderr
  assert last.startswith(f"gtalign: {where}: ") and "of the rows have no verdict" in last
  assert last.endswith("mend the judge and run the same command again")


def evaluations(run):
  return [(row["step"], row["policy"]) for row in metrics(run) if row["phase"] == "eval"]


def test_an_outage_stops_the_run_and_its_end_lets_it_go_on(tmp_path, endpoint, capfd):
  whole, run = tmp_path / "whole", tmp_path / "run"
  start(whole, endpoint, good=True)
  assert all(row["judge/invalid_frac"] == 0 for row in metrics(whole) if row["phase"] == "grpo")
  assert len({row["answer_reward"] for row in rows(whole)}) == 2  # the judge had a say

  endpoint.down = lambda: has(run, "sft", 120)  # in the evaluation after the warm start
  stopped(start(run, endpoint, good=False), "evaluation of sft at step 0")
  assert evaluations(run) == [(0, "base")] and not (run / "eval/sft.jsonl").exists()
  assert newest(run / "checkpoints/sft") == 120 and newest(run / "checkpoints/grpo") is None

  endpoint.down = lambda: has(run, "grpo", 3)  # in the middle of step 4
  stopped(start(run, endpoint, good=False), "step 4")
  assert not has(run, "grpo", 4) and newest(run / "checkpoints/grpo") == 2

  endpoint.down = lambda: False
  start(run, endpoint, good=True)
  assert (run / "DONE").exists() and metrics(run) == metrics(whole)
  assert {each["key"] for each in endpoint.server.requests} == {f"Bearer {KEY}"}
  texts = [path for path in run.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
  assert texts and not any(KEY.encode() in path.read_bytes() for path in texts)

  # the log and the table of the run mean one number by W
  trained = next(each for each in results.policies(results.load(run)) if each.name == "grpo")
  assert trained.welfare == metrics(run)[-1]["W"]

  # gtalign eval of the trained policy: the same, and no row without verdict stays behind
  model, out = tmp_path / "model", tmp_path / "rows.jsonl"
  assert main(["export", "--checkpoint", str(run), "--out", str(model)]) == 0
  fresh = f"rewards.judge.cache={tmp_path / 'fresh.sqlite'}"
  command = ["eval", str(SHORT), str(out), f"model={model}", *endpoint.overrides(), fresh]
  endpoint.down = lambda: True
  capfd.readouterr()
  assert main(command) == 1
  last = capfd.readouterr().err.strip().splitlines()[-1]
  assert last.startswith("gtalign: ") and "of the rows have no verdict" in last
  assert not out.exists()
  endpoint.down = lambda: False
  assert main(command) == 0
  assert all(json.loads(line)["valid"] for line in out.read_text().splitlines())


def rows(run):
  return [json.loads(line) for line in (run / "eval/grpo.jsonl").read_text().splitlines()]
