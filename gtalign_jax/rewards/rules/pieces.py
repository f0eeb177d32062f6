"""Lists of tokens cut at commas, words and signs outside all brackets; names and bounds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gtalign_jax.rewards.rules.latex import text, word

Tokens = Sequence[str]

OPEN = {"(", "[", "{", "\\{", "\\langle"}
CLOSE = {")", "]", "}", "\\}", "\\rangle"}
# what can stand before "=": letters with subscripts, f(x), |AB|, \angle ABC, (x, y), words
_NAME = re.compile(r"(?!\\pi$|e$|i$)(?:[a-zA-Z()\[\]|,]|\\[a-zA-Z]+|\\text\{[^{}]*\})+")
_SUBSCRIPT = re.compile(r"_\{[^{}]*\}")
_VALUES = ("\\pi", "\\infty", "\\frac", "\\sqrt", "\\pm", "\\emptyset", "\\binom")


def split(found: Tokens, *marks: str) -> list[Tokens]:
  """Parts between `marks` outside all brackets."""
  depth, parts, start = 0, [], 0
  for at, token in enumerate(found):
    depth += (token in OPEN) - (token in CLOSE)
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


def is_name(side: str) -> bool:
  side = _SUBSCRIPT.sub("", side)
  return bool(_NAME.fullmatch(side)) and not any(value in side for value in _VALUES)


def is_bound(side: Tokens) -> bool:
  """Is it free of variables?"""
  return (
    bool(side)
    and not any((token.isalpha() and token != "e") or word(token) for token in side)
    and not _SUBSCRIPT.search(text(side))
  )


def is_one_pair(found: Tokens) -> bool:
  """Does the bracket at the start close at the end?"""
  depth = 0
  for at, token in enumerate(found):
    depth += (token in OPEN) - (token in CLOSE)
    if depth == 0:
      return at == len(found) - 1
  return False
