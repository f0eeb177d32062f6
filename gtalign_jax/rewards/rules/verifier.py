"""math-verify in a process of its own (referee.py): bounded in time and memory, ends with us.

math-verify's own limits use signals, which work in a main thread only, and sympy can fill the
memory. The process starts at the first comparison that needs it and answers JSON lines.
"""

from __future__ import annotations

import atexit
import json
import selectors
import subprocess
import sys
import threading
from pathlib import Path

CPU_S = 0.15  # of one verdict; most take milliseconds. An answer that needs more counts as wrong
DEADLINE_S = 10.0  # waiting for a reply: a machine in trouble, which is no verdict
START_S = 120.0  # loading sympy on a busy machine


class Budget:
  """Seconds of CPU that the comparisons of one verdict share."""

  def __init__(self, seconds: float = CPU_S):
    self.left = seconds


class Verifier:
  """One child process, asked by one thread at a time."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self.process: subprocess.Popen[bytes] | None = None

  def equal(
    self, truth: str, found: str, tolerance: str = "", budget: Budget | None = None
  ) -> bool | None:
    """Do two LaTeX values mean the same? False also beyond the budget, None if the child broke.

    tolerance: largest difference of two numbers, "" for equal ones.
    """
    budget = budget or Budget()
    if budget.left <= 0:
      return False
    question = json.dumps([truth, found, tolerance, budget.left]).encode() + b"\n"
    with self._lock:
      for _ in range(2):  # a child that someone killed is replaced, and asked again
        try:
          if self.process is None or self.process.poll() is not None:
            self._start()
          same, seconds = json.loads(self._say(question, DEADLINE_S))
        except TimeoutError:
          self._stop()  # its late answer would be taken for that of the next question
          return None
        except (OSError, ValueError):
          self._stop()
        else:
          budget.left -= seconds
          return same
    return None

  def close(self) -> None:
    """Ends the child; the next comparison starts another."""
    with self._lock:
      self._stop()

  def _start(self) -> None:
    self._stop()  # the worker of a child that is gone ends with its input
    self.process = subprocess.Popen(
      # -P: the folder of the script holds no modules of ours for it
      [sys.executable, "-P", str(Path(__file__).with_name("referee.py"))],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,  # its libraries warn of what they cannot parse
      bufsize=0,  # a buffered line would hide from select that an answer has come
    )
    self._say(b"", START_S)  # "ready"

  def _say(self, question: bytes, seconds: float) -> bytes:
    """The line that answers `question`. Lines are short: one that is readable is there in full."""
    assert self.process and self.process.stdin and self.process.stdout
    self.process.stdin.write(question)
    # not select(), which takes no file numbers beyond 1,023: a run may have more open
    with selectors.DefaultSelector() as selector:
      selector.register(self.process.stdout, selectors.EVENT_READ)
      if not selector.select(seconds):
        raise TimeoutError
    line = self.process.stdout.read(4096)
    if not line:
      raise OSError("the child has ended")
    return line

  def _stop(self) -> None:
    process, self.process = self.process, None
    if process is not None:
      process.kill()
      with process:  # closes its pipes, and waits
        pass


_shared = Verifier()
equal = _shared.equal
atexit.register(_shared.close)
