"""Runs whose work directory is damaged, finished, or learns nothing: `main([...])` in this process.

One run is trained; each test damages a copy of it in many ways at once and lets it go on.
"""

import json
import shutil

import pytest
from real_runs import TINY, lines, metrics

from gtalign_jax.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_programs", "one_device")]
RUN = ("grpo.steps=4", "checkpoint.every=1", "checkpoint.keep=3", "sft.every=1")


def train(workdir, *overrides, command="train"):
  return main([command, str(TINY), f"workdir={workdir}", *RUN, *overrides])


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shared_programs, one_device):
  workdir = tmp_path_factory.mktemp("run") / "whole"
  assert train(workdir) == 0
  return workdir


@pytest.fixture
def copy(whole, tmp_path):
  return shutil.copytree(whole, tmp_path / "run")


def last_line(capfd):
  return capfd.readouterr().err.strip().splitlines()[-1]


def flip(folder):
  path = max((each for each in folder.rglob("*") if each.is_file()), key=lambda p: p.stat().st_size)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 8
  path.write_bytes(data)


def test_a_run_that_is_damaged_everywhere_goes_on_and_ends_as_it_would_have(
  copy, whole, caplog, capfd
):
  (copy / "DONE").unlink()
  flip(copy / "checkpoints/grpo/4")
  (copy / "checkpoints/grpo/999").mkdir()
  shutil.rmtree(copy / "checkpoints/sft")  # the KL term needs its end: it is computed again
  (copy / "config.json").write_text("")
  (copy / "timings.json").write_text("")
  (copy / "eval/.base.jsonl.x1.tmp").write_text("left by a kill")
  base = copy / "eval/base.jsonl"
  base.write_text(base.read_text()[:-40])
  before = lines(copy)
  broken = [*before[:2], before[2][:30], before[2], "[1]", *before[3:], '{"phase": 3, "step": 1}']
  (copy / "metrics.jsonl").write_text("\n".join(broken) + "\n" + before[-1][:20])
  assert train(copy) == 0
  assert metrics(copy) == metrics(whole)
  for name in ("eval/base.jsonl", "eval/grpo.jsonl"):
    assert (copy / name).read_text() == (whole / name).read_text()
  assert json.loads((copy / "config.json").read_text())["grpo"]["steps"] == 4
  assert "base" in (copy / "report.html").read_text() and (copy / "DONE").exists()
  assert not list((copy / "eval").glob(".*"))
  said = [each for each in caplog.messages if "damaged" in each or "again" in each]
  assert all("\n" not in each for each in said)
  for words in (
    "config.json is damaged (",
    "timings.json is damaged (",
    "metrics.jsonl: damaged lines (4)",
    "checkpoints/grpo/4 is damaged (state/",
    "checkpoints/grpo/999 is damaged (it was never completed",
    "computing the warm start again",
    "evaluating base again",
  ):
    assert sum(words in each for each in said) == 1, (words, said)
  assert "Traceback" not in capfd.readouterr().err
  for name in ("config.json", "timings.json", "metrics.jsonl", "checkpoints/grpo/4"):
    assert (copy / f"{name}.damaged").exists()  # nothing is deleted


def test_a_finished_run_says_so_goes_on_with_more_steps_and_refuses_all_else(
  copy, whole, caplog, capfd
):
  before = (copy / "metrics.jsonl").read_bytes()
  assert (
    train(copy) == 0 and "is finished (sft.steps=3, grpo.steps=4): nothing to do" in caplog.text
  )
  for overrides, said in (
    (["seed=1"], "seed: 0 -> 1"),
    (["grpo.steps=3"], "grpo.steps: 4 -> 3 (4 are done)"),
    (["sft.steps=9"], "sft.steps: 3 -> 9 (what follows began from its end)"),
    (["grpo.steps=5", "optim.decay=linear"], "(the rate decays over all steps: decay=linear)"),
  ):
    assert train(copy, *overrides) == 2
    assert said in last_line(capfd), overrides
  assert train(copy, command="sft") == 2 and "grpo.steps: 4 -> 0" in last_line(capfd)
  assert (copy / "DONE").exists() and (copy / "metrics.jsonl").read_bytes() == before
  assert train(copy, "grpo.steps=5") == 0
  assert metrics(copy)[: len(metrics(whole))] == metrics(whole)
  assert [(row["phase"], row["step"]) for row in metrics(copy)[-2:]] == [("grpo", 5), ("eval", 5)]
  assert (copy / "DONE").exists()


def test_a_finished_warm_start_goes_on_with_more_steps(tmp_path, capfd):
  assert train(tmp_path, command="sft") == 0
  assert train(tmp_path, "sft.steps=4", command="sft") == 0
  assert [(row["phase"], row["step"]) for row in metrics(tmp_path)] == [
    ("sft", 1), ("sft", 2), ("sft", 3), ("sft", 4)
  ]  # fmt: skip
  assert (tmp_path / "model" / "config.json").exists()
  capfd.readouterr()
  assert train(tmp_path, "sft.steps=2", command="sft") == 2
  assert "sft.steps: 4 -> 2 (4 are done)" in last_line(capfd)


@pytest.mark.parametrize(
  ("overrides", "phase"),
  [
    (("sft.optim.lr=1e30",), "sft step 3: 2 updates in a row were skipped"),
    (("sft.optim.lr=1e39",), "sft step 1: parameters or moments are not finite"),
    (("sft.steps=1", "grpo.steps=9", "grpo.kl_coef=1e38"), "grpo step"),
  ],
)
def test_a_run_that_learns_nothing_ends(tmp_path, capfd, caplog, overrides, phase):
  assert train(tmp_path, "eval.every=0", *overrides) == 1
  line = last_line(capfd)
  assert line.startswith(f"gtalign: {phase}") and not (tmp_path / "DONE").exists()
  assert overrides[-1].partition("=")[0] in line or "learning rate" in line
  if "skipped" in line:
    assert sum("update skipped: gradient not finite" in each for each in caplog.messages) >= 2
