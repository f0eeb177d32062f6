"""Files that appear whole or not at all: every result of the package is written through here."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[str]]:
  """A text file to write to that takes the place of `path` when the block ends without an error.

  Readers, and a start that follows a kill, see the old file or the new one, never a part. Raises
  OSError where the place cannot be written, a missing folder included; the old file then stays.
  """
  path = Path(path)
  # the same folder, because a rename is atomic within one file system only
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
  try:
    # completions can hold lone surrogates: they become \udxxx, which JSON reads back
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
      yield file
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise


def named(name: str | Path) -> Path:
  """The path that a user means: as written where that is there, else with `~` expanded."""
  path = Path(name)
  if not os.path.exists(path):  # not path.exists(), which raises at a name that is too long
    with contextlib.suppress(RuntimeError):  # ~name, and nobody is called so: a file's own name
      return path.expanduser()
  return path


def replace(path: str | Path, text: str) -> None:
  """Writes `text` as the whole of `path`, atomically (see `replacing`); makes missing folders."""
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as file:
    file.write(text)


def _umask() -> int:
  """The process's umask: mkstemp ignores it and would leave files that only their owner reads."""
  mask = os.umask(0)
  os.umask(mask)
  return mask
