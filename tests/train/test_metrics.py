import contextlib
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax import progress
from gtalign_jax.config import Config, override
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.sections import LogConfig
from gtalign_jax.train import log as step_log
from gtalign_jax.train import metrics, services

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


LONG = {
  "W": 0.4321, "reward": 0.5, "rewards/user/mean": 0.5, "rewards/llm/mean": 0.4,
  "chain/parse_rate": 0.95, "completions/mean_length": 1024.4, "kl": 0.01, "entropy": 1.0,
  "loss": -12.3456, "grad_norm": 123.456, "lr": 1e-6, "step_time": 123.4,
}  # fmt: skip


@pytest.mark.parametrize(
  "phase, step, values, of, left, line",
  [
    ("grpo", 2, {"W": 0.4321, "completions/mean_length": 228.4, "kl": None}, 3, "",
     "grpo 2/3  W 0.432  len 228"),
    ("grpo", 1200, LONG, 2000, "10 h 05 min left",
     "grpo 1200/2000  W 0.432  U 0.500  L 0.400  parse 0.95  len 1024  123 s, 10 h 05 min left"),
    ("sft", 3, LONG, 44, "5 min 36 s left",
     "sft 3/44  loss -12.3456  grad 123.456  lr 1.0e-06  123 s, 5 min 36 s left"),
    ("sft", 3, {"loss": float("nan"), "grad_norm": float("inf"), "step_time": 2.0}, 44, "",
     "sft 3/44  update skipped: gradient not finite  2 s"),
    ("grpo", 1200, LONG | {"skipped": 1}, 2000, "10 h 05 min left",
     "grpo 1200/2000  W 0.432  update skipped: gradient not finite  123 s, 10 h 05 min left"),
    ("eval", 4, LONG | {"policy": "grpo", "step_time": None}, 0, "",
     "eval grpo at 4  W 0.432  U 0.500  L 0.400  parse 0.95  len 1024"),
  ],
)  # fmt: skip
def test_one_readable_line_a_step(tmp_path, caplog, phase, step, values, of, left, line):
  caplog.set_level(logging.INFO)
  with metrics.Writer(tmp_path, LogConfig()) as writer:
    writer.resume({"sft": 0, "grpo": 0})
    writer.write(phase, step, values, of, left)
  assert caplog.messages == [line]
  assert len(f"12:34:56 {line}") <= 100


def test_an_evaluation_says_in_a_second_line_whether_the_matrix_decides(tmp_path, caplog):
  names = ("follow", "carry", "hold", "payoff_icc", "type_accuracy", "sums_right")
  values = {f"game/{name}": 0.987 for name in names} | {"game/payoff_icc": -0.02}
  values |= {"game/calibration_error/user": 0.1, "game/calibration_error/llm": 0.14}
  caplog.set_level(logging.INFO)
  with metrics.Writer(tmp_path, LogConfig()) as writer:
    writer.resume({"sft": 0, "grpo": 0})
    writer.write("eval", 4, {"policy": "grpo", "W": 0.4} | values)
    writer.write("eval", 5, {"policy": "grpo", "game/follow": float("nan")})
  line = "matrix  follow 0.99  carry 0.99  hold 0.99  icc -0.02  type 0.99  sums 0.99  calib 0.12"
  assert caplog.messages == ["eval grpo at 4  W 0.400", line, "eval grpo at 5"]
  assert len(f"12:34:56 {line}") <= 100


def test_tensorboard_holds_the_numbers_of_each_policy_apart(tmp_path):
  with metrics.Writer(tmp_path, LogConfig(tensorboard=True)) as writer:
    writer.resume({"sft": 0, "grpo": 0})
    writer.write("grpo", 1, {"reward": 0.5, "kl": float("nan")})
    for policy in ("base", "sft"):  # both at step 0, under the same tags
      writer.write("eval", 0, {"policy": policy, "W": 0.5})
  (events,) = (tmp_path / "tensorboard" / "grpo").iterdir()
  assert b"reward" in events.read_bytes()
  assert b"kl" not in events.read_bytes()
  folders = {path.name for path in (tmp_path / "tensorboard").iterdir()}
  assert folders == {"grpo", "eval_base", "eval_sft"}


