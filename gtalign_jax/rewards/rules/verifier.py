"""math-verify in a process of its own (referee.py): bounded in time and memory, ends with us.

math-verify's own limits use signals, which work in a main thread only, and sympy can fill the
memory. The process starts at the first comparison that needs it and answers JSON lines.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, NamedTuple

CPU_S = 0.15  # of one verdict; most take milliseconds. An answer that needs more counts as wrong
DEADLINE_S = 10.0  # waiting for a reply: a machine in trouble, which is no verdict
START_S = 120.0  # loading sympy on a busy machine


class Budget:
  """Seconds of CPU that the comparisons of one verdict share."""

  def __init__(self, seconds: float = CPU_S):
    self.left = seconds


class _Child(NamedTuple):
  process: subprocess.Popen[bytes]
  questions: IO[bytes]
  answers: IO[bytes]


class Verifier:
  """One child process, asked by one thread at a time."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._child: _Child | None = None

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
          child = self._child or self._start()
          child.questions.write(question)
          child.questions.flush()
          same, seconds = json.loads(self._line(child, DEADLINE_S))
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

  def _start(self) -> _Child:
    process = subprocess.Popen(
      # -P: the folder of the script holds no modules of ours for it
      [sys.executable, "-P", str(Path(__file__).with_name("referee.py"))],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,  # its libraries warn of what they cannot parse
    )
    assert process.stdin and process.stdout  # both are pipes
    self._child = _Child(process, process.stdin, process.stdout)
    self._line(self._child, START_S)
    return self._child

  @staticmethod
  def _line(child: _Child, seconds: float) -> bytes:
    """The next line of the child. Its answers are short: one that is readable is there in full."""
    with selectors.DefaultSelector() as selector:
      selector.register(child.answers, selectors.EVENT_READ)
      if not selector.select(seconds):
        raise TimeoutError
    # not readline: a buffered line would hide from select that an answer has come
    line = os.read(child.answers.fileno(), 4096)
    if not line:
      raise OSError("the child has ended")
    return line

  def _stop(self) -> None:
    child, self._child = self._child, None
    if child is not None:
      for pipe in (child.questions, child.answers):
        with contextlib.suppress(OSError):
          pipe.close()  # its worker ends with its input, or by its timer
      child.process.kill()
      child.process.wait()


_shared = Verifier()
equal = _shared.equal
atexit.register(_shared.close)
