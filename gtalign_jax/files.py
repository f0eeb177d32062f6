"""Files that appear whole or not at all: every result of the package is written through here.

`check_output` and `check_folder` ask, before any work, whether a result can be written at all.
"""

import contextlib
import errno
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from gtalign_jax.errors import BadInput, RunFailure

log = logging.getLogger(__name__)
TEMPORARY = ".*.tmp"  # what a kill in the middle of `replacing` leaves behind
# names of what this process has open; resolved, they lead to the file behind and not to the stream
_STREAMS = ("/dev/std", "/dev/fd/", "/proc/")
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # nothing that the user typed
PROBE_BYTES = 4096  # on a full disk a file can often still be made, and not be filled


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[IO[str]]:
  """A text file to write to that takes the place of `path` when the block ends without an error.

  Readers, and a start that follows a kill, see the old file or the new one, never a part. A link
  stays, and what it names is replaced. Raises OSError where the place cannot be written, a missing
  folder included; the old file then stays.
  """
  path = Path(os.path.realpath(path))
  # the same folder, because a rename is atomic within one file system only
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
  try:
    # completions can hold lone surrogates: they become \udxxx, which JSON reads back
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
      yield file
    follow_umask(temporary)
    try:
      os.replace(temporary, path)
    except OSError as error:
      if error.errno != errno.EBUSY:
        raise
      # a file that is mounted by itself (docker run -v file:file) can be filled, not replaced
      shutil.copyfile(temporary, path)
      os.unlink(temporary)
  except BaseException:
    with contextlib.suppress(OSError):  # the folder is gone: what went wrong first is what counts
      os.unlink(temporary)
    raise


def named(name: str | Path) -> Path:
  """The path that a user means: as written where that is there, else with `~` expanded."""
  path = Path(name)
  if not os.path.exists(path):  # not path.exists(), which raises at a name that is too long
    with contextlib.suppress(RuntimeError):  # ~name, and nobody is called so: a file's own name
      return path.expanduser()
  return path


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
  """Turns a disk that refuses `path` into one line: a run stops there, and can go on later."""
  try:
    yield
  except OSError as error:
    what = f"cannot write {path}: {error.strerror}"
    raise RunFailure(f"{what}; mend it and run the same command again") from error


def replace(path: str | Path, text: str) -> None:
  """Writes `text` as the whole of `path`, atomically (see `replacing`); makes its folder."""
  # not the folder's parents: a work directory that vanishes under a run must not come back empty
  Path(path).parent.mkdir(exist_ok=True)
  with replacing(path) as file:
    file.write(text)


def set_aside(path: Path, why: str, instead: str) -> None:
  """Renames something damaged to `<name>.damaged` (`.damaged.2`, …) and says so in one line.

  instead: what now happens.
  """
  new, number = path.with_name(f"{path.name}.damaged"), 2
  while os.path.lexists(new):
    new, number = path.with_name(f"{path.name}.damaged.{number}"), number + 1
  path.rename(new)  # not deleted: whoever knows better than us may still read it
  why = why.removeprefix(str(path)).lstrip(": ")  # errors of files name them first
  log.warning("%s is damaged (%s), now %s; %s", path, why, new.name, instead)


def clean(folder: Path, pattern: str = TEMPORARY) -> None:
  """Removes what kills left half-written in a folder that nobody else writes to."""
  for each in folder.glob(pattern):
    remove(each)


def remove(path: Path) -> None:
  """Removes a file, or a folder with all that is in it; of a link only the link."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)


def is_stream(path: str | Path) -> bool:
  """Whether `path` is a pipe or a device, or a name of one such as /dev/stdout."""
  # it is then written to as it stands: there is nothing to replace, and /dev/stdout is a link that
  # must not become a file
  named = os.path.abspath(path).startswith(_STREAMS)
  return named or (os.path.exists(path) and not os.path.isfile(path))


def is_stdout(path: str | Path) -> bool:
  """Whether `path` is a name of this process's standard output."""
  try:
    return is_stream(path) and os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
  except (OSError, ValueError, AttributeError):  # no such path; no stdout, or none with a number
    return False