def test_wandb_gets_the_config_without_the_way_to_the_judge(tmp_path, monkeypatch):
  seen = {}

  class Run:
    def define_metric(self, *names, **options):
      pass

    def log(self, row):
      seen.setdefault("rows", []).append(row)

    def finish(self):
      pass

  def init(**options):
    seen.update(options)
    return Run()

  monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
  judge = ["rewards.judge.kind=http", "rewards.judge.model=m"]
  config = override(Config(), [*judge, "rewards.judge.base_url=http://secret.example/v1"])
  settings = services.public(config)
  with metrics.Writer(tmp_path, LogConfig(wandb="p"), settings=settings) as writer:
    writer.resume({"sft": 0, "grpo": 0})
    writer.write("eval", 0, {"policy": "base", "W": 0.5})
  assert seen["config"]["optim.lr"] == 1e-6 and seen["config"]["rewards.judge.model"] == "m"
  assert "secret" not in str(seen["config"])
  assert seen["rows"] == [{"eval_base/W": 0.5, "eval_base/step": 0}]


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)  # import raises ImportError
  with pytest.raises(BadInput, match=r"log\.wandb='p'.*gtalign-jax\[wandb\]"):
    metrics.Writer(tmp_path, LogConfig(wandb="p"))


def test_a_full_disk_is_one_clear_failure(tmp_path):
  (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
  writer = metrics.Writer(tmp_path, LogConfig())
  with pytest.raises(RunFailure, match="No space left"):
    writer.write("sft", 1, {"loss": 1.0})


def test_work_without_a_terminal_is_never_silent_for_long(caplog):
  """A thread writes the lines: whoever waits for a device or a judge cannot."""
  caplog.set_level(logging.INFO)
  with progress.progress("grpo", seconds=0.05, first=2) as shown:
    shown(3, 8)
    shown.doing = "rollout 1/4"
    time.sleep(0.18)
    with progress.progress("eval grpo") as advance:
      advance(4, 16)
      time.sleep(0.12)
  outer = [each for each in caplog.messages if each.startswith("grpo")]
  inner = [each for each in caplog.messages if each.startswith("eval grpo")]
  assert 1 <= len(outer) <= 4 and 1 <= len(inner) <= 3
  assert outer[0] == "grpo 3/8, rollout 1/4, 0 s so far, 0 s left"
  assert caplog.messages == outer + inner
  before = len(caplog.messages)
  with progress.progress("sft", seconds=0.05) as shown:
    shown.told = True  # lines of its steps are enough, as long as they come
    for step in range(20):
      shown(step, 20)
      time.sleep(0.01)
    assert len(caplog.messages) == before
    time.sleep(0.15)
    assert len(caplog.messages) > before
  before = len(caplog.messages)
  with progress.progress("short") as advance:
    advance(1, 1)
  time.sleep(0.1)  # nothing speaks when the work is over
  assert len(caplog.messages) == before


def test_the_time_left_is_at_the_pace_of_this_start(monkeypatch):
  now = iter([0.0, *[30.0] * 20])
  monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
  shown = progress.Shown("grpo", first=10)
  assert shown.left() == ""  # ten steps of an earlier start say nothing
  shown(13, 20)
  assert shown.left() == "1 min 10 s left"
  shown(20, 20)
  assert shown.left() == ""


BARS = """
import logging, sys, time
from gtalign_jax.progress import progress
logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
logging.getLogger("gtalign_jax").setLevel(logging.INFO)
with progress("grpo") as shown:
  shown(1, 4)
  shown.doing = "rollout 3/8"
  with progress("eval grpo") as inner:
    inner(2, 4)
    time.sleep(1.2)
    logging.getLogger("gtalign_jax.x").info("a line of the log")
logging.getLogger("gtalign_jax.x").info("after the bars")
"""


def test_a_terminal_shows_bars_and_whole_log_lines():
  """A real pseudo-terminal; log lines stand above the bars, which are gone at the end."""
  ours, theirs = pty.openpty()
  done = subprocess.run([sys.executable, "-c", BARS], stderr=theirs, timeout=60)
  os.close(theirs)
  text = b""
  with contextlib.suppress(OSError):  # Linux ends a closed terminal so
    while chunk := os.read(ours, 65536):
      text += chunk
  os.close(ours)
  shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())
  assert done.returncode == 0
  assert "grpo 1/4" in shown and "rollout 3/8" in shown and "eval grpo 2/4" in shown
  for line in ("a line of the log", "after the bars"):
    assert re.search(rf"\d\d:\d\d:\d\d {line}\s*\r?\n", shown), shown


@pytest.mark.filterwarnings("error")
def test_a_step_of_several_updates_has_one_number_of_each_metric():
  nan = float("nan")
  assert step_log._of_step("loss", [1.0, 3.0]) == 2 and np.isnan(
    step_log._of_step("loss", [1, nan])
  )
  assert step_log._of_step("ratio/max", [1.5, 1.2]) == 1.5
  assert step_log._of_step("lr", np.float32([0.1, 0.001])) == 0.001
  assert step_log._of_step("block/payoff/kl", [nan, 2.0]) == 2  # of one mini-batch alone
  assert np.isnan(step_log._of_step("block/payoff/kl", [nan, nan]))
