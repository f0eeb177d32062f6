"""Runs whose completions continue edited payoffs: broken off and resumed, on a mesh, with few slots.

The tiny policy writes no payoffs, so what it samples as an opening is read as a scripted one that
depends on it: another draw would be another matrix. Rewards are numbers that depend on what was
written, so that every group has a gradient.
"""

import json
import zlib

import jax
import numpy as np
import pytest
import short_config
from real_runs import metrics
from scripted import encode, opening, tenths

from gtalign_jax.config import vary
from gtalign_jax.parallel import mesh
from gtalign_jax.rollout import intervene
from gtalign_jax.train import grpo, loop

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_programs")]
CHANGES = {
  "rollout.intervene": 0.25,
  "rollout.max_new_tokens": 12,
  "grpo.length_buckets": (12,),
  # a scripted opening has some 300 bytes
  "data.max_prompt_tokens": 372,
  "rollout.prompt_buckets": (384,),
  "grpo.prompts_per_step": 8,
  "grpo.steps": 2,
  "checkpoint.every": 1,
  "sft.steps": 0,
  "optim.lr": 1e-2,
  "eval.every": 0,
  "log.samples": 16,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Runs in a work directory: by default on one device; breaks off in step `until` where given."""
  sample, score, make = intervene.completions, grpo.reward, mesh.make
  ends = []

  def scripted(*given):
    numbers = [zlib.crc32(np.asarray(ids).tobytes()) for ids in sample(*given)]
    return [encode(opening(tenths(number))) for number in numbers]

  def rewarded(experience, config, where):
    if where in ends:
      raise InterruptedError(where)
    found = [zlib.crc32(row["completion"].encode()) % 7 / 7 for row in experience.rows]
    shape = experience.count_PG.shape
    return score(experience, config, where)._replace(reward_PG=np.reshape(found, shape))

  def run(workdir, devices=1, changes=None, until=None):
    ends[:] = [f"step {until}"]
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(intervene, "completions", scripted)
      patch.setattr(grpo, "reward", rewarded)
      patch.setattr(mesh, "make", lambda config: make(config, jax.devices()[:devices]))
      # evaluations and the report compile and draw as much again, and know no interventions
      patch.setattr(loop, "evaluate_once", lambda *_: None)
      patch.setattr(grpo, "evaluate_and_keep_best", lambda *_: None)
      patch.setattr(loop.report, "write", lambda *_: None)
      config = vary(short_config.config(), {"workdir": str(workdir)} | CHANGES | (changes or {}))
      loop.train(config)
    return workdir

  return run


def steps(workdir):
  return [row for row in metrics(workdir) if row["phase"] == "grpo"]


def samples(workdir):
  """Prompt, edit and text of each row of each step."""
  paths = sorted((workdir / "samples").glob("*.jsonl"))
  rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]
  return [[(row["id"], row.get("intervened"), row["completion"]) for row in step] for step in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run):
  return run(tmp_path_factory.mktemp("whole"))


def test_a_quarter_of_the_prompts_continues_edited_payoffs(whole):
  kinds = set()
  for step in samples(whole):
    groups = [step[at : at + 2] for at in range(0, 16, 2)]
    edited = [group for group in groups if group[0][1]]
    assert len(edited) == 2 and all(one[1] == two[1] for one, two in groups)
    for one, two in edited:
      head = one[2].partition("</payoff>")[0]
      assert two[2].startswith(head + "</payoff>") and one[2] != two[2]
      kinds.add(one[1]["by"] == "swap")
  assert kinds == {True, False}
  for row in steps(whole):
    assert row["rollout/intervened_frac"] == 0.25 and row["grad_norm"] > 0
    assert row["game/follow"] == row["game/carry"] == 0.0  # a random policy names nothing
    assert row["completions/max_length"] <= 12  # of whole chains alone
    # trained on what comes after the opening, at its place behind it
    assert row["sampling/sampling_logp_difference/max"] < 1e-4


def test_a_run_that_breaks_off_goes_on_as_it_was(tmp_path, run, whole):
  with pytest.raises(InterruptedError):
    run(tmp_path, until=2)
  assert len(steps(tmp_path)) == 1
  run(tmp_path)
  assert metrics(tmp_path) == metrics(whole) and samples(tmp_path) == samples(whole)


def test_a_mesh_and_few_slots_change_nothing(tmp_path, run, whole):
  mesh = {"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2}
  run(tmp_path, 8, mesh | {"rollout.prompts_at_once": 4, "grpo.steps": 1})
  assert samples(tmp_path) == samples(whole)[:1]
  (found,), wanted = steps(tmp_path), steps(whole)[0]
  assert found["loss"] == pytest.approx(wanted["loss"], abs=1e-4)
  assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-3)
