"""How large would an answer grow if it were worked out? Asked before any symbolic work."""

from __future__ import annotations

import math
from collections.abc import Sequence

MAX_DIGITS = 10_000  # of one number; sympy needs milliseconds for these
CLOSING = ("}", ")", "]", "\\}")
_LETTER = 0.5  # log10 of an unknown: x^{x^x} passes, x^{x^{x^x}} does not


def too_big(found: Sequence[str]) -> bool:
  """Would a number with more than MAX_DIGITS digits come out (9^{9^{9^9}}, 10000000!)?

  found: canonical tokens. An upper bound: terms of a sum count as their largest, factors add up.
  """
  try:
    return _group(list(found), 0, 0)[0] > MAX_DIGITS
  except OverflowError:
    return True


def _group(found: list[str], at: int, depth: int) -> tuple[float, int]:
  """log10 of a bound for the tokens up to the end of this group, and where it ends."""
  largest = product = last = 0.0
  while at < len(found) and (depth == 0 or found[at] not in CLOSING):
    token = found[at]
    if token in ("+", "-", ",", "=", "\\pm", "\\mp"):
      largest, product, last = max(largest, product), 0.0, 0.0
      at += 1
    elif token.isdigit():
      end = at
      while end < len(found) and (found[end].isdigit() or found[end] == "."):
        end += 1
      whole = "".join(found[at:end]).partition(".")[0].lstrip("0")
      last = math.log10(int(whole[:15] or "1")) + max(0, len(whole) - 15)
      product, at = product + last, end
    elif token == "^" and found[at + 1 : at + 2] == ["{"]:
      power, at = _group(found, at + 2, depth + 1)
      grown = max(last, _LETTER) * 10.0 ** min(power, 300)
      product, last, at = product - last + grown, grown, at + 1
    elif token == "!":
      grown = max(last, _LETTER) * 10.0 ** min(last, 300)
      product, last, at = product - last + grown, grown, at + 1
    elif token == "\\binom" and found[at + 1 : at + 2] == ["{"]:  # at most 2^n
      above, at = _group(found, at + 2, depth + 1)
      last = 0.31 * 10.0 ** min(above, 300)
      product, at = product + last, at + 1
    elif token in ("{", "(", "[", "\\{"):
      last, at = _group(found, at + 1, depth + 1)
      product, at = product + last, at + 1
    else:
      last = _LETTER if token != " " and token not in ("\\cdot", "\\times", "/", "\\frac") else last
      product += _LETTER if token.isalpha() else 0.0
      at += 1
  return max(largest, product), at
