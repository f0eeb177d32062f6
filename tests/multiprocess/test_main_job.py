"""The main job in two processes: one run, with the numbers of one process, that survives kill -9.

Real processes on one work directory; slow, because every start imports, loads and traces anew.
"""

import json
import time

import jax
import numpy as np
import processes
import pytest
from real_runs import SHORT, TALK, command, finish, has, metrics

from gtalign_jax import models
from gtalign_jax.train import checkpoint

pytestmark = pytest.mark.slow
SETTINGS = ("mesh.data=2", "sft.steps=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The run of one process with two devices, the same mesh."""
  workdir = tmp_path_factory.mktemp("whole")
  finish(workdir, *SETTINGS, devices=2, config=SHORT)
  return workdir


def two_processes(workdir):
  return processes.start(command(workdir, *SETTINGS, config=SHORT))


def until(ready, running):
  deadline = time.monotonic() + 240
  while not ready():
    ended = [process.stderr.read()[-3000:] for process in running if process.poll() is not None]
    assert not ended, ended
    assert time.monotonic() < deadline
    time.sleep(0.01)


def completions(workdir, step):
  lines = (workdir / f"samples/step_{step:06d}.jsonl").read_text().splitlines()
  return [json.loads(line)["completion"] for line in lines]


def test_two_processes_killed_and_restarted_give_the_run_of_one(tmp_path, whole):
  first = two_processes(tmp_path)
  until(lambda: has(tmp_path, "grpo", 3), first)
  first[0].kill()  # the other ends by itself: it hears from no coordinator
  assert all(code != 0 for code, *_ in processes.outcome(first, timeout=60))
  assert not (tmp_path / "DONE").exists()

  main, other = processes.outcome(two_processes(tmp_path))
  assert (main[0], other[0]) == (0, 0), (main[2][-2000:], other[2][-2000:])
  assert (tmp_path / "DONE").exists() and "<svg" in (tmp_path / "report.html").read_text()
  # one of them writes and speaks
  assert "held-out prompts" in main[1] and "grpo 5/5  W" in main[2]
  assert "held-out prompts" not in other[1] and "grpo" not in other[2]

  assert completions(tmp_path, 1) == completions(whole, 1) and len(completions(whole, 1)) == 4
  ours, theirs = metrics(tmp_path), metrics(whole)
  assert [row.keys() for row in ours] == [row.keys() for row in theirs]
  for one, two in zip(theirs, ours, strict=True):
    for name, value in one.items():
      expected = pytest.approx(value, rel=1e-4, abs=1e-4) if isinstance(value, float) else value
      assert two[name] == expected, (one["phase"], one["step"], name)


def test_two_processes_export_the_warm_start_that_they_share(tmp_path):
  """Neither holds all parameters: they are split over both. What is exported is not rounded to bf16.

  Nor do they keep programs: a bf16 update read back from the cache hung in both.
  """
  split = ("mesh.data=1", "mesh.fsdp=2", "sft.steps=1", "policy.dtype=bfloat16")
  run, cache = command(tmp_path, *split, config=SHORT, name="sft"), tmp_path / "cache"
  main, other = processes.outcome(processes.start(run, JAX_COMPILATION_CACHE_DIR=str(cache)))
  assert (main[0], other[0]) == (0, 0), (main[2][-2000:], other[2][-2000:])
  assert main[1].endswith(f"{tmp_path / 'model'}\n") and str(tmp_path) not in other[1]
  assert not cache.exists() or not list(cache.iterdir())
  stored = models.load(tmp_path / "model").params
  trained = checkpoint.load_policy(tmp_path).params
  jax.tree.map(np.testing.assert_array_equal, stored, trained)


def test_two_processes_hold_the_conversations_of_one(tmp_path):
  """Each asks the users of its share; both know what was said."""
  few = ("mesh.data=2", "grpo.steps=2", "eval.every=0", "conversation.rows_at_once=2")
  one, two = tmp_path / "one", tmp_path / "two"
  finish(one, *few, devices=2, config=TALK)
  ended = processes.outcome(processes.start(command(two, *few, config=TALK)))
  assert [code for code, *_ in ended] == [0, 0], ended[0][2][-2000:]

  def said(workdir):
    paths = sorted((workdir / "samples").glob("*.jsonl"))
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return [(row["id"], row["ended"], row["turns"]) for row in rows]

  assert said(one) == said(two) and any(len(turns) == 3 for *_, turns in said(one))
