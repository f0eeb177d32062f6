"""Killed runs: kill -9 in any phase, the same command again, and the metrics are those of a whole run.

Real processes and a real Orbax directory; slow, because every start imports and loads anew. What is
not killed runs in one process, which compiles what such runs share once.
"""

import json
import math
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import real_runs
from real_runs import SHORT, TINY, command, environment, has, metrics, one_process

from gtalign_jax.train import checkpoint, status
from gtalign_jax.types import ACTIONS

pytestmark = pytest.mark.slow


def kill_when(workdir, ready, *overrides, kill=signal.SIGKILL, config=TINY):
  """Starts the run and kills it as soon as `ready()`; returns the exit code and stderr."""
  process = subprocess.Popen(
    command(workdir, *overrides, config=config),
    env=environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  deadline = time.monotonic() + 240
  while not ready():
    assert process.poll() is None, process.stderr.read()[-3000:]
    assert time.monotonic() < deadline
    time.sleep(0.002)
  process.send_signal(kill)
  _, stderr = process.communicate(timeout=120)
  return process.returncode, stderr


@pytest.fixture(scope="module")
def train(tmp_path_factory):
  """Runs the job to its end, whatever that is."""
  with one_process(tmp_path_factory.mktemp("log") / "stderr") as gtalign:

    def train(workdir, *overrides, config=TINY):
      return gtalign("train", str(config), f"workdir={workdir}", *overrides)

    yield train


@pytest.fixture(scope="module")
def finish(train):
  """Runs the job to its good end."""

  def finish(*arguments, **options):
    done = train(*arguments, **options)
    assert done.returncode == 0, done.stderr[-3000:]

  return finish


@pytest.fixture(scope="module")
def whole_workdir(tmp_path_factory, finish):
  workdir = tmp_path_factory.mktemp("whole")
  finish(workdir)
  return workdir


@pytest.fixture(scope="module")
def whole(whole_workdir):
  return metrics(whole_workdir)


def conditions(workdir):
  """(policy, score) of each row of samples/."""
  paths = sorted((workdir / "samples").glob("*.jsonl"))
  rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
  named = [row["extra_info"]["condition"]["pricing"] for row in rows]
  return [
    (each if isinstance(each, str) else each["name"], row["score"])
    for each, row in zip(named, rows, strict=True)
  ]


def saving(workdir, phase):
  """An Orbax save is under way: its folder exists under a temporary name."""
  return any((workdir / "checkpoints" / phase).glob("*tmp*"))


def test_a_whole_run(whole):
  kinds = [(row["phase"], row["step"]) for row in whole]
  sft, grpo = [("sft", s) for s in (1, 2, 3)], [("grpo", s) for s in (1, 2)]
  assert kinds[:5] == [("eval", 0), *sft, ("eval", 0)] and kinds[5:7] == grpo
  assert kinds[-1] == ("eval", 5) and kinds.count(("eval", 4)) == 1
  row = next(row for row in whole if row["phase"] == "grpo")
  assert {"reward", "kl", "entropy", "grad_norm", "lr", "num_tokens", "chain/parse_rate"} <= set(
    row
  )
  assert row["sampling/sampling_logp_difference/max"] < 1e-4
  assert row["ratio/max"] == 1.0
  lengths = [
    row[f"block/{block}/length"] for block in ("thinking", "payoff", "analyze", "response")
  ]
  assert all(isinstance(length, float) for length in lengths)


def test_stops_in_each_phase_and_in_the_middle_of_a_save(tmp_path, whole, train, finish):
  def kill(ready):
    code, _ = kill_when(tmp_path, ready)
    assert code == -signal.SIGKILL and not (tmp_path / "DONE").exists()

  kill(lambda: has(tmp_path, "sft", 3) and status.status(tmp_path).kind == "running")
  found = status.status(tmp_path)
  assert found.kind == "stopped" and "stopped at warm start 3/3: process" in found.words

  code, stderr = kill_when(tmp_path, lambda: has(tmp_path, "grpo", 1), kill=signal.SIGINT)
  assert code == 130 and "Traceback" not in stderr
  assert stderr.strip().splitlines()[-1].startswith("gtalign: interrupted")
  changed = train(tmp_path, "optim.lr=0.5")
  assert changed.returncode == 2 and "optim.lr: 0.001 -> 0.5" in changed.stderr

  kill(lambda: has(tmp_path, "grpo", 3))
  kill(lambda: saving(tmp_path, "grpo"))
  finish(tmp_path)
  assert metrics(tmp_path) == whole
  report = (tmp_path / "report.html").read_text()
  before = (tmp_path / "metrics.jsonl").read_bytes()
  assert "<svg" in report or "data:image" in report
  finish(tmp_path)  # DONE: exits at once, changes nothing
  assert (tmp_path / "metrics.jsonl").read_bytes() == before


# `gtalign …` that is killed before its n-th second mini-batch of a step
KILLED = """
import os, signal, sys
from gtalign_jax.algorithms import update
from gtalign_jax.cli.main import main
left, gradient_step = int(sys.argv[1]), update.gradient_step
def counted(*arguments):
  global left
  left -= arguments[-1] == "2/2, "
  if not left:
    os.kill(os.getpid(), signal.SIGKILL)
  return gradient_step(*arguments)
update.gradient_step = counted
main(sys.argv[2:])
"""
# prices that a response need not exist for: random weights write none
GENEROUS = "".join(f"[shift.{action}]\nuser = 2.0\nLLM = 1.0\n" for action in ACTIONS)


def test_kill_between_mini_batches_of_a_conditioned_run_with_adapters_and_critic(tmp_path, finish):
  policy = tmp_path / "generous.toml"
  policy.write_text(f'name = "generous"\n{GENEROUS}')
  overrides = (
    *("policy.lora_rank=4", "sft.steps=4", "grpo.steps=3", "grpo.minibatch_prompts=2"),
    *("grpo.advantage=gae", "critic.kl_coef=0.01", "critic.warmup_steps=1", "eval.every=0"),
    *("data.condition=pricing", f"data.condition_policies=('free', '{policy}')"),
    *("data.max_prompt_tokens=256", "rollout.prompt_buckets=(256,)"),
    *("sft.max_tokens=288", "sft.length_bucket=288"),
  )
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  finish(whole, *overrides, config=SHORT)
  assert metrics(whole)[-1]["step"] == 3
  # the policy has no update in step 1: the second sequence that is cut is that of step 3
  command = ["train", str(SHORT), f"workdir={killed}", *overrides]
  run = [sys.executable, "-c", KILLED, "2", *command]
  done = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=300)
  assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
  assert has(killed, "grpo", 2) and not (killed / "DONE").exists()
  finish(killed, *overrides, config=SHORT)
  assert metrics(killed) == metrics(whole)
  ours, theirs = (conditions(folder) for folder in (killed, whole))
  assert ours == theirs and {name for name, _ in ours} == {"free", "generous"}
  # the reward of a row is that of its condition
  rewards = {name: {score for each, score in ours if each == name} for name, _ in ours}
  assert max(rewards["free"]) < min(rewards["generous"])
  ours, theirs = (checkpoint.load_policy(folder).params for folder in (killed, whole))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_the_policy_before_grpo_can_be_read(whole_workdir):
  folder = whole_workdir / "checkpoints"
  assert checkpoint.find(folder, "sft") == (folder / "sft", 3)
  before, after = (checkpoint.load_policy(whole_workdir, which).params for which in ("sft", None))
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after)
  assert 0 < max(jax.tree.leaves(moved)) < 0.1


