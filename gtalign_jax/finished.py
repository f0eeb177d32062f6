"""Whose a finished file is: results that cost hours are replaced only where that is asked for.

Beside `OUT.jsonl` lies `OUT.jsonl.job`: what the file was made of, and a digest of what it holds.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from gtalign_jax import files
from gtalign_jax.errors import BadInput


def check_free(out: str | Path, overwrite: bool) -> None:
  """Raises BadInput where `out` is there and says of no job; before the model is loaded."""
  if not overwrite and _holds_something(out) and not _note(out).is_file():
    raise _other(out)


def is_done(out: str | Path, job: str, overwrite: bool) -> bool:
  """Whether `out` is what `job` has written. Raises BadInput where another job or hand has."""
  if overwrite or not _holds_something(out):
    return False
  with contextlib.suppress(OSError):
    if _note(out).read_text(encoding="utf-8", errors="replace") == _text(out, job):
      return True
  raise _other(out)


def sign(out: str | Path, job: str) -> None:
  """Notes that `out` is the finished result of `job`."""
  files.replace(_note(out), _text(out, job))


def _holds_something(out: str | Path) -> bool:
  path = Path(out)
  return path.exists() and path.stat().st_size > 0  # mktemp makes empty files


def _note(out: str | Path) -> Path:
  return Path(f"{out}.job")


def _text(out: str | Path, job: str) -> str:
  with open(out, "rb") as file:  # the digest: a file that was edited since is no result of the job
    return f"{job}\n{hashlib.file_digest(file, 'sha256').hexdigest()}\n"


def _other(out: str | Path) -> BadInput:
  return BadInput(
    f"{out} is there already, and is not what this command has written; name another file, or "
    "replace it with --overwrite"
  )
