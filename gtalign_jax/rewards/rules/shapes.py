"""Answers as structures: lists, sets, tuples, intervals, unions, matrices, relations, values.

Brackets and commas are read here, before anything is compared; math-verify sees single values.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from gtalign_jax.rewards.rules import notations, units
from gtalign_jax.rewards.rules.numerals import number
from gtalign_jax.rewards.rules.pieces import brackets, is_bound, is_name, split, trim

BOUNDED = ("()", "(]", "[)", "[]")
_FLIP = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
_SIGN = re.compile(r"[<>]|\\[lgn]e(?![a-zA-Z])")
_BELOW, _ABOVE = "-\\infty", "\\infty"
_INFINITE = re.compile(r"[-+]?\\infty")
_MATRIX = re.compile(
  r"\\begin\s*\{(?:[pb]?matrix|(array)|smallmatrix)\}(.*)\\end\s*\{[a-zA-Z]+\*?\}", re.S
)
# no value in it, and not one word or letter, as an option or the name of a month is
_TALK = re.compile(
  r"(?:\\text\{[^{}]*\}){2,}|\\text\{(?:maybe|possibly|perhaps|respectively|only|both)\}|"
)


class Shape(NamedTuple):
  """One answer.

  kind: value, list, set, union, relation; of tuples and intervals their two brackets, as in "[)";
  of a matrix its size, as in "2x3". whole: all of its canonical text; text: without the name of
  its variable. choice: joined by "or" or "≈", so the parts may be one value twice.
  """

  kind: str
  whole: str
  text: str
  parts: tuple[Shape, ...] = ()
  name: str = ""
  choice: bool = False


@functools.lru_cache(maxsize=2048)  # truths come again; and readers may look at a part twice
def read(found: str) -> Shape:
  """The structure of a canonical text (latex.normal)."""
  found = trim(found)
  # from what binds least to what binds most
  for reader in (_joined, _union, _listed, _related, _bracketed, _matrix, _plus_minus):
    shape = reader(found)
    if shape is not None:
      return shape
  return Shape("value", found, found)


def as_list(shape: Shape) -> Shape:
  """A number with a comma, 1,200, as a list after all."""
  return shape._replace(kind="list", parts=tuple(map(read, split(shape.text, ","))))


def _list(found: str, parts: Sequence[Shape], choice: bool = False) -> Shape | None:
  """Several parts, without those that only talk ("and that is all"); one is itself."""
  # 6, 8 and 10 are three values, \pm 1, \pm i are four; but \sqrt2 \approx 1.41 is one
  flat: list[Shape] = []
  for part in parts:
    flat += part.parts if part.kind == "list" and not part.choice else (part,)
  said = [part for part in flat if part.kind != "value" or not _TALK.fullmatch(part.text)]
  said = said or [part for part in flat if part.whole]
  if len(said) < 2:
    return said[0] if said else None
  if len({part.name for part in said if len(part.name) == 1}) == len(said):
    said.sort(key=lambda part: part.name)  # y = 3, x = 5 is the point (5, 3)
  return Shape("list", found, found, tuple(said), choice=choice)


def _joined(found: str) -> Shape | None:
  """… or …, … and …, …; …"""
  parts = list(filter(None, map(trim, split(found, "\\text{or}", "\\text{and}", ";"))))
  if len(parts) < 2:
    return None
  shapes = list(map(read, parts))
  choice = "\\text{and}" not in found and ";" not in found
  if not all(each.kind in BOUNDED and each.name and "," not in each.name for each in shapes):
    return _list(found, shapes, choice)
  if choice:
    return Shape("union", found, found, tuple(shapes), shapes[0].name)
  # x > 1 and x < 3 is one interval
  low, high = sorted(shapes[:2], key=lambda ray: _is_infinite(ray.parts[0].text))
  infinite = [_is_infinite(bound.text) for ray in (low, high) for bound in ray.parts]
  if len(shapes) > 2 or infinite != [False, True, True, False]:
    return None
  ends = low.kind[0] + high.kind[1]
  return Shape(ends, found, found, (low.parts[0], high.parts[1]), low.name)


def _union(found: str) -> Shape | None:
  parts = split(found, "\\cup")
  if len(parts) < 2:
    return None
  # x \in A \cup B: the name belongs to all of it
  *name, first = split(parts[0], "\\in", "=")
  return Shape("union", found, found, tuple(map(read, (first, *parts[1:]))), "".join(name[:1]))


def _listed(found: str) -> Shape | None:
  """Values between commas; a lone 1,000 is one value."""
  parts = split(found, ",")
  if len(parts) < 2:
    return None
  *names, value = split(found, "=", "\\in")
  if not any("," in name for name in names) and number(units.split(value)[0]):
    return None
  if names and "," in names[0] and is_name(names[0]):
    return None  # x, y = 1, 2: the name belongs to the whole
  return _list(found, list(map(read, parts)))


def _related(found: str) -> Shape | None:
  """x = 3, f(x) = x + 1, x \\in [0, 1], 1 = x; equations; inequalities."""
  sides = split(found, "\\approx")
  if len(sides) > 1:  # both sides say the same
    return _list(found, list(map(read, sides)), choice=True)
  sides = list(map(trim, split(found, "=", "\\in")))
  if len(sides) < 2:
    return _inequality(found)
  first, last = sides[0], sides[-1]
  if len(sides) == 2 and is_name(last) and not is_name(first):
    first, last = last, first
  if is_name(first):
    return read(last)._replace(whole=found, name=first)
  return Shape("relation", found, found, (read(sides[-1]),))


def _inequality(found: str) -> Shape | None:
  """0 < x \\le 1 and x \\ge 3 as the intervals that they mean; else a relation."""
  signs = _SIGN.findall(found)
  sides = list(map(trim, split(found, *_FLIP)))
  if len(sides) == 1:
    return _reals(found)
  whole = Shape("relation", found, found, (read(sides[-1]),))
  # a sign inside brackets has no side of its own
  if len(sides) != len(signs) + 1 or len(sides) > 3:
    return whole
  if signs[0] in (">", "\\ge"):
    sides, signs = sides[::-1], [_FLIP[sign] for sign in reversed(signs)]
  if len(sides) == 2:  # x < 3 is between -\infty and 3
    below = is_bound(sides[1])
    if signs == ["\\ne"]:
      name, point = sides if below else sides[::-1]
      return _without(found, [point], name) if is_name(name) and is_bound(point) else whole
    sides = [_BELOW, *sides] if below else [*sides, _ABOVE]
    signs = ["<", *signs] if below else [*signs, "<"]
  low, middle, high = sides
  if not ({*signs} <= {"<", "\\le"} and is_name(middle) and is_bound(low) and is_bound(high)):
    return whole
  ends = ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]")
  return _interval(found, low, high, ends, middle)


def _is_infinite(bound: str) -> bool:
  return bool(_INFINITE.fullmatch(bound))


def _interval(found: str, low: str, high: str, ends: str, name: str = "") -> Shape:
  # no end at infinity is closed, whatever was written
  first, last = "(" if _is_infinite(low) else ends[0], ")" if _is_infinite(high) else ends[1]
  return Shape(first + last, found, found, (read(low), read(high)), name)


def _reals(found: str) -> Shape | None:
  """The reals, or the reals without some numbers."""
  reals, *left_out = map(trim, split(found, "\\setminus"))
  if notations.wording(reals) != notations.REALS or len(left_out) > 1:
    return None
  points = read(left_out[0]) if left_out else None
  if points and points.kind != "set":
    return None
  return _without(found, [part.text for part in points.parts] if points else [], "")


def _without(found: str, points: list[str], name: str) -> Shape | None:
  """The reals without `points`."""
  if len(points) > 1:
    known = [(value, point) for point in points if (value := number(point))]
    if len(known) < len(points):
      return None
    points = [point for _, point in sorted(known)]
  bounds = itertools.pairwise((_BELOW, *points, _ABOVE))
  gaps = tuple(_interval(found, low, high, "()") for low, high in bounds)
  return Shape("union", found, found, gaps, name) if points else gaps[0]


def _bracketed(found: str) -> Shape | None:
  """(a, b), [a, b), {a, b}; brackets around one value fall away."""
  if not (pair := brackets(found)):
    return None
  first, inner, last = pair
  parts = tuple(map(read, split(inner, ",", ";")))
  if first == "\\{":
    conditions = split(inner, "|", ":", "\\mid")[1:]
    holds = read(conditions[0]) if len(conditions) == 1 else None
    if holds and holds.kind in (*BOUNDED, "union"):  # the set of x for which something holds
      return holds._replace(whole=found)
    return Shape("set", found, found, parts) if trim(inner) else Shape("value", found, "\\emptyset")
  if len(parts) == 1:
    return parts[0]._replace(whole=found) if parts[0].kind != "relation" else None
  if len(parts) == 2 and first + last in BOUNDED:
    return _interval(found, parts[0].whole, parts[1].whole, first + last)
  return Shape("()", found, found, parts)


def _matrix(found: str) -> Shape | None:
  match = _MATRIX.fullmatch(found)
  if not match:
    return None
  # an array begins with its columns: letters that lost their braces
  inner = match[2].lstrip("lcr| ") if match[1] else match[2]
  rows = [split(row, "&") for row in split(trim(inner), "\\\\")]
  if len({len(row) for row in rows}) > 1:
    return None
  cells = tuple(read(cell) for row in rows for cell in row)
  return Shape(f"{len(rows)}x{len(rows[0])}", found, found, cells)


def _plus_minus(found: str) -> Shape | None:
  """1 \\pm 2 as two values; \\mp follows the sign of the last \\pm."""
  many = len(re.findall(r"\\pm(?![a-zA-Z])", found))
  # each doubles the values, and thereby the comparisons
  if not 1 <= many <= 3:
    return None
  values = []
  for signs in itertools.product("+-", repeat=many):
    left, sign, value = iter(signs), "+", ""
    for piece in re.split(r"(\\[pm][pm](?![a-zA-Z]))", found):
      sign = next(left) if piece == "\\pm" else sign
      value += {"\\pm": sign, "\\mp": "-" if sign == "+" else "+"}.get(piece, piece)
    values.append(read(value))
  return Shape("list", found, found, tuple(values))
