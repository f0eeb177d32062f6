"""Lists of tokens cut at commas, words and signs outside all brackets; names and bounds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gtalign_jax.rewards.rules.latex import text, word

Tokens = Sequence[str]

# every opening bracket is one step deeper, every closing one a step back
_STEP = {"(": 1, "[": 1, "{": 1, "\\{": 1, "\\langle": 1}
_STEP |= {")": -1, "]": -1, "}": -1, "\\}": -1, "\\rangle": -1}
# what can stand before "=": letters with subscripts, f(x), |AB|, \angle ABC, (x, y), words
_NAME = re.compile(r"(?!\\pi$|e$|i$)(?:[a-zA-Z()\[\]|,]|\\[a-zA-Z]+|\\text\{[^{}]*\})+")
_VALUES = re.compile(r"\\(?:pi|infty|frac|sqrt|pm|emptyset|binom)")
_SUBSCRIPT = re.compile(r"_\{[^{}]*\}")


def split(found: Tokens, *marks: str) -> list[Tokens]:
  """Parts between `marks` outside all brackets."""
  depth, parts, start = 0, [], 0
  for at, token in enumerate(found):
    depth += _STEP.get(token, 0)
    if token in marks and depth == 0:
      parts.append(found[start:at])
      start = at + 1
  return [*parts, found[start:]]


def trim(found: Tokens) -> Tokens:
  start, end = 0, len(found)
  while start < end and found[start] in (" ", ":", "=", "\\approx"):
    start += 1
  while end > start and found[end - 1] in (" ", ".", ",", ";", ":", "\\\\", "\\ldots"):
    end -= 1
  return found[start:end]


def is_name(side: Tokens) -> bool:
  name = _SUBSCRIPT.sub("", text(side))
  return bool(_NAME.fullmatch(name)) and not _VALUES.search(name)


def is_bound(side: Tokens) -> bool:
  """Is it free of variables?"""
  said = any((token.isalpha() and token != "e") or word(token) for token in side)
  return bool(side) and not said and not _SUBSCRIPT.search(text(side))


def is_one_pair(found: Tokens) -> bool:
  """Does a bracket open at the start, and close at the end?"""
  depth = 0
  for at, token in enumerate(found):
    depth += _STEP.get(token, 0)
    if depth <= 0:
      return depth == 0 < at == len(found) - 1
  return False
