"""How large would an answer grow if it were worked out? Asked before any symbolic work."""

from __future__ import annotations

import math
from collections.abc import Sequence

MAX_DIGITS = 10_000  # of one number; sympy needs milliseconds for these
_LETTER = 0.5  # log10 of an unknown: x^{x^x} passes, x^{x^{x^x}} does not
_NEUTRAL = (" ", "\\cdot", "\\times", "/", "\\frac")


def too_big(found: Sequence[str]) -> bool:
  """Would a number with more than MAX_DIGITS digits come out (9^{9^{9^9}}, 10000000!)?

  found: canonical tokens. An upper bound: terms of a sum count as their largest, factors add up.
  """
  rest, bound = list(found)[::-1], 0.0
  try:
    while rest:  # again after a bracket that nothing opened
      bound = max(bound, _group(rest))
  except (OverflowError, ValueError):  # ValueError: int() refuses 4,300 digits
    return True
  return bound > MAX_DIGITS


def _group(rest: list[str]) -> float:
  """log10 of a bound for a reversed list of tokens up to the end of this group."""
  largest = product = last = 0.0
  while rest and (token := rest.pop()) not in ("}", ")", "]", "\\}"):
    if token in ("+", "-", ",", "=", "\\pm", "\\mp"):
      largest, product, last = max(largest, product), 0.0, 0.0
    elif token.isdigit():
      while rest and (rest[-1].isdigit() or rest[-1] == "."):
        token += rest.pop()
      last = math.log10(int(token.partition(".")[0]) or 1)
      product += last
    elif token in ("^", "!"):
      power = last if token == "!" else _argument(rest)
      grown = max(last, _LETTER) * 10.0 ** min(power, 300)
      product, last = product - last + grown, grown
    elif token == "\\binom":
      last = 0.31 * 10.0 ** min(_argument(rest), 300)  # at most 2^n
      product += last
    elif token in ("{", "(", "[", "\\{"):
      last = _group(rest)
      product += last
    else:
      last = last if token in _NEUTRAL else _LETTER
      product += _LETTER if token.isalpha() else 0.0
  return max(largest, product)


def _argument(rest: list[str]) -> float:
  rest.pop()  # its brace
  return _group(rest)
