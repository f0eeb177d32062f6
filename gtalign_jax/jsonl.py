"""JSON lines on disk: errors that name file and line, and files that appear whole or not at all."""

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gtalign_jax import files
from gtalign_jax.errors import BadInput

# levels of a row: what is read must be written again, and JSON's writer gives up before its reader
DEEPEST = 100


def read(path: str | Path) -> list[tuple[int, dict[str, Any]]]:
  """Reads (line number, object) of every line that is not blank.

  Raises BadInput, naming file and line, where the file cannot be read or a line is no JSON object.
  """
  damaged: list[str] = []
  rows = read_sound(path, damaged)
  if damaged:
    raise BadInput(damaged[0])
  return rows


def read_sound(path: str | Path, damaged: list[str]) -> list[tuple[int, dict[str, Any]]]:
  """`read` that leaves out the lines that are no JSON objects; what is wrong is added to `damaged`.

  Raises BadInput where the file cannot be read.
  """
  found = []
  try:
    with open(path, "rb") as file:  # bytes: bad UTF-8 is the fault of one line, not of the file
      for number, line in enumerate(file, start=1):
        try:
          if (row := _row(line, number)) is not None:
            found.append((number, row))
        except BadInput as error:
          damaged.append(f"{path}:{number}: {error}")
  except OSError as error:
    raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
  return found


def _row(line: bytes, number: int) -> dict[str, Any] | None:
  """The object of a line, None where the line is blank."""
  try:
    text = line.decode("utf-8-sig" if number == 1 else "utf-8")  # Windows writes a mark first
    if not text.strip():
      return None
    row = json.loads(text)
  except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, absurd digits or depth
    raise BadInput(f"not a line of JSON ({error})") from None
  if not isinstance(row, dict):
    raise BadInput(f"expected a JSON object, got {type(row).__name__}")
  # counted first, which is far quicker: hardly a row has so many brackets
  if text.count("[") + text.count("{") > DEEPEST and _is_deep(row):
    raise BadInput(f"nested deeper than {DEEPEST} levels; flatten the row")
  return row


def _is_deep(value: Any, left: int = DEEPEST) -> bool:
  inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
  return left == 0 or any(_is_deep(each, left - 1) for each in inside)


def read_object(path: Path) -> dict[str, Any]:
  """The JSON object that `path` holds. Raises BadInput where it cannot be read or holds none."""
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
  except (ValueError, RecursionError) as error:
    raise BadInput(f"{path} is not JSON ({error})") from error
  if not isinstance(found, dict):
    raise BadInput(f"{path}: expected a JSON object, got {type(found).__name__}")
  return found


def number(row: dict[str, Any], key: str, where: str) -> float:
  """The finite number `row[key]`; NaN for null or an absent key. `where` is "file:line"."""
  value = row.get(key)
  if value is None:
    return math.nan
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise BadInput(f"{where}: {key}={str(value)[:40]!r} must be a number or null")
  # compared before it is converted: JSON integers have no limit, floats do
  if not abs(value) <= sys.float_info.max:
    raise BadInput(f"{where}: {key} must be a finite number or null")
  return float(value)


def read_numbers(path: Path) -> dict[str, float]:
  """The numbers of the JSON object that `path` holds; {} without a file. Raises BadInput."""
  found = read_object(path) if path.exists() else {}
  return {name: number(found, name, str(path)) for name in found}


def dumps(row: Any) -> str:
  """One line of strict JSON: NaN and infinities are null; ASCII, so lone surrogates survive."""
  try:
    return json.dumps(row, allow_nan=False)  # as a rule nothing is NaN, and no copy is needed
  except ValueError:
    return json.dumps(_finite(row), allow_nan=False)


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _finite(each) for key, each in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(each) for each in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def write(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
  """Writes rows as JSON lines, atomically: on any error the old file (or none) stays.

  Raises BadInput where the place cannot be written, RunFailure where the disk is full.
  """
  lines = (dumps(row) + "\n" for row in rows)  # rows may be made one by one
  try:
    with files.stream(path) if files.is_stream(path) else files.replacing(path) as file:
      file.writelines(lines)
  except BrokenPipeError:  # the reader has what it wanted; no fault of the path
    raise
  except OSError as error:
    raise files.unwritable(path, error) from None
