"""Canonical texts (latex.normal) cut at commas, words and signs outside all brackets."""

from __future__ import annotations

import itertools
import re

_TOKEN = re.compile(r"\\(?:text|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+ ?|\\.|.", re.S)
# an opening bracket is one step deeper, a closing one a step back
_STEP = dict.fromkeys(("(", "[", "{", "\\{", "\\langle"), 1)
_STEP |= dict.fromkeys((")", "]", "}", "\\}", "\\rangle"), -1)
_ENDS = re.compile(r"^(?:[ :=]|\\approx ?)+|(?:[ .,;:]|\\\\|\\ldots)+$")
# what can stand before "=": letters with subscripts, f(x), |AB|, \angle, (x, y), words
_NAME = re.compile(r"(?!\\pi$|e$|i$)(?:[a-zA-Z()\[\]|,]|\\[a-zA-Z]+|\\text\{[^{}]*\})+")
_VALUES = re.compile(r"\\(?:pi|infty|frac|sqrt|pm|emptyset|binom)")
_SUBSCRIPT = re.compile(r"_\{[^{}]*\}")
_FREE = re.compile(r"\\text|_\{|[a-df-zA-Z]")


def split(found: str, *marks: str) -> list[str]:
  """Parts between `marks` outside all brackets."""
  depth, parts, start = 0, [], 0
  for match in _TOKEN.finditer(found):
    token = match[0].rstrip()
    depth += _STEP.get(token, 0)
    if token in marks and depth == 0:
      parts.append(found[start : match.start()])
      start = match.end()
  return [*parts, found[start:]]


def trim(found: str) -> str:
  """Without what stands around an answer: spaces, full stops, a sign of equality before it."""
  return _ENDS.sub("", found)


def is_name(side: str) -> bool:
  name = _SUBSCRIPT.sub("", side)
  return bool(_NAME.fullmatch(name)) and not _VALUES.search(name)


def is_bound(side: str) -> bool:
  """Is it free of variables?"""
  return bool(side) and not _FREE.search(re.sub(r"\\(?!text)[a-zA-Z]+", "", side))


def brackets(found: str) -> tuple[str, str, str] | None:
  """Opening bracket, what it holds, closing bracket, where this is all of it."""
  tokens = _TOKEN.findall(found)
  depths = list(itertools.accumulate(_STEP.get(token.rstrip(), 0) for token in tokens))
  if len(tokens) < 2 or depths[-1] != 0 or min(depths[:-1]) < 1:
    return None
  return tokens[0].rstrip(), "".join(tokens[1:-1]), tokens[-1].rstrip()
