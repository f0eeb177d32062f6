"""Verdicts on disk (SQLite), keyed by judge, prompt and completion; threads may share it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from gtalign_jax.errors import BadInput

VARIABLES = 500  # of one query; older builds of SQLite take 999


class Cache:
  """Verdict by key. Readable verdicts only are stored, so a failure is asked again.

  The file is made by the first use, not before: a start that fails leaves nothing behind. Raises
  BadInput where there is a file that is no cache, here, or where none can be made, at that use.
  """

  def __init__(self, path: str | Path):
    self._path = Path(path)
    self._lock = threading.Lock()
    self._open: sqlite3.Connection | None = None
    if self._path.exists():
      with self._lock:
        self._file()

  def _file(self) -> sqlite3.Connection:
    """The connection; the caller holds the lock."""
    if self._open is None:
      try:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(
          self._path, timeout=30, check_same_thread=False, isolation_level=None
        )
        file.execute("PRAGMA journal_mode=WAL")  # a kill at any moment leaves it readable
        # without a sync for each verdict; a power cut may lose the last ones, which are asked again
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict REAL)")
      except (sqlite3.Error, OSError) as error:
        raise BadInput(
          f"rewards.judge.cache={str(self._path)!r} cannot be used ({error}); remove the file or "
          "name another"
        ) from None
      self._open = file
    return self._open

  def get(self, keys: Sequence[str]) -> dict[str, float]:
    """The verdicts that are known."""
    found: dict[str, float] = {}
    with self._lock:
      for first in range(0, len(keys), VARIABLES):
        part = keys[first : first + VARIABLES]
        marks = ",".join("?" * len(part))
        query = f"SELECT key, verdict FROM verdicts WHERE key IN ({marks})"
        found |= dict(self._file().execute(query, part).fetchall())
    return found

  def put(self, key: str, verdict: float) -> None:
    """Keeps a verdict at once, so that a killed batch loses nothing that was paid for."""
    with self._lock:
      self._file().execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (key, verdict))

  def close(self) -> None:
    with self._lock:
      if self._open is not None:
        self._open.close()


def key(judge: str, task: str, prompt: str) -> str:
  """Key of a verdict; `judge` says which model at which endpoint, `prompt` holds the completion."""
  text = json.dumps([judge, task, prompt])  # ASCII: lone surrogates survive
  return hashlib.sha256(text.encode()).hexdigest()
