"""The paper's reading of a completion: what the released code accepts, to reproduce its runs.

docs/rewards.md lists what odd input does; tests compare with the procedure written down a second
time (tests/rewards/paper_reference.py).
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from itertools import pairwise
from typing import Any

from gtalign_jax.rewards.blocks import TAGS, Blocks, Numbers, Refused, Span, cells, contents
from gtalign_jax.types import BLOCKS

MAX_LITERAL = 20_000  # characters; ast.literal_eval builds a tree, so it sees bounded text only
_QUOTES = str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")  # curly quotes, straightened

# The pattern, `^<thinking>.*?</thinking>\s*<payoff>.*?</payoff>\s*` and so on to `</response>$`,
# backtracks; only whether a match exists is needed, and taking each joint at its first place leaves
# the most text to the next one. White space after one closing tag is scanned once: linear.
_JOINTS = tuple(re.compile(rf"</{before}>\s*+<{after}>") for before, after in pairwise(BLOCKS))
_LAST = re.compile(r"</response>$", re.MULTILINE)


def blocks(text: str) -> Blocks:
  """Each block is the first `<tag>(.*?)</tag>` anywhere; thinking and analyze may be absent."""
  spans = tuple(_first(text, opening, closing) for opening, closing in TAGS)
  payoff = contents(text, spans[1])
  if payoff is None or spans[3] is None:
    return Blocks(spans, None, 0, "missing_block")
  numbers, error = read_payoff(payoff)
  return Blocks(spans, numbers, int(error is None and has_format(text)), error)


def _first(text: str, opening: str, closing: str) -> Span | None:
  start = text.find(opening)
  # if the first opening has no end, no later one has: one look is enough
  end = text.find(closing, start + len(opening)) if start >= 0 else -1
  return None if end < 0 else (start + len(opening), end)


def has_format(text: str) -> bool:
  """Does the paper's pattern match at the start of `text` (DOTALL, MULTILINE)?"""
  if not text.startswith("<thinking>"):
    return False
  at = len("<thinking>")
  for joint in _JOINTS:
    match = joint.search(text, at)
    if match is None:
      return False
    at = match.end()
  return _LAST.search(text, at) is not None


def read_payoff(text: str) -> tuple[Numbers | None, str | None]:
  """(numbers, error): JSON, else a Python literal after straightening curly quotes.

  Integers (of any size that Python reads), floats, booleans, NaN and Infinity pass and stay what
  they are; the last duplicate key wins. Literals over MAX_LITERAL are refused.
  """
  try:
    table = json.loads(text)
  except (ValueError, RecursionError):
    try:
      table = _literal(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
      return None, "payoff_syntax"
  try:
    values = tuple(each for pair in cells(table) for each in pair)
  except Refused as refusal:
    return None, refusal.args[0]
  if not all(isinstance(each, (int, float)) for each in values):
    return None, "payoff_value"
  return values, None


def _literal(text: str) -> Any:
  if len(text) > MAX_LITERAL:
    raise ValueError("literal too long")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the compiler comments on odd escapes and calls
    value = ast.literal_eval(text.translate(_QUOTES))
  # as there: written as JSON and read again, which refuses sets, bytes and complex numbers
  return json.loads(json.dumps(value))


def pay(numbers: Numbers) -> float | None:
  """The paper's pay of a matrix: 1/12 for each cell with user != LLM, and for each > 10 % apart.

  None where an integer that no float holds meets a float: the released code then gives the row up.
  """
  count = 0
  # Python's own arithmetic, not float64: integers of any size stay exact, as there
  for llm, user in zip(numbers[::2], numbers[1::2], strict=True):
    try:
      far = abs(user - llm) / max(abs(user), abs(llm), 1e-8) > 0.1
    except OverflowError:
      return None
    count += (user != llm) + far
  return count / 12
