"""What lies in a phase's folder of checkpoints: the steps, and whether one is sound.

A step counts when its commit mark is there and its files are those that were saved: `seal` writes
their sizes and digests into the step before it is committed, `fault` compares. Checkpoints of
before digests existed have none, and are judged when they are read.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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


def newest(
  directory: Path,
  thorough: bool = False,
  faults: dict[int, str] | None = None,
  only: int | None = None,
) -> int | None:
  """The newest step of a phase (or `only` one) that can be used; None where there is none.

  faults: steps that are known to be damaged, and why; more are added.
  """
  faults = {} if faults is None else faults
  for step in steps(directory):
    if step not in faults and only in (None, step):
      why = fault(Path(directory) / str(step), thorough)
      if not why:
        return step
      faults[step] = why
  return None


def none_sound(directory: Path, faults: Mapping[int, str]) -> str:
  """The line that says why no step of a phase's folder can be used, and what to do about it."""
  found = "; ".join(f"{step}: {why}" for step, why in faults.items())
  return (
    f"{directory} holds no sound checkpoint ({found}); put one back, or remove the folder to begin "
    "the phase anew"
  )


def find(
  root: Path, which: str | int | None, faults: dict[int, str] | None = None
) -> tuple[Path, int]:
  """(folder of the phase, step) of a stored policy under the folder `checkpoints`.

  which: None = the newest of GRPO, else of SFT; "best" = the best evaluated one; "sft" = the newest
  of SFT; an int = that GRPO step. faults: what is known of damaged steps; more are added. Nothing
  is changed: damaged steps are told and passed over. Raises BadInput where no step is left.
  """
  faults = {} if faults is None else faults
  only = which if isinstance(which, int) else None
  phases = (which,) if isinstance(which, str) else ("grpo", "sft") if which is None else ("grpo",)
  for folder in (root / phase for phase in phases):
    known = len(faults)
    step = newest(folder, thorough=True, faults=faults, only=only)
    for each, why in list(faults.items())[known:]:
      log.warning("%s is damaged: %s", folder / str(each), why)
    if step is not None:
      return folder, step
    if faults:
      raise BadInput(none_sound(folder, faults))
  found = {each.name: newest(each) for each in sorted(root.glob("*"))}
  raise BadInput(f"{root} holds no {which or 'finished'} checkpoint (newest by phase: {found})")


def progress(step: Path) -> dict[str, Any]:
  """What was counted when a step was saved; orbax reads it only with its own checkpointer."""
  return jsonl.read_object(step / "progress" / "metadata")


def stored_config(workdir: Path) -> dict[str, Any] | None:
  """The config that the newest sound checkpoint was saved under; None where none says it."""
  for folder in (workdir / "checkpoints" / phase for phase in ("grpo", "sft")):
    if (step := newest(folder, thorough=True)) is not None:
      return progress(folder / str(step)).get("config")
  return None
