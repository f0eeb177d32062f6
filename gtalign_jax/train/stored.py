"""What lies in a phase's folder of checkpoints: the steps, and whether one is sound.

A step counts when its commit mark is there and its files are those that were saved: `seal` writes
their sizes and digests into the step before it is committed, `fault` compares. Checkpoints of
before digests existed have none, and are judged when they are read.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import xxhash

from gtalign_jax import files, jsonl
from gtalign_jax.errors import BadInput, first_line

log = logging.getLogger(__name__)
MARK = "commit_success.txt"  # orbax writes it last, just before a step gets its name
DIGESTS = "digests.json"
ITEMS = ("state", "progress")  # the folders of a step
TEMPORARY = "*.orbax-checkpoint-tmp*"  # steps that a kill left half-written


def steps(directory: Path) -> list[int]:
  """The numbers that things in `directory` are named after, newest first; sound or not."""
  names = (each.name for each in Path(directory).glob("[1-9]*"))
  return sorted((int(name) for name in names if name.isascii() and name.isdecimal()), reverse=True)


def seal(step: Path) -> None:
  """Writes size and digest of every file of a step that is complete but not committed yet."""
  with concurrent.futures.ThreadPoolExecutor() as pool:  # xxhash lets go of the interpreter
    names = [each.relative_to(step).as_posix() for each in _files(step)]
    found = pool.map(lambda name: [(step / name).stat().st_size, _digest(step / name)], names)
    files.replace(step / DIGESTS, json.dumps(dict(zip(names, found)), indent=0) + "\n")


def _files(step: Path) -> Iterator[Path]:
  # the items alone: orbax still writes beside them when it commits
  return (each for item in ITEMS for each in sorted((step / item).rglob("*")) if each.is_file())


def _digest(path: Path) -> str:
  # against damage, not forgery, and over all bytes of every save: xxh3 takes 18 GB/s of one core,
  # sha256 half a GB/s
  digest = xxhash.xxh3_128()
  with path.open("rb") as file:
    while block := file.read(1 << 22):
      digest.update(block)
  return digest.hexdigest()


def fault(step: Path, thorough: bool = True) -> str:
  """Why a step cannot be used, in a few words; "" where nothing is known against it.

  thorough: reads every byte; else sizes alone are compared.
  """
  try:
    return _fault(step, thorough)
  except (OSError, BadInput) as error:
    return first_line(error)


def _fault(step: Path, thorough: bool) -> str:
  if not step.is_dir():
    return "it is no folder"
  if not (step / MARK).is_file():
    return f"it was never completed (no {MARK})"
  if missing := [item for item in ITEMS if not (step / item).is_dir()]:
    return f"{missing[0]} is missing"
  if not (step / DIGESTS).exists():
    return ""
  digests = jsonl.read_object(step / DIGESTS)
  if not digests:
    return f"{DIGESTS} is damaged"
  for name, saved in digests.items():
    if not (isinstance(saved, list) and len(saved) == 2):
      return f"{DIGESTS} is damaged"
    if not (step / name).is_file():
      return f"{name} is missing"
    if (size := (step / name).stat().st_size) != saved[0]:
      return f"{name} has {size} bytes instead of {saved[0]}"
    if thorough and _digest(step / name) != saved[1]:
      return f"{name} is not what was saved"
  return ""


def newest(directory: Path, thorough: bool = False) -> int | None:
  """The newest step of a phase that can be used; None where there is none."""
  directory = Path(directory)
  return next((n for n in steps(directory) if not fault(directory / str(n), thorough)), None)