@contextlib.contextmanager
def stream(path: str | Path) -> Iterator[IO[str]]:
  """A stream (see `is_stream`) to write text to."""
  if is_stdout(path):  # opened again it would have a position of its own, and lines would collide
    yield sys.stdout
    return
  with open(path, "w", encoding="utf-8") as file:
    yield file


def check_output(
  path: str | Path, inputs: Sequence[str | Path] = (), streams: bool = True, name: str = "OUT.jsonl"
) -> None:
  """Raises BadInput (RunFailure: full disk) where no result can be written to `path`.

  inputs: files that are read, none of which may be `path`. streams: whether a pipe or device will
  do. name: what the command calls the argument.
  """
  where = _local(path, name)
  if str(path) == "-":  # elsewhere a name of stdout
    raise BadInput(f"{where}: name a file, or /dev/stdout")
  try:
    kind = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG
    if stat.S_ISDIR(kind):
      raise BadInput(f"{where}: cannot be written (it is a folder; name a file in it)")
    if stat.S_ISBLK(kind) or stat.S_ISSOCK(kind):
      raise BadInput(f"{where}: cannot be written (it is a disk or a socket; name a file)")
    for each in inputs:
      if os.path.exists(each) and os.path.exists(path) and os.path.samefile(each, path):
        raise BadInput(f"{where} is read as well ({each}), and would be lost; name another file")
    if not is_stream(path):
      target = os.path.realpath(path)
      _probe(os.path.dirname(target), f".{os.path.basename(target)}.")
    elif not streams:
      raise BadInput(f"{where} is a pipe or device; name a file, for parts are kept beside it")
  except (OSError, ValueError) as error:  # ValueError: a path that holds a null character
    raise unwritable(where, error) from None


def check_folder(path: str | Path, name: str, empty: bool = False) -> None:
  """Raises BadInput where no files can be written into the folder `path`, which need not be there.

  empty: whether it must hold none yet. name: what the command calls the argument. Leaves nothing.
  """
  where = _local(path, name)
  try:
    target = Path(os.path.realpath(path))
    if os.path.lexists(path) and not target.exists():  # mkdir makes no folder there
      raise BadInput(f"{where} is a link to {target}, which is not there; make that folder first")
    if empty and target.is_dir() and any(target.iterdir()):
      raise BadInput(f"{where} exists and is not empty; name a new folder")
    there = next(each for each in (target, *target.parents) if os.path.lexists(each))
    if not there.is_dir():
      raise BadInput(f"{where} cannot be a folder: {there} is no folder; name another")
    _probe(str(there), ".")
  except (OSError, ValueError) as error:
    raise unwritable(where, error) from None


def _local(path: str | Path, name: str) -> str:
  """How errors name `path`. Raises BadInput where it is no path of this machine."""
  if not str(path):
    raise BadInput(f"{name} is empty; name a place on this machine")
  if "://" in str(path):  # Path() would take it for a relative folder
    fix = "mount the bucket (gcsfuse, s3fs) and name the folder"
    raise BadInput(f"{name} {str(path)!r} is no local path; {fix}")
  return f"{name} {str(path)!r}"


def _probe(folder: str, prefix: str) -> None:
  """Writes a page into `folder` and removes it: permissions alone tell root nothing."""
  with tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, buffering=0) as file:
    file.write(bytes(PROBE_BYTES))


def unwritable(where: str | Path, error: Exception) -> BadInput | RunFailure:
  """What to raise where `where` cannot be written: RunFailure on a full or failing disk."""
  number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
  if number == errno.ENOENT:
    reason = "there is no such folder; make it first"
  kind = RunFailure if number in DISK_FAULTS else BadInput
  return kind(f"{where}: cannot be written ({reason})")


def follow_umask(path: str | Path) -> None:
  """Gives a file the mode that `open` would: mkstemp and others let only their owner read."""
  mask = os.umask(0)
  os.umask(mask)
  os.chmod(path, 0o666 & ~mask)
