"""The processes' common ground: rows to devices and back, shares, the main process, signals."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
from real_runs import environment

WORKER = Path(__file__).parent / "worker.py"


def test_two_processes_agree():
  both = processes.outcome(processes.start([sys.executable, str(WORKER)], devices=2), timeout=120)
  for code, stdout, stderr in both:
    assert code == 0, stderr[-3000:]
    assert json.loads(stdout.splitlines()[-1]) == [
      "split", "mixed", "half", "everywhere", "shares", "main", "interrupted in step 2",
    ]  # fmt: skip


WAITS = """
import time
from gtalign_jax.parallel import distributed
distributed.initialize()
print("joined", flush=True)
with distributed.blaming():
  while True:  # as a run does
    distributed.everywhere(True)
    time.sleep(0.1)
"""


def test_a_dead_process_is_named_by_the_others():
  waiting = processes.start([sys.executable, "-c", WAITS], GTALIGN_PEER_SECONDS="4")
  assert [each.stdout.readline() for each in waiting] == ["joined\n"] * 2
  time.sleep(2)  # so that each has been heard of
  waiting[1].kill()
  (code, _, stderr), _ = processes.outcome(waiting, timeout=40)
  assert code == 1 and "Check failure stack trace" not in stderr
  line = stderr.strip().splitlines()[-1]
  assert line.startswith(f"gtalign: process 1 of 2 (process {waiting[1].pid} on ")
  assert "has not been heard of for 4 s" in line


def test_a_process_that_never_starts_ends_the_wait():
  (alone, other) = processes.start([sys.executable, "-c", WAITS], GTALIGN_JOIN_SECONDS="3")
  other.kill()
  (code, _, stderr), _ = processes.outcome([alone, other], timeout=60)
  line = stderr.strip().splitlines()[-1]
  assert code == 1 and line.startswith("gtalign: process 0 of 2 on ")
  assert "has waited 3 s for the others (GTALIGN_JOIN_SECONDS)" in line


LEAVES = """
from gtalign_jax.parallel import distributed, peers
peers.BEAT_S = 0.0  # so that the thread is inside jax's client whenever the process ends
distributed.initialize()
"""


def test_processes_leave_together_without_an_abort():
  for code, _, stderr in processes.outcome(processes.start([sys.executable, "-c", LEAVES])):
    assert (code, stderr) == (0, "")


SAVES = """
import time
from gtalign_jax.parallel import distributed
with distributed.Interrupts():
  with distributed.uninterrupted():
    print("saving", flush=True)
    for _ in range(40):
      time.sleep(0.1)
    print("saved", flush=True)
  print("not reached", flush=True)
"""


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_waits_for_the_end_of_a_save_and_a_second_one_does_not(signals):
  saving = subprocess.Popen(
    [sys.executable, "-c", SAVES],
    env=environment(1),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert saving.stdout.readline() == "saving\n"
  saving.send_signal(signal.SIGTERM)
  saving.send_signal(signal.SIGINT)  # of the same moment: launchers tell groups and pass on
  if signals == 2:
    time.sleep(1.5)
    saving.send_signal(signal.SIGTERM)
  stdout, stderr = saving.communicate(timeout=60)
  if signals == 1:
    assert stdout == "saved\n" and stderr.strip().endswith("KeyboardInterrupt")
  else:
    assert saving.returncode == 130 and stdout == ""
    assert stderr == "gtalign: interrupted twice; run the same command again to resume\n"
