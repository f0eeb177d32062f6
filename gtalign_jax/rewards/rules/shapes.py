"""Answers as structures: lists, sets, tuples, intervals, unions, matrices, relations, values.

Brackets and commas are read here, before anything is compared; math-verify sees single values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from gtalign_jax.rewards.rules import units, wording
from gtalign_jax.rewards.rules.latex import text, word
from gtalign_jax.rewards.rules.numerals import number
from gtalign_jax.rewards.rules.pieces import Tokens, is_bound, is_name, is_one_pair, split, trim

_FLIP = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
_MATRIX = re.compile(r"\\begin\s*\{(?:[pb]?matrix|array|smallmatrix)\}")
_INFINITE = re.compile(r"[-+]?\\infty")
_TALK = re.compile(r"\\text\{(?:maybe|possibly|perhaps|respectively|only|both)\}")


class Shape(NamedTuple):
  """One answer. kind: value, list, set, tuple, interval, union, matrix or relation.

  whole: all tokens, name included; tokens: those of the value; ends: brackets of an interval, or
  size of a matrix; name: of the variable; choice: joined by "or" or "≈", so the parts may be one
  value twice.
  """

  kind: str
  whole: Tokens
  tokens: Tokens
  parts: tuple[Shape, ...] = ()
  ends: str = ""
  name: str = ""
  choice: bool = False


_BELOW, _ABOVE = ("-", "\\infty"), ("\\infty",)


def read(found: Tokens) -> Shape:
  """The structure of canonical tokens (latex.tokens)."""
  found = trim(found)
  # from what binds least to what binds most
  for reader in (_joined, _union, _listed, _related, _bracketed, _matrix, _plus_minus):
    shape = reader(found)
    if shape is not None:
      return shape
  return Shape("value", found, found)


def as_list(shape: Shape) -> Shape:
  """A number with a comma, 1,200, as a list after all."""
  parts = tuple(map(read, split(shape.tokens, ",")))
  return shape._replace(kind="list", parts=parts)


def _list(found: Tokens, parts: Sequence[Shape], choice: bool = False) -> Shape | None:
  """Several parts, without those that only talk ("and that is all"); one is itself."""
  # 6, 8 and 10 are three values, \pm 1, \pm i are four; but \sqrt2 \approx 1.41 is one
  flat: list[Shape] = []
  for part in parts:
    flat += part.parts if part.kind == "list" and not part.choice else (part,)
  said = [part for part in flat if not _only_talks(part)] or [part for part in flat if part.whole]
  if len(said) < 2:
    return said[0] if said else None
  return Shape("list", found, found, tuple(said), choice=choice)


def _only_talks(part: Shape) -> bool:
  """No value in it, and not one word or letter, as an option or the name of a month is."""
  said = [token for token in part.tokens if token != " "]
  if part.kind != "value" or not all(map(word, said)):
    return False
  return len(said) != 1 or bool(_TALK.fullmatch(said[0]))


def _joined(found: Tokens) -> Shape | None:
  """… or …, … and …, …; …"""
  parts = [part for part in map(trim, split(found, "\\text{or}", "\\text{and}", ";")) if part]
  if len(parts) < 2:
    return None
  shapes = [read(part) for part in parts]
  choice = not any(mark in found for mark in ("\\text{and}", ";"))
  if not all(shape.kind == "interval" and shape.name for shape in shapes):
    return _list(found, shapes, choice)
  if choice:
    return Shape("union", found, found, tuple(shapes), name=shapes[0].name)
  # x > 1 and x < 3 is one interval
  low, high = sorted(shapes[:2], key=lambda ray: _is_infinite(ray.parts[0]))
  infinite = [_is_infinite(bound) for ray in (low, high) for bound in ray.parts]
  if len(shapes) > 2 or infinite != [False, True, True, False]:
    return None
  ends = low.ends[0] + high.ends[1]
  return Shape("interval", found, found, (low.parts[0], high.parts[1]), ends, low.name)


def _union(found: Tokens) -> Shape | None:
  parts = split(found, "\\cup")
  if len(parts) < 2:
    return None
  # x \in A \cup B: the name belongs to all of it
  *name, first = split(parts[0], "\\in", "=")
  shapes = tuple(map(read, (first, *parts[1:])))
  return Shape("union", found, found, shapes, name=text(name[0]) if name else "")


def _listed(found: Tokens) -> Shape | None:
  """Values between commas; a lone 1,000 is one value."""
  parts = split(found, ",")
  if len(parts) < 2:
    return None
  *names, value = split(found, "=", "\\in")
  if not any("," in name for name in names) and number(units.split(text(value))[0]):
    return None
  if names and "," in names[0] and is_name(names[0]):
    return None  # x, y = 1, 2: the name belongs to the whole
  return _list(found, [read(part) for part in parts])


def _related(found: Tokens) -> Shape | None:
  """x = 3, f(x) = x + 1, x \\in [0, 1], 1 = x; equations; inequalities."""
  sides = split(found, "\\approx")
  if len(sides) > 1:  # both sides say the same
    return _list(found, [read(side) for side in sides], choice=True)
  sides = split(found, "=", "\\in")
  if len(sides) < 2:
    return _inequality(found)
  first, last = trim(sides[0]), trim(sides[-1])
  if len(sides) == 2 and is_name(last) and not is_name(first):
    first, last = last, first
  if is_name(first):
    return read(last)._replace(whole=found, name=text(first))
  return Shape("relation", found, found, (read(sides[-1]),))


def _inequality(found: Tokens) -> Shape | None:
  """0 < x \\le 1 and x \\ge 3 as the intervals that they mean; else a relation."""
  signs = [token for token in found if token in _FLIP]
  sides = [trim(side) for side in split(found, *_FLIP)]
  if len(sides) == 1:
    return _reals(found)
  whole = Shape("relation", found, found, (read(sides[-1]),))
  if len(sides) != len(signs) + 1 or len(sides) > 3:
    return whole
  if signs[0] in (">", "\\ge"):
    sides, signs = sides[::-1], [_FLIP[sign] for sign in reversed(signs)]
  if len(sides) == 2:  # x < 3 is between -\infty and 3
    below = is_bound(sides[1])
    if signs == ["\\ne"]:
      name, point = sides if below else sides[::-1]
      fits = is_name(name) and is_bound(point)
      return _reals_without(found, [point], text(name)) if fits else whole
    sides = [_BELOW, *sides] if below else [*sides, _ABOVE]
    signs = ["<", *signs] if below else [*signs, "<"]
  low, middle, high = sides
  if not ({*signs} <= {"<", "\\le"} and is_name(middle) and is_bound(low) and is_bound(high)):
    return whole
  ends = ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]")
  return _interval(found, read(low), read(high), ends, text(middle))


def _interval(found: Tokens, low: Shape, high: Shape, ends: str, name: str = "") -> Shape:
  # no end at infinity is closed, whatever was written
  first, last = "(" if _is_infinite(low) else ends[0], ")" if _is_infinite(high) else ends[1]
  return Shape("interval", found, found, (low, high), first + last, name)


def _is_infinite(bound: Shape) -> bool:
  return bool(_INFINITE.fullmatch(text(bound.tokens)))


def _reals(found: Tokens) -> Shape | None:
  """The reals, or the reals without some numbers."""
  reals, *without = [trim(side) for side in split(found, "\\setminus")]
  if wording.wording(text(reals)) != wording.REALS or len(without) > 1:
    return None
  inner = read(without[0]) if without else None
  if inner and inner.kind != "set":
    return None
  return _reals_without(found, [part.tokens for part in inner.parts] if inner else [], "")


def _reals_without(found: Tokens, points: Sequence[Tokens], name: str) -> Shape | None:
  if len(points) > 1:
    known = [(value, point) for point in points if (value := number(text(point)))]
    if len(known) < len(points):
      return None
    points = [point for _, point in sorted(known)]
  bounds = map(read, (_BELOW, *points, _ABOVE))
  gaps = tuple(_interval(found, a, b, "()") for a, b in itertools.pairwise(bounds))
  return Shape("union", found, found, gaps, name=name) if points else gaps[0]


def _bracketed(found: Tokens) -> Shape | None:
  """(a, b), [a, b), {a, b}; brackets around one value fall away."""
  if not is_one_pair(found):
    return None
  inner, first, last = found[1:-1], found[0], found[-1]
  if first == "\\{":
    element = split(inner, "|", ":", "\\mid")[0]  # the set of x for which something holds
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
    return _interval(found, *parts, first + last)
  return Shape("tuple", found, found, parts)


def _matrix(found: Tokens) -> Shape | None:
  if not found or not _MATRIX.fullmatch(found[0]) or not found[-1].startswith("\\end"):
    return None
  inner = list(found[1:-1])
  if "array" in found[0]:  # its columns: letters that lost their braces
    inner = list(itertools.dropwhile(lambda token: token in ("l", "c", "r", "|", " "), inner))
  rows = [split(row, "&") for row in split(trim(inner), "\\\\")]
  if len({len(row) for row in rows}) > 1:
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
    left, sign, out = iter(signs), "+", []
    for token in found:
      sign = next(left) if token == "\\pm" else sign
      out.append({"\\pm": sign, "\\mp": "-" if sign == "+" else "+"}.get(token, token))
    values.append(read(out))
  return Shape("list", found, found, tuple(values))
