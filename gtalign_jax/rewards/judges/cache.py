"""Verdicts on disk (SQLite), keyed by judge, prompt and completion; threads may share it.

A cache saves money; it is not worth a run. Once opened it raises nothing: trouble (locked, full,
damaged, read-only) is logged once, and verdicts are asked for again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from gtalign_jax.errors import BadInput

log = logging.getLogger(__name__)
T = TypeVar("T")
VARIABLES = 500  # of one query; older builds of SQLite take 999
LOCKED_S = 1.0  # wait for another process; then verdicts are kept in memory until the next batch


class Cache:
  """Verdict by key. Readable verdicts only are stored, so a failure is asked again.

  The file is made by the first verdict: a start that fails leaves nothing behind. Raises
  BadInput where `path` is something that is no cache, or cannot lie where it is to lie.
  """

  def __init__(self, path: str | Path):
    self._path = Path(path)
    self._lock = threading.Lock()
    self._open: sqlite3.Connection | None = None
    self._waiting: dict[str, float] = {}  # verdicts that are not on disk yet
    self._resting = self._reported = False
    above = next(each for each in self._path.absolute().parents if each.exists())
    if self._path.is_dir() or not above.is_dir():
      raise self._not_a_cache("a folder" if self._path.is_dir() else f"{above} is no folder")
    if self._path.exists():
      with self._lock:
        self._try(lambda: self._file().execute("SELECT key, verdict FROM verdicts LIMIT 1"), True)

  def _not_a_cache(self, why: object) -> BadInput:
    return BadInput(
      f"rewards.judge.cache={str(self._path)!r} cannot be used ({why}); remove the file or name "
      "another"
    )

  def _file(self) -> sqlite3.Connection:
    """The connection; the caller holds the lock."""
    if self._open is None:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      file = sqlite3.connect(
        self._path, timeout=LOCKED_S, check_same_thread=False, isolation_level=None
      )
      try:
        tables = [name for (name,) in file.execute("SELECT name FROM sqlite_master")]
        if tables and "verdicts" not in tables:
          raise self._not_a_cache("a database of something else")
        if not tables:
          file.execute("PRAGMA journal_mode=WAL")  # a kill at any moment leaves it readable
          file.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict REAL)")
        # no sync for each verdict; a power cut may lose the last ones, which are asked again
        file.execute("PRAGMA synchronous=NORMAL")
      except BaseException:
        file.close()
        raise
      self._open = file
    return self._open

  def _try(self, work: Callable[[], T], at_start: bool = False) -> T | None:
    """`work()`, or None where the file cannot be used at the moment; the caller holds the lock."""
    try:
      return work()
    except (sqlite3.Error, OSError, BadInput) as error:
      if at_start and isinstance(error, BadInput):
        raise
      if at_start and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
        raise self._not_a_cache(error) from None
      self._resting = True
      if not self._reported:
        self._reported = True
        log.warning(
          "judge: the cache %s is left out while it cannot be used (%s); verdicts are asked for "
          "again", self._path, error,
        )  # fmt: skip
    return None

  def get(self, keys: Sequence[str]) -> dict[str, float]:
    """The verdicts that are known. A new batch: a file that could not be used is tried again."""
    with self._lock:
      self._resting = False
      found = {key: self._waiting[key] for key in keys if key in self._waiting}
      if self._open is None and not self._path.exists():
        return found  # a judge that gives no verdict leaves no file behind
      for first in range(0, len(keys), VARIABLES):
        rows = self._try(functools.partial(self._rows, keys[first : first + VARIABLES]))
        if rows is None:
          break
        found |= dict(rows)
    return found

  def _rows(self, keys: Sequence[str]) -> list[tuple[str, float]]:
    marks = ",".join("?" * len(keys))
    query = f"SELECT key, verdict FROM verdicts WHERE key IN ({marks})"
    return self._file().execute(query, keys).fetchall()

  def put(self, key: str, verdict: float) -> None:
    """Keeps a verdict at once, so that a killed batch loses nothing that was paid for."""
    with self._lock:
      self._waiting[key] = verdict
      if not self._resting:
        self._flush()

  def _flush(self) -> None:
    rows, query = list(self._waiting.items()), "INSERT OR REPLACE INTO verdicts VALUES (?, ?)"

    def write() -> None:
      file = self._file()
      file.execute("BEGIN IMMEDIATE")
      try:
        file.executemany(query, rows)
        file.execute("COMMIT")
      except BaseException:
        if file.in_transaction:  # a full disk has ended it already
          file.execute("ROLLBACK")
        raise
      self._waiting.clear()

    self._try(write)

  def close(self) -> None:
    """Writes what is not on disk yet, if that can be done."""
    with self._lock:
      if self._waiting:
        self._flush()
      if self._open is not None:
        self._try(self._open.close)


def key(judge: str, task: str, prompt: str) -> str:
  """Key of a verdict; `judge` says which model asked how, `prompt` holds the completion."""
  text = json.dumps([judge, task, prompt])  # ASCII: lone surrogates survive
  return hashlib.sha256(text.encode()).hexdigest()
