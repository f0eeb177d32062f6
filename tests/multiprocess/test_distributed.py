"""The processes' common ground: rows to devices and back, shares, the main process, signals."""

import json
import sys
from pathlib import Path

import processes

WORKER = Path(__file__).parent / "worker.py"


def test_two_processes_agree():
  both = processes.outcome(processes.start([sys.executable, str(WORKER)], devices=2), timeout=120)
  for code, stdout, stderr in both:
    assert code == 0, stderr[-3000:]
    assert json.loads(stdout.splitlines()[-1]) == [
      "split", "mixed", "half", "everywhere", "shares", "main", "interrupted in step 2",
    ]  # fmt: skip
