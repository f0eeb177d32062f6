"""Scored rows of several runs, read from files and work directories.

Pairing, means and intervals are in `game.paired`, which the report of a run uses as well; the text
for people is in `compare_text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game import paired
from gtalign_jax.game.paired import ScoredRun
from gtalign_jax.rewards import parts
from gtalign_jax.types import POLICIES

RESAMPLES = 2000  # of the intervals, prompts drawn with replacement
Lines = Sequence[tuple[int, dict[str, Any]]]  # line number, row


def scored(name: str, lines: Lines, path: str | Path) -> ScoredRun:
  """The run, with the measures of the game that its rows carry.

  Raises BadInput, naming file and line, where a column holds what no version has written.
  """
  for line, row in lines:
    parts.check(row, f"{path}:{line}")
  run = paired.scored_run(name, lines, path)
  prompts: list[list[Mapping[str, Any]]] = [[] for _ in run.places]
  for line, row in lines:
    place = run.places.get(paired.key_of(row, f"{path}:{line}"))
    # no verdict is not a verdict of 0: such rows count in nothing
    if place is not None and None not in (row.get("user_reward"), row.get("llm_reward")):
      prompts[place].append(row)
  return run._replace(parts=parts.of_prompts(prompts))


def rows_file(path: str | Path) -> Path:
  """The file of rows that a user means: of a work directory that of its newest policy."""
  path = Path(path)
  if not path.is_dir():
    return path
  for policy in POLICIES:
    if (found := path / "eval" / f"{policy}.jsonl").exists():
      return found
  raise BadInput(f"{path} holds no evaluated policy (eval/grpo.jsonl); give a file of scored rows")


def names(paths: Sequence[str | Path]) -> list[str]:
  """A name for each run: stem of the file, name of the directory; a repeated one gets ~2, ~3 …"""
  found: list[str] = []
  for path in map(Path, paths):
    own, count = path.resolve().name if path.is_dir() else path.stem, 1
    # a/eval.jsonl and b/eval.jsonl are two runs, and names are keys of the JSON
    while (name := own if count == 1 else f"{own}~{count}") in found:
      count += 1
    found.append(name)
  return found


def read_run(path: str | Path, name: str | None = None) -> ScoredRun:
  """Reads rows with user_reward and llm_reward. Raises BadInput naming file and line."""
  return scored(name or Path(path).stem, jsonl.read(path), path)


def read_rows(paths: Sequence[str | Path]) -> dict[str, Lines]:
  """The rows of each run by its name. Raises BadInput on fewer than two."""
  if len(paths) < 2:
    raise BadInput(f"compare needs at least two files, got {len(paths)}")
  return {name: jsonl.read(rows_file(path)) for name, path in zip(names(paths), paths)}


def of_rows(found: Mapping[str, Lines], paths: Sequence[str | Path]) -> list[ScoredRun]:
  """The runs of `read_rows`. Raises BadInput where a row is malformed."""
  read = zip(found.items(), map(rows_file, paths), strict=True)
  return [scored(name, lines, path) for (name, lines), path in read]
