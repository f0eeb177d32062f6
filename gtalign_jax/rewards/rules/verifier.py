"""math-verify in a process of its own: a comparison that never ends is killed.

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
from typing import IO, NamedTuple

DEADLINE_S = 5.0  # one comparison; most take milliseconds
START_S = 60.0  # loading sympy on a busy machine

_CHILD = r"""
import json, logging, sys
logging.disable(logging.CRITICAL)
try:
  import resource
  # 4 GiB: beyond it the comparison fails, and not the machine
  resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
except (ImportError, ValueError, OSError):
  pass
from math_verify import parse, verify
sys.stdout.write("ready\n"); sys.stdout.flush()
for line in sys.stdin:
  truth, found = json.loads(line)
  try:
    read = [
      parse("$" + each + "$", parsing_timeout=None, raise_on_error=False) for each in (truth, found)
    ]
    same = verify(*read, timeout_seconds=None, raise_on_error=False)
  except Exception:
    same = False
  sys.stdout.write(json.dumps(bool(same)) + "\n"); sys.stdout.flush()
"""


class _Child(NamedTuple):
  process: subprocess.Popen[bytes]
  questions: IO[bytes]
  answers: IO[bytes]


class Verifier:
  """One child process, asked by one thread at a time."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._child: _Child | None = None

  def equal(self, truth: str, found: str) -> bool | None:
    """math-verify's verdict on two LaTeX answers; None if it took too long or broke."""
    with self._lock:
      try:
        child = self._child or self._start()
        child.questions.write(json.dumps([truth, found]).encode() + b"\n")
        child.questions.flush()
        return json.loads(self._line(child, DEADLINE_S))
      except (OSError, ValueError, TimeoutError):
        self._stop()  # its late answer would be taken for that of the next question
        return None

  def close(self) -> None:
    """Ends the child; the next comparison starts another."""
    with self._lock:
      self._stop()

  def _start(self) -> _Child:
    process = subprocess.Popen(
      [sys.executable, "-c", _CHILD],
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
      child.process.kill()
      for pipe in (child.questions, child.answers):
        with contextlib.suppress(OSError):
          pipe.close()
      child.process.wait()


_shared = Verifier()
equal = _shared.equal
atexit.register(_shared.close)
