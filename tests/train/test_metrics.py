import json
import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax import progress
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.sections import LogConfig
from gtalign_jax.train import metrics

PLAN = (  # a run in the order in which its lines appear
  [("eval", 0, {"policy": "base"})]
  + [("sft", k, {"loss": 3.0 / k}) for k in range(1, 6)]
  + [("eval", 0, {"policy": "sft"})]
  + [("grpo", k, {"reward": k / 7, "kl": float("nan")}) for k in range(1, 5)]
  + [("eval", 4, {"policy": "grpo", "rewards/welfare/mean": 0.5})]
)


def run(workdir, plan, position=None):
  with metrics.Writer(workdir, LogConfig()) as writer:
    writer.resume(position or {"sft": 0, "grpo": 0})
    for phase, step, values in plan:
      writer.write(phase, step, values)


def remaining(position):
  """What a resumed loop does again: everything beyond the position, and evaluations in doubt."""
  return [
    row
    for row in PLAN
    if row[0] == "eval" or row[1] > position["sft" if row[0] == "sft" else "grpo"]
  ]


def test_lines_and_nulls(tmp_path):
  values = {"a": np.float32(0.25), "b": float("nan"), "c": None, "d": np.int64(7), "e": np.inf}
  run(tmp_path, [("grpo", np.int32(1), values)])
  text = (tmp_path / "metrics.jsonl").read_text()
  row = json.loads(text)
  assert list(row)[:2] == ["phase", "step"]
  assert row == {"phase": "grpo", "step": 1, "a": 0.25, "b": None, "c": None, "d": 7, "e": None}
  assert "NaN" not in text and "Infinity" not in text


@settings(max_examples=60)
@given(
  sft=st.integers(0, 5),
  grpo=st.integers(0, 4),
  lines=st.integers(0, len(PLAN)),
  torn=st.integers(0, 40),
)
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path_factory, sft, grpo, lines, torn):
  position = {"sft": 5 if grpo else sft, "grpo": grpo}
  # A checkpoint is committed after its lines, so at least those are in the file.
  lines = max(lines, 1 + position["sft"] + (1 + grpo if grpo else 0))
  whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
  run(whole, PLAN)
  run(broken, PLAN[:lines])
  if lines < len(PLAN):  # the kill hit the middle of the next line
    next_line = (whole / "metrics.jsonl").read_bytes().splitlines()[lines]
    with (broken / "metrics.jsonl").open("ab") as file:
      file.write(next_line[:torn])
  run(broken, remaining(position), position)
  assert (broken / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_later_resume_never_goes_back(tmp_path):
  run(tmp_path, PLAN)
  before = (tmp_path / "metrics.jsonl").read_bytes()
  with metrics.Writer(tmp_path, LogConfig()) as writer:
    writer.resume({"sft": 5, "grpo": 4})
    writer.resume({"sft": 5, "grpo": 0})
    assert writer.evaluated(0, "base") and not writer.evaluated(2, "grpo")
  assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_truncate_cuts_garbage_and_what_follows(tmp_path):
  path = tmp_path / "metrics.jsonl"
  good = b'{"phase": "sft", "step": 1}\n'
  path.write_bytes(good + b"\x00\x00{half\n" + good)
  assert metrics.truncate(path, {"sft": 9, "grpo": 9}) == 1
  assert path.read_bytes() == good
  assert metrics.truncate(tmp_path / "absent", {"sft": 1, "grpo": 0}) == 0


def test_lines_survive_kill_9(tmp_path):
  code = (
    "import sys; from gtalign_jax.train.metrics import Writer; from gtalign_jax.sections import LogConfig\n"
    "w = Writer(sys.argv[1], LogConfig())\n"
    "for k in range(1, 10**9): w.write('sft', k, {'loss': 1.0 / k})"
  )
  child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
  path = tmp_path / "metrics.jsonl"
  deadline = time.monotonic() + 60
  while not (path.exists() and path.stat().st_size > 2000) and time.monotonic() < deadline:
    time.sleep(0.02)
  os.kill(child.pid, signal.SIGKILL)
  child.wait()
  rows = metrics.read(path)
  assert len(rows) > 10
  assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))


def test_samples_are_whole_and_capped(tmp_path):
  with metrics.Writer(tmp_path, LogConfig(samples=2)) as writer:
    writer.samples(3, [{"completion": "é \ud800"}, {"completion": "b"}, {"completion": "c"}])
  path = tmp_path / "samples" / "step_000003.jsonl"
  rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
  assert [row["completion"] for row in rows] == ["é \ud800", "b"]
  assert os.listdir(path.parent) == [path.name]


def test_other_processes_write_nothing(tmp_path):
  with metrics.Writer(tmp_path / "w", LogConfig(tensorboard=True), main=False) as writer:
    writer.resume({"sft": 0, "grpo": 0})
    writer.write("sft", 1, {"loss": 1.0})
    writer.samples(1, [{"completion": "x"}])
  assert not (tmp_path / "w").exists()


def test_one_readable_line_a_step(tmp_path, caplog):
  caplog.set_level(logging.INFO)
  run(tmp_path, [("grpo", 12, {"reward": 0.4321, "completions/mean_length": 228.4, "kl": None})])
  assert caplog.messages == ["grpo   12  reward 0.432  length 228"]


def test_tensorboard_holds_the_numbers(tmp_path):
  with metrics.Writer(tmp_path, LogConfig(tensorboard=True)) as writer:
    writer.resume({"sft": 0, "grpo": 0})
    writer.write("grpo", 1, {"reward": 0.5, "kl": float("nan")})
  (events,) = (tmp_path / "tensorboard" / "grpo").iterdir()
  assert b"reward" in events.read_bytes()
  assert b"kl" not in events.read_bytes()


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)  # import raises ImportError
  with pytest.raises(BadInput, match=r"log\.wandb='p'.*gtalign-jax\[wandb\]"):
    metrics.Writer(tmp_path, LogConfig(wandb="p"))


def test_a_full_disk_is_one_clear_failure(tmp_path):
  (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
  writer = metrics.Writer(tmp_path, LogConfig())
  with pytest.raises(RunFailure, match="No space left"):
    writer.write("sft", 1, {"loss": 1.0})


def test_progress_without_a_terminal_is_plain_lines(caplog):
  caplog.set_level(logging.INFO)
  with progress.progress("evaluation", seconds=1e9) as advance:
    advance(4, 8)
    advance(8, 8)
  assert caplog.messages == ["evaluation 8/8"]
