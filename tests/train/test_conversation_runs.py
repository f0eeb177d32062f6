"""Conversations of whole runs: killed anywhere they go on as they were, and a mesh changes none.

Real processes, a real judge and a real user behind HTTP; the policy is `talk_config`'s, which asks
back in half of its answers.
"""

import json
import signal
import subprocess
import threading
import time
import zlib

import pytest
import real_runs
from judge_servers import running
from real_runs import TALK, command, environment, lines, metrics

pytestmark = pytest.mark.slow

RUN = ("sft.steps=0", "grpo.steps=4", "eval.every=0", "checkpoint.every=2")


class World:
  """A judge and a user in one endpoint, whose answers are functions of what they are asked.

  ready: what is waited for; the server sets `reached` and stalls once it is so.
  """

  def __init__(self):
    self.asked = {"judge": 0, "user": 0}
    self.stop_at, self.reached = None, threading.Event()

  def answer(self, handler, _, body):
    who = body["model"]
    self.asked[who] += 1
    if self.stop_at and self.stop_at[0] == who and self.asked[who] >= self.stop_at[1]:
      self.reached.set()
      time.sleep(20)  # killed by then
    number = zlib.crc32(json.dumps(body["messages"]).encode())
    handler.reply(f"VERDICT: {number % 2}" if who == "judge" else f"I mean number {number % 9}.")

  def overrides(self, url):
    found = []
    for section, who in (("rewards.judge", "judge"), ("conversation.user", "user")):
      found += [f"{section}.kind=http", f"{section}.base_url={url}", f"{section}.model={who}"]
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """The policy after its warm start, a folder."""
  workdir = tmp_path_factory.mktemp("sft")
  run = command(workdir, config=TALK, name="sft")
  done = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr[-3000:]
  return f"model={workdir / 'model'}"


def samples(workdir):
  """What was said in each conversation of each step, and what it earned."""
  found = []
  for path in sorted((workdir / "samples").glob("*.jsonl")):
    rows = map(json.loads, path.read_text().splitlines())
    found += [
      (row["id"], row["ended"], [t.get("completion", t.get("content")) for t in row["turns"]])
      for row in rows
    ]
  return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model):
  workdir, world = tmp_path_factory.mktemp("whole"), World()
  with running(world.answer) as server:
    real_runs.finish(workdir, model, *RUN, *world.overrides(server.url), config=TALK)
  assert world.asked["user"] > 1 and world.asked["judge"] > 1
  return workdir


def test_a_whole_run_has_conversations_of_two_turns(whole):
  rows = samples(whole)
  assert {len(said) for *_, said in rows} == {1, 3}
  steps = [row for row in metrics(whole) if row["phase"] == "grpo"]
  for row in steps:
    assert row["sampling/sampling_logp_difference/max"] < 1e-4  # of later turns, too
    assert 1 <= row["conversation/turns/mean"] <= 2
    ends = ("answered", "left", "unreadable", "turns", "invalid")
    assert sum(row[f"conversation/{end}_frac"] for end in ends) == pytest.approx(1)
  assert any(row["conversation/turns/mean"] > 1 for row in steps)


def test_kills_in_a_users_reply_between_turns_and_in_a_judges_call(tmp_path, model, whole):
  """The same command goes on from the last checkpoint: metrics and conversations are those of the
  whole run."""
  world = World()
  with running(world.answer) as server:
    run = command(tmp_path, model, *RUN, *world.overrides(server.url), config=TALK)

    def killed(ready, delay=0.0):
      process = subprocess.Popen(
        run, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
      )
      deadline = time.monotonic() + 240
      while not ready():
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.002)
      time.sleep(delay)
      process.send_signal(signal.SIGKILL)
      process.communicate(timeout=60)

    def stall(who):
      """At the next request of `who` once training has begun."""
      world.reached.clear()
      world.stop_at = None

      def ready():
        if world.stop_at is None and len(lines(tmp_path)) >= begun:
          world.stop_at = (who, world.asked[who] + 1)
        return world.reached.is_set()

      begun = 2 if who == "user" else 3  # the evaluation of the start, and steps
      return ready

    killed(stall("user"))
    world.stop_at = None
    replies = world.asked["user"]
    # between two turns: the replies are there, and the next turn is being sampled
    killed(lambda: world.asked["user"] > replies + 1, delay=0.02)
    killed(stall("judge"))
    world.stop_at = None
    assert not (tmp_path / "DONE").exists()
    real_runs.finish(tmp_path, model, *RUN, *world.overrides(server.url), config=TALK)
  assert metrics(tmp_path) == metrics(whole)
  assert samples(tmp_path) == samples(whole)


def test_a_mesh_and_few_slots_change_no_conversation(tmp_path, model, whole):
  world = World()
  mesh = ("mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2", "conversation.rows_at_once=4")
  with running(world.answer) as server:
    real_runs.finish(
      tmp_path, model, *RUN, *mesh, *world.overrides(server.url), devices=8, config=TALK
    )
  assert samples(tmp_path)[:16] == samples(whole)[:16]
  for one, two in zip(metrics(whole), metrics(tmp_path), strict=True):
    if one["phase"] == "grpo" and one["step"] <= 2:
      assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
      assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