def test_eight_devices_give_the_samples_and_losses_of_one(tmp_path, whole, whole_workdir):
  one = [row for row in whole if row["phase"] == "grpo"]
  real_runs.finish(tmp_path, "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2", devices=8)
  many = [row for row in metrics(tmp_path) if row["phase"] == "grpo"]
  for a, b in zip(one[:4], many[:4], strict=True):
    assert abs(a["loss"] - b["loss"]) < 1e-4, a["step"]
  for step in (1, 2):
    name = f"samples/step_{step:06d}.jsonl"
    ours, theirs = (
      [json.loads(line)["completion"] for line in (folder / name).read_text().splitlines()]
      for folder in (whole_workdir, tmp_path)
    )
    assert ours == theirs and len(ours) == 4


def test_a_run_in_bf16_learns_as_in_f32(tmp_path, whole, finish):
  """XLA's CPU has kernels for some products in bf16 only: the run ends, and learns as in f32."""
  finish(tmp_path, "eval.every=0", "grpo.steps=1", "policy.dtype=bfloat16", "policy.remat=dots")
  losses = []
  for rows in (metrics(tmp_path), whole):
    losses.append([row["loss"] for row in rows if row["phase"] == "sft"])
    update = next(row for row in rows if row["phase"] == "grpo")
    assert update["skipped_updates"] == 0 and 0 < update["grad_norm"] < math.inf
  narrow, wide = losses
  assert narrow != wide and wide[-1] < wide[0] - 0.1
  np.testing.assert_allclose(narrow, wide, rtol=2e-3)
