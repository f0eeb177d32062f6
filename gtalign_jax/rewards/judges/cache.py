"""Verdicts on disk: SQLite, keyed by judge, prompt and completion; shared by threads and processes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from gtalign_jax.errors import BadInput


class Cache:
  """Verdict by key. Readable verdicts only are stored, so a failure is asked again."""

  def __init__(self, path: str | Path):
    self._path = path
    self._lock = threading.Lock()
    try:
      Path(path).parent.mkdir(parents=True, exist_ok=True)
      self._file = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
      self._file.execute("PRAGMA journal_mode=WAL")  # a kill at any moment leaves it readable
      self._file.execute("PRAGMA synchronous=NORMAL")
      self._file.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict REAL)")
    except (sqlite3.Error, OSError) as error:
      raise BadInput(f"rewards.judge.cache={str(path)!r} cannot be used ({error})") from None

  def get(self, keys: Sequence[str]) -> dict[str, float]:
    """The verdicts that are known."""
    found: dict[str, float] = {}
    with self._lock:
      for first in range(0, len(keys), 500):  # SQLite limits the variables of a query
        part = keys[first : first + 500]
        marks = ",".join("?" * len(part))
        query = f"SELECT key, verdict FROM verdicts WHERE key IN ({marks})"
        found |= dict(self._file.execute(query, part).fetchall())
    return found

  def put(self, key: str, verdict: float) -> None:
    """Keeps a verdict at once, so that a killed batch loses nothing that was paid for."""
    with self._lock:
      self._file.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (key, verdict))

  def close(self) -> None:
    with self._lock:
      self._file.close()


def key(judge: str, task: str, prompt: str) -> str:
  """Key of a verdict; `judge` says which model at which endpoint, `prompt` holds the completion."""
  text = json.dumps([judge, task, prompt])  # ASCII: lone surrogates survive
  return hashlib.sha256(text.encode()).hexdigest()
