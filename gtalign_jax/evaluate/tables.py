"""Tables of measures, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gtalign_jax.game.resampling import ranged, spanned

Part = Mapping[str, Any]  # measures by name, with `…_interval` where they have one
Grid = list[list[str]]  # of text; the first row is the head


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Lines of a table whose columns are as wide as they must be."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def markdown(grid: Grid) -> list[str]:
  """Lines of the table in Markdown, numbers to the right."""
  safe = [[cell.replace("|", "\\|") for cell in row] for row in grid]
  rule = ["---", *["---:"] * (len(grid[0]) - 1)]
  return [f"| {' | '.join(row)} |" for row in (safe[0], rule, *safe[1:])]


def grid(
  head: str,
  columns: Mapping[str, str],
  parts: Mapping[str, Part],
  shown: Callable[[Part, str], str],
) -> Grid:
  """A row for each part. columns: title -> key; those that no part has are left out."""
  kept = {t: k for t, k in columns.items() if any(there(part, k) for part in parts.values())}
  body = [[name, *(shown(part, key) for key in kept.values())] for name, part in parts.items()]
  return [[head, *kept], *body] if kept else []


def lines(rows: Grid) -> str:
  """The table as text; nothing where it has a head alone."""
  return "\n".join(aligned(rows)) + "\n" if len(rows) > 1 else ""


def there(part: Part, key: str) -> bool:
  """Whether the part has a number under that name."""
  value = part.get(key)
  return value is not None and not np.isnan(value)


def number(part: Part, key: str) -> str:
  """A number as tables show it; - where there is none."""
  if not there(part, key):
    return "-"
  value = part[key]
  return str(value) if isinstance(value, int) else f"{value:.0f}" if value >= 10 else f"{value:.3f}"


def with_interval(part: Part, key: str) -> str:
  """A number with its interval, where the part has one."""
  return spanned(part.get(key), part.get(f"{key}_interval"))


def signed(each: Mapping[str, float], interval: bool = True) -> str:
  """A difference with its interval, a star where its corrected p is below 0.05."""
  star = " *" if each.get("p_holm", each["p"]) < 0.05 else ""
  form = "+.1f" if abs(each["mean"]) >= 10 else "+.3f"
  return (ranged(each, form) if interval else f"{each['mean']:{form}}") + star
