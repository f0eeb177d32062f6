"""Answers on disk (SQLite), keyed by who was asked and what; threads may share it.

A cache saves money; it is not worth a run. Once opened it raises nothing: trouble (locked, full,
damaged, read-only) is logged once, and answers are asked for again.
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
from typing import Generic, TypeVar

from gtalign_jax.endpoint_sections import AnswererConfig
from gtalign_jax.errors import BadInput

log = logging.getLogger(__name__)
T = TypeVar("T")
Answer = TypeVar("Answer", float, str)
COLUMNS = {"verdicts": "verdict REAL", "replies": "reply TEXT"}  # table -> what it holds by key
VARIABLES = 500  # of one query; older builds of SQLite take 999
LOCKED_S = 1.0  # wait for another process; then answers are kept in memory until the next batch


class Cache(Generic[Answer]):
  """Answer by key. Readable answers only are stored, so a failure is asked again.

  The file is made by the first answer: a start that fails leaves nothing behind. Raises
  BadInput where `path` is something that is no cache, or cannot lie where it is to lie.
  """

  def __init__(self, path: str | Path, owner: type[AnswererConfig]):
    self._path, self._owner, self._table = Path(path), owner.SECTION, owner.ANSWERS
    self._lock = threading.Lock()
    self._open: sqlite3.Connection | None = None
    self._waiting: dict[str, Answer] = {}  # answers that are not on disk yet
    self._resting = self._reported = False
    above = next(each for each in self._path.absolute().parents if each.exists())
    if self._path.is_dir() or not above.is_dir():
      raise self._not_a_cache("a folder" if self._path.is_dir() else f"{above} is no folder")
    if self._path.exists():
      with self._lock:
        self._try(lambda: self._file().execute(f"SELECT * FROM {self._table} LIMIT 1"), True)

  def _not_a_cache(self, why: object) -> BadInput:
    return BadInput(
      f"{self._owner}.cache={str(self._path)!r} cannot be used ({why}); remove the file or name "
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
        if tables and self._table not in tables:
          raise self._not_a_cache("a database of something else")
        if not tables:
          file.execute("PRAGMA journal_mode=WAL")  # a kill at any moment leaves it readable
          columns = f"(key TEXT PRIMARY KEY, {COLUMNS[self._table]})"
          file.execute(f"CREATE TABLE IF NOT EXISTS {self._table} {columns}")
        # no sync for each answer; a power cut may lose the last ones, which are asked again
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
          "%s: the cache %s is left out while it cannot be used (%s); %s are asked for again",
          self._owner.rpartition(".")[2], self._path, error, self._table,
        )  # fmt: skip
    return None

  def get(self, keys: Sequence[str]) -> dict[str, Answer]:
    """The answers that are known. A new batch: a file that could not be used is tried again."""
    with self._lock:
      self._resting = False
      found = {key: self._waiting[key] for key in keys if key in self._waiting}
      if self._open is None and not self._path.exists():
        return found  # whoever gives no answer leaves no file behind
      for first in range(0, len(keys), VARIABLES):
        rows = self._try(functools.partial(self._rows, keys[first : first + VARIABLES]))
        if rows is None:
          break
        found |= dict(rows)
    return found

  def _rows(self, keys: Sequence[str]) -> list[tuple[str, Answer]]:
    marks = ",".join("?" * len(keys))
    query = f"SELECT * FROM {self._table} WHERE key IN ({marks})"
    return self._file().execute(query, keys).fetchall()

  def put(self, key: str, answer: Answer) -> None:
    """Keeps an answer at once, so that a killed batch loses nothing that was paid for."""
    with self._lock:
      self._waiting[key] = answer
      if not self._resting:
        self._flush()

  def _flush(self) -> None:
    rows = list(self._waiting.items())
    query = f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)"

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


def key(model: str, task: str, prompt: str) -> str:
  """Key of an answer; `model` says which one asked how, `prompt` holds all that it is asked."""
  text = json.dumps([model, task, prompt])  # ASCII: lone surrogates survive
  return hashlib.sha256(text.encode()).hexdigest()
