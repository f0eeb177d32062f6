"""The text of a payoff block as twelve numbers: the strict and the paper reading (FORMULAS: the chain).

Both return (numbers, error). Numbers come cell by cell in the order of `types.CELLS`, LLM before
user; they are None where the text is refused, and error then says why.
"""

from __future__ import annotations

import ast
import json
import math
import warnings
from typing import Any

from gtalign_jax.types import CELLS, ROLES

MAX_LITERAL = 20_000  # characters; ast.literal_eval builds a tree, so it sees bounded text only
PAIRS = len(CELLS) * (1 + len(ROLES))
EXACT = 2**52  # differences of integers up to here are exact in float64
_KEYS = frozenset(CELLS)
_ROLES = frozenset(ROLES)
_QUOTES = str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")  # curly quotes, straightened

Numbers = tuple[Any, ...]


class _Refused(Exception):
  """The first argument is the typed reason."""


def strict(text: str) -> tuple[Numbers | None, str | None]:
  """JSON, exactly the six cells of two finite numbers; no booleans, no duplicate keys.

  Numbers are floats. Errors: payoff_syntax (no JSON object), payoff_keys (missing, unknown or
  repeated), payoff_value (no number, or none that a float holds).
  """
  try:
    table = _STRICT.decode(text)
    if type(table) is not dict:
      return None, "payoff_syntax"
    numbers = _strict_numbers(table)
    # six cells and twelve roles have one colon each, and so has each pair that a later one replaced
    return (numbers, None) if text.count(":") == PAIRS else (None, "payoff_keys")
  except _Refused as refusal:
    return None, refusal.args[0]
  except (json.JSONDecodeError, RecursionError):
    return None, "payoff_syntax"
  except (ValueError, OverflowError):  # more digits than int() takes, or than a float holds
    return None, "payoff_value"


def paper(text: str) -> tuple[Numbers | None, str | None]:
  """JSON, else a Python literal after straightening curly quotes, as the released code accepts.

  Integers (of any size that Python reads), floats, booleans, NaN and Infinity pass and stay what
  they are; the last duplicate key wins. A literal becomes JSON and is read again, as there, so what
  JSON cannot hold (sets, bytes, complex numbers) is refused. Literals over MAX_LITERAL are refused.
  """
  try:
    table = json.loads(text)
  except (ValueError, RecursionError):
    try:
      table = _literal(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
      return None, "payoff_syntax"
  try:
    return _paper_numbers(table), None
  except _Refused as refusal:
    return None, refusal.args[0]


def plain(numbers: Numbers) -> bool:
  """Does float64 arithmetic on `numbers` equal Python's own? (Not for integers that it must round.)"""
  return all(type(each) is float or -EXACT <= each <= EXACT for each in numbers)


def pay(numbers: Numbers) -> float | None:
  """The paper's pay of the matrix in Python's own arithmetic: integers of any size stay exact.

  Equals `game.reward.pay_score` where `plain`. None where Python cannot say: an integer that no float
  holds meets a float, and the released code gives such a row up.
  """
  count = 0
  for llm, user in zip(numbers[::2], numbers[1::2], strict=True):
    try:
      far = abs(user - llm) / max(abs(user), abs(llm), 1e-8) > 0.1
    except OverflowError:
      return None
    count += (user != llm) + far
  return count / 12


def _no_constant(_: str) -> float:
  raise _Refused("payoff_value")  # NaN, Infinity


_STRICT = json.JSONDecoder(parse_constant=_no_constant)


def _strict_numbers(table: dict[str, Any]) -> Numbers:
  if table.keys() != _KEYS:
    raise _Refused("payoff_keys")
  numbers = []
  for key in CELLS:
    cell = table[key]
    if type(cell) is not dict:
      raise _Refused("payoff_value")
    if cell.keys() != _ROLES:
      raise _Refused("payoff_keys")
    llm, user = cell["LLM"], cell["user"]
    if type(llm) not in (float, int) or type(user) not in (float, int):
      raise _Refused("payoff_value")
    numbers.append(float(llm))
    numbers.append(float(user))
  if not all(map(math.isfinite, numbers)):
    raise _Refused("payoff_value")
  return tuple(numbers)


def _literal(text: str) -> Any:
  if len(text) > MAX_LITERAL:
    raise ValueError("literal too long")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the compiler comments on odd escapes and calls
    value = ast.literal_eval(text.translate(_QUOTES))
  return json.loads(json.dumps(value))


def _paper_numbers(table: Any) -> Numbers:
  if not isinstance(table, dict):
    raise _Refused("payoff_syntax")
  if table.keys() != _KEYS:
    raise _Refused("payoff_keys")
  numbers: list[Any] = []
  for key in CELLS:
    cell = table[key]
    if not isinstance(cell, dict):
      raise _Refused("payoff_value")
    if cell.keys() != _ROLES:
      raise _Refused("payoff_keys")
    numbers += (cell["LLM"], cell["user"])
  if not all(isinstance(each, (int, float)) for each in numbers):
    raise _Refused("payoff_value")
  return tuple(numbers)
