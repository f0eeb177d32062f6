"""The lock of a work directory: one run at a time, freed by the system whatever ends its holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gtalign_jax import files
from gtalign_jax.errors import BadInput

log = logging.getLogger(__name__)
# what a file system without locks answers (some network mounts)
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# what flock answers where another holds the lock: NFS makes it a lock of the POSIX kind (EACCES)
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Holder(NamedTuple):
  """Who has signed a lock. is_alive: None where that cannot be seen from this host."""

  pid: Any
  host: Any
  since: Any
  is_alive: bool | None


def holder(workdir: Path) -> Holder | None:
  """Who holds a work directory, or held it and ended without a word; None where nobody does.

  Only reads: to try the lock, even for a moment, could make a start of the run fail.
  """
  try:
    handle = os.open(workdir / "lock", os.O_RDONLY)
  except OSError:
    return None
  try:
    said = _holder(handle)
  finally:
    os.close(handle)
  here = said.get("host") == socket.gethostname()
  alive = _is_alive(said) or said.get("pid") == os.getpid() if here else None
  return Holder(said.get("pid"), said.get("host"), said.get("since"), alive)


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
  """Holds `<workdir>/lock`, making the folder where it is missing, until the block ends.

  Folders that were made go again, with all that is in them, if no run has begun (no config.json).
  Raises BadInput where another process holds the lock, naming it, or where the folder cannot be
  written.
  """
  made = [each for each in (workdir, *workdir.parents) if not each.exists()]
  try:
    handle = _take(workdir)
  except OSError as error:
    _remove(made)
    raise BadInput(
      f"workdir={workdir} cannot be written: {error.strerror}; choose another"
    ) from error
  try:
    yield
  finally:
    begun = (workdir / "config.json").exists()
    # All of this under the lock, and the name goes before the lock does: whoever waits for the old
    # file then sees that it has no name any more, and nobody's new file is removed.
    if made and not begun:
      for each in workdir.iterdir():
        if each.name != "lock":
          files.remove(each)
    (workdir / "lock").unlink(missing_ok=True)
    if not begun:
      _remove(made)
    os.close(handle)


def _remove(folders: Iterable[Path]) -> None:
  for folder in folders:
    with contextlib.suppress(OSError):  # not empty: somebody else has put something there
      folder.rmdir()


def _take(workdir: Path) -> int:
  """The open, locked file, which says who holds it. Raises BadInput where another process does."""
  path = workdir / "lock"
  while True:
    workdir.mkdir(parents=True, exist_ok=True)  # a holder that has just failed takes it along
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      _lock(handle, path)
      if _is_at(handle, path):  # not one that its holder has removed since we opened it
        _sign(handle, path)
        return handle
    except BaseException:
      os.close(handle)
      raise
    os.close(handle)


def _lock(handle: int, path: Path) -> None:
  try:
    # flock, not a file with a pid: it goes with the process, after kill -9 too
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    holder = _holder(handle)
    if error.errno in HELD or (error.errno in WITHOUT_LOCKS and _is_alive(holder)):
      who = f"process {holder.get('pid')} on {holder.get('host')}" if holder else "another process"
      raise BadInput(
        f"workdir={path.parent} is in use by {who}; it runs since {holder.get('since', 'now')}: "
        "wait for it, stop it, or choose another workdir="
      ) from None
    if error.errno not in WITHOUT_LOCKS:
      raise
    log.warning("%s: no locks on this file system; start one run at a time", path)


def _is_alive(holder: dict[str, Any]) -> bool:
  """Whether the holder is another process of this host that still runs."""
  pid = holder.get("pid")
  if holder.get("host") == socket.gethostname() and isinstance(pid, int) and pid != os.getpid():
    with contextlib.suppress(ProcessLookupError, OverflowError):
      with contextlib.suppress(PermissionError):  # somebody else's process
        os.kill(pid, 0)
      return True
  return False


def _is_at(handle: int, path: Path) -> bool:
  with contextlib.suppress(FileNotFoundError):
    return os.path.samestat(os.fstat(handle), os.stat(path))
  return False


def _sign(handle: int, path: Path) -> None:
  """Writes who holds the lock, and says whose it was where that one left without a word."""
  if before := _holder(handle):
    log.info("%s: process %s has ended; taking over", path.parent, before.get("pid"))
  os.ftruncate(handle, 0)
  since = time.strftime("%Y-%m-%d %H:%M:%S")
  mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
  os.pwrite(handle, json.dumps(mine).encode(), 0)


def _holder(handle: int) -> dict[str, Any]:
  """What the file says of its holder; {} where it says nothing (yet)."""
  try:
    found = json.loads(os.pread(handle, 4096, 0))
  except (ValueError, RecursionError):
    return {}
  return found if isinstance(found, dict) else {}
