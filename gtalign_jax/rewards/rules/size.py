"""How large would an answer grow if it were worked out? Asked before any symbolic work."""

from __future__ import annotations

import math
import re

MAX_DIGITS = 10_000  # of one number; sympy needs milliseconds for these
_LETTER = 0.5  # log10 of an unknown: x^{x^x} passes, x^{x^{x^x}} does not
_TOKEN = re.compile(r"\d+(?:\.\d*)?|\\[a-zA-Z]+|\\.|.", re.S)


def too_big(found: str) -> bool:
  """Would a number with more than MAX_DIGITS digits come out (9^{9^{9^9}}, 10000000!)?

  found: a canonical text. An upper bound: terms of a sum count as their largest, factors add up.
  """
  # reversed: pop() takes from the end
  rest, bound = _TOKEN.findall(found)[::-1], 0.0
  try:
    while rest:  # again after a bracket that nothing opened
      bound = max(bound, _group(rest))
  except (OverflowError, ValueError):  # ValueError: int() refuses 4,300 digits
    return True
  return bound > MAX_DIGITS


def _group(rest: list[str]) -> float:
  """log10 of a bound for tokens, last one first, up to the end of their group; consumes them."""
  largest = product = last = 0.0
  while rest and (token := rest.pop()) not in ("}", ")", "]", "\\}"):
    if token in ("+", "-", ",", "=", "\\pm", "\\mp"):
      largest, product, last = max(largest, product), 0.0, 0.0
    elif token in ("^", "!"):
      power = last if token == "!" else _argument(rest)
      # 300: a float ends at 10^308
      grown = max(last, _LETTER) * 10.0 ** min(power, 300)
      product, last = product - last + grown, grown
    elif token not in ("\\cdot", "\\times", "/", "\\frac", " "):
      if token[0].isdigit():
        last = math.log10(int(token.partition(".")[0]) or 1)
      elif token == "\\binom":
        last = 0.31 * 10.0 ** min(_argument(rest), 300)  # at most 2^n
      else:
        last = _group(rest) if token in ("{", "(", "[", "\\{") else _LETTER
      product += last
  return max(largest, product)


def _argument(rest: list[str]) -> float:
  rest.pop()  # its brace
  return _group(rest)
