"""Plain numbers, read exactly: integers, decimals, fractions, mixed numbers, powers of ten.

`half` is half a unit of the last digit that a decimal shows: a rounded truth need be met to its
digits only. What is written without decimals, or with zeros only (tables write 7 as 7.0), is exact.
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import NamedTuple

MAX_LENGTH = 1000  # characters of a number; beyond it int() is quadratic, and then refuses

_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?: \d{3})+(?:\.\d+)?")
_EUROPEAN = re.compile(r"\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})")  # 1.234,5
_DECIMAL = re.compile(
  r"(?=\.?\d|\.\\)(\d*)(?:\.(\d*)(?:\\(?:overline|bar)\{(\d+)\})?)?"
  r"(?:(?:[eE]|(?:\\times|\\cdot)10\^(\{))([-+]?\d{1,4})(?(4)\}))?"
)
# 1 000/3 is a thousand by three, 1 2/3 is mixed
_RATIO = re.compile(
  r"(?:(?P<whole>\d+)(?=\\| \d\d?/) ?)?(?:\\frac\{([^{}]*)\}\{([^{}]*)\}|([^/]*)/([^/]*))"
)


class Number(NamedTuple):
  """A value; half a unit of its last digit (0: exact); digits that it shows."""

  value: Fraction
  half: Fraction = Fraction(0)
  digits: int = 0


@functools.lru_cache(maxsize=4096)  # parts of lists are compared with one another
def number(text: str) -> Number | None:
  """The number that a canonical text (latex.normal) is; None if it is anything more."""
  if len(text) > MAX_LENGTH or not any(map(str.isdigit, text)):
    return None
  unsigned = text[1:] if text[0] in "+-" else text
  found = _decimal(unsigned) or _ratio(unsigned)
  return found._replace(value=-found.value) if found and text[0] == "-" else found


def equal(truth: Number, found: Number) -> bool:
  """The same number, to the digits that the truth shows, or that the answer has to cut off."""
  if truth.value == found.value:
    return True
  sign = -1 if truth.value < 0 else 1
  over = (found.value - truth.value) * sign
  if truth.half:
    return -truth.half <= over < truth.half  # a half rounds away from zero
  # 0.333 for 1/3, but not 0.13 for 1/8, which four places can write, and not 0.3, which is a guess
  if not rounded(found) or 10**4 % truth.value.denominator == 0:
    return False
  # 0.666 for 2/3 is cut off, not wrong
  cut = abs(found.value) >= 200 * found.half and -2 * found.half < over < 0
  return abs(over) <= found.half or cut


def rounded(found: Number) -> bool:
  """Does a decimal show enough to stand for what no decimal can write?"""
  return found.digits >= 2 and abs(found.value) >= 20 * found.half


def exact(value: Fraction) -> str:
  """A number as LaTeX that no reader misreads (1.5e3 is no 1.5 times e times 3)."""
  above, below = value.numerator, value.denominator
  return f"\\frac{{{above}}}{{{below}}}" if below != 1 else str(above)


def _decimal(text: str) -> Number | None:
  """1,234.5, 0.1\\overline{6}, 2.5e-3, 10^{7}."""
  if _GROUPED.fullmatch(text):
    text = text.replace(",", "").replace(" ", "")
  elif _EUROPEAN.fullmatch(text):
    text = text.replace(".", "").replace(",", ".")
  match = _DECIMAL.fullmatch(re.sub(r"^10\^", r"1\\times10^", text))
  if not match:
    return None
  whole, places, cycle, power = match[1], match[2] or "", match[3], match[5]
  last = Fraction(10) ** (int(power or 0) - len(places))  # the place of the last digit
  value = int(whole + places or 0) * last
  if cycle:
    return Number(value + int(cycle) * last / (10 ** len(cycle) - 1))
  # in 7.0e8, unlike 7.0, the zero does not come from a table of integers: it was written to be read
  shown = places if power else places.strip("0")
  return Number(value, last / 2 if shown else Fraction(0), len(places))


def _ratio(text: str) -> Number | None:
  """3/4, 1 3/4, 1\\frac{3}{4}, and \\frac{-1.5}{2}."""
  match = _RATIO.fullmatch(text)
  if not match:
    return None
  whole, above, below = match["whole"], match[2] or match[4] or "", match[3] or match[5] or ""
  over, under = number(above), number(below)
  if not over or not under or not under.value or (whole and not (above + below).isdigit()):
    return None
  return Number(int(whole or 0) + over.value / under.value)
