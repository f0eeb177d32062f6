"""Answers as structures: lists, sets, tuples, intervals, unions, matrices, relations, values.

Brackets and commas are read here, before anything is compared; math-verify sees single values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from gtalign_jax.rewards.rules import wording
from gtalign_jax.rewards.rules.latex import text, word
from gtalign_jax.rewards.rules.numerals import number
from gtalign_jax.rewards.rules.pieces import (
  OPEN,
  Tokens,
  is_bound,
  is_name,
  is_one_pair,
  split,
  trim,
)
from gtalign_jax.rewards.rules.units import split as split_unit

_AND_OR = ("\\text{or}", "\\text{and}")
_INEQUALITIES = ("<", ">", "\\le", "\\ge")
_FLIP = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_MATRIX = re.compile(r"\\begin\s*\{(?:[pb]?matrix|array|smallmatrix)\}")
_INFINITE = re.compile(r"[-+]?\\infty")


class Shape(NamedTuple):
  """One answer. kind: value, list, set, tuple, interval, union, matrix or relation.

  whole: all tokens, name included; tokens: those of the value; ends: brackets of an interval;
  name: of the variable; choice: joined by "or" or "≈", so the parts may be one value twice.
  """

  kind: str
  whole: Tokens
  tokens: Tokens
  parts: tuple[Shape, ...] = ()
  ends: str = ""
  name: str = ""
  choice: bool = False


_BELOW = Shape("value", ("-", "\\infty"), ("-", "\\infty"))
_ABOVE = Shape("value", ("\\infty",), ("\\infty",))


def read(found: Tokens) -> Shape:
  """The structure of canonical tokens (latex.tokens)."""
  found = trim(found)
  for reader in (_joined, _union, _listed, _related, _bracketed, _matrix, _plus_minus):
    shape = reader(found)
    if shape is not None:
      return shape
  return Shape("value", found, found)


def _many(kind: str, found: Tokens, parts: Sequence[Shape], choice: bool = False) -> Shape | None:
  """Several parts, without those that only talk ("and that is all"); one is itself."""
  # 6, 8 and 10 are three values, \pm 1, \pm i are four; but \sqrt2 \approx 1.41 is one
  nested = [part.kind == "list" and not part.choice for part in parts]
  flat = [each for part, many in zip(parts, nested) for each in (part.parts if many else (part,))]
  said = [part for part in flat if not _only_talks(part)]
  said = said if said else [part for part in flat if part.whole]
  if len(said) < 2:
    return said[0] if said else None
  return Shape(kind, found, found, tuple(said), choice=choice)


def _only_talks(part: Shape) -> bool:
  """No value in it, and not one word or letter, as an option or the name of a month is."""
  if part.kind != "value":
    return False
  words = sum(map(bool, map(word, part.tokens)))
  rest = [token for token in part.tokens if token != " " and not word(token)]
  return not part.tokens or (words >= 2 and not rest) or (words == 1 and text(part.tokens) in _TALK)


_TALK = {
  f"\\text{{{each}}}" for each in ("maybe", "possibly", "perhaps", "respectively", "only", "both")
}


def _joined(found: Tokens) -> Shape | None:
  """… or …, … and …, …; …"""
  parts = [part for part in map(trim, split(found, *_AND_OR, ";")) if part]
  if len(parts) < 2:
    return None
  shapes = [read(part) for part in parts]
  choice = not any(mark in found for mark in ("\\text{and}", ";"))
  if all(shape.kind == "interval" for shape in shapes) and all(shape.name for shape in shapes):
    if choice:
      return Shape("union", found, found, tuple(shapes), name=shapes[0].name)
    return _both(found, shapes)
  return _many("list", found, shapes, choice)


def _both(found: Tokens, rays: Sequence[Shape]) -> Shape | None:
  """x > 1 and x < 3 is one interval."""
  if len(rays) != 2:
    return None
  low = [ray for ray in rays if not _INFINITE.fullmatch(text(ray.parts[0].tokens))]
  high = [ray for ray in rays if not _INFINITE.fullmatch(text(ray.parts[1].tokens))]
  if len(low) != 1 or len(high) != 1 or low[0] is high[0]:
    return None
  ends = low[0].ends[0] + high[0].ends[1]
  return Shape("interval", found, found, (low[0].parts[0], high[0].parts[1]), ends, rays[0].name)


def _union(found: Tokens) -> Shape | None:
  # x \in A \cup B: the name belongs to all of it
  parts = split(found, "\\cup")
  if len(parts) < 2:
    return None
  first = split(parts[0], "\\in", "=")
  shapes = [read(first[-1]), *(read(part) for part in parts[1:])]
  return Shape("union", found, found, tuple(shapes), name=text(first[0]) if len(first) > 1 else "")


def _listed(found: Tokens) -> Shape | None:
  """Values between commas; a lone 1,000 is one value."""
  parts = split(found, ",")
  if len(parts) < 2:
    return None
  *names, value = split(found, "=", "\\in")
  if not any("," in name for name in names) and number(split_unit(text(value))[0]):
    return None
  if names and "," in names[0] and is_name(text(names[0])):
    return None  # x, y = 1, 2: the name belongs to the whole
  return _many("list", found, [read(part) for part in parts])


def _related(found: Tokens) -> Shape | None:
  """x = 3, f(x) = x + 1, x \\in [0, 1], 1 = x; equations; inequalities."""
  sides = split(found, "\\approx")
  if len(sides) > 1:  # both sides say the same
    return _many("list", found, [read(side) for side in sides], choice=True)
  sides = split(found, "=", "\\in")
  if len(sides) > 1:
    first, last = trim(sides[0]), trim(sides[-1])
    if len(sides) == 2 and is_name(text(last)) and not is_name(text(first)):
      first, last = last, first
    if is_name(text(first)):
      return read(last)._replace(whole=found, name=text(first))
    return _relation(found, sides)
  return _inequality(found)


def _relation(found: Tokens, sides: Sequence[Tokens]) -> Shape:
  return Shape("relation", found, found, (read(sides[-1]),))


def _inequality(found: Tokens) -> Shape | None:
  """0 < x \\le 1 and x \\ge 3 as the intervals that they mean; else a relation."""
  signs = [token for token in found if token in (*_INEQUALITIES, "\\ne")]
  sides = [trim(side) for side in split(found, *_INEQUALITIES, "\\ne")]
  if len(sides) == 1:
    return _without(found)
  if len(sides) != len(signs) + 1 or len(sides) > 3:
    return _relation(found, sides)
  if len(sides) == 2:
    left, right = sides
    sign = signs[0]
    if is_bound(left) and is_name(text(right)):
      left, right, sign = right, left, _FLIP.get(sign, sign)
    if not (is_name(text(left)) and is_bound(right)):
      return _relation(found, sides)
    if sign == "\\ne":
      return _reals_without(found, [right], text(left))
    ray = (_BELOW, read(right)) if sign in ("<", "\\le") else (read(right), _ABOVE)
    ends = {"<": "()", "\\le": "(]", ">": "()", "\\ge": "[)"}[sign]
    return _interval(found, *ray, ends, text(left))
  low, middle, high = sides
  if signs[0] in (">", "\\ge"):
    low, high, signs = high, low, [_FLIP.get(sign, sign) for sign in reversed(signs)]
  if {*signs} <= {"<", "\\le"} and is_name(text(middle)) and is_bound(low) and is_bound(high):
    ends = ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]")
    return _interval(found, read(low), read(high), ends, text(middle))
  return _relation(found, sides)


def _interval(found: Tokens, low: Shape, high: Shape, ends: str, name: str = "") -> Shape:
  # no end at infinity is closed, whatever was written
  first = "(" if _INFINITE.fullmatch(text(low.tokens)) else ends[0]
  second = ")" if _INFINITE.fullmatch(text(high.tokens)) else ends[1]
  return Shape("interval", found, found, (low, high), first + second, name)


def _without(found: Tokens) -> Shape | None:
  """The reals, or the reals without some numbers."""
  sides = [trim(side) for side in split(found, "\\setminus")]
  if wording.wording(text(sides[0])) != wording.REALS or len(sides) > 2:
    return None
  if len(sides) == 1:
    return _interval(found, _BELOW, _ABOVE, "()")
  inner = read(sides[1])
  points = [part.tokens for part in inner.parts] if inner.kind == "set" else []
  return _reals_without(found, points, "") if points else None


def _reals_without(found: Tokens, points: Sequence[Tokens], name: str) -> Shape | None:
  values = [number(text(point)) for point in points]
  if len(points) > 1 and not all(values):
    return None
  ranked = sorted(zip(points, values), key=lambda each: each[1].value if each[1] else Fraction(0))
  bounds = [_BELOW, *(read(point) for point, _ in ranked), _ABOVE]
  gaps = tuple(_interval(found, a, b, "()") for a, b in itertools.pairwise(bounds))
  return Shape("union", found, found, gaps, name=name)


def _bracketed(found: Tokens) -> Shape | None:
  """(a, b), [a, b), {a, b}; brackets around one value fall away."""
  if len(found) < 2 or found[0] not in OPEN or not is_one_pair(found):
    return None
  inner, first, last = found[1:-1], found[0], found[-1]
  if first == "\\{":
    element = split(inner, "|", ":", "\\mid")[0]
    if len(element) < len(inner):  # the set of x for which something holds
      condition = read(inner[len(element) + 1 :])
      if condition.kind in ("interval", "union"):
        return condition._replace(whole=found)
    if not trim(inner):
      return Shape("value", found, ["\\emptyset"])
  parts = tuple(read(part) for part in split(inner, ",", ";"))
  if first == "\\{":
    return Shape("set", found, found, parts)
  if len(parts) == 1:
    return parts[0]._replace(whole=found) if parts[0].kind != "relation" else None
  if len(parts) == 2 and first in "([" and last in ")]":
    return _interval(found, parts[0], parts[1], first + last)
  return Shape("tuple", found, found, parts)


def _matrix(found: Tokens) -> Shape | None:
  if not found or not _MATRIX.fullmatch(found[0]) or not found[-1].startswith("\\end"):
    return None
  inner = list(found[1:-1])
  if "array" in found[0]:  # its columns: letters that lost their braces
    while inner and inner[0] in ("l", "c", "r", "|", " "):
      inner.pop(0)
  rows = [split(row, "&") for row in split(trim(inner), "\\\\")]
  if any(len(row) != len(rows[0]) for row in rows):
    return None
  cells = tuple(read(cell) for row in rows for cell in row)
  return Shape("matrix", found, found, cells, ends=f"{len(rows)}x{len(rows[0])}")


def _plus_minus(found: Tokens) -> Shape | None:
  """1 \\pm 2 as two values; \\mp follows the sign of the last \\pm."""
  many = list(found).count("\\pm")
  if not 1 <= many <= 3:
    return None
  values = []
  for signs in itertools.product("+-", repeat=many):
    left, sign, out = list(signs), "+", []
    for token in found:
      if token == "\\pm":
        sign = left.pop(0)
        out.append(sign)
      elif token == "\\mp":
        out.append("-" if sign == "+" else "+")
      else:
        out.append(token)
    values.append(read(out))
  return Shape("list", found, found, tuple(values))
