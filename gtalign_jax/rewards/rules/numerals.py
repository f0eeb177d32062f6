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
_DECIMAL = re.compile(r"(?=\.?\d)(\d*)(?:\.(\d*))?")
_POWER_OF_TEN = re.compile(
  r"(?:(\d*\.?\d+|\d+\.)(?:[eE]|(?:\\times|\\cdot)10\^\{)|10\^\{)([-+]?\d{1,4})\}?"
)
# 1 000/3 is a thousand by three, 1 2/3 is mixed
_RATIO = re.compile(
  r"(?:(?P<whole>\d+)(?=\\| \d\d?/) ?)?(?:\\frac\{([^{}]*)\}\{([^{}]*)\}|([^/]*)/([^/]*))"
)
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar)\{(\d+)\}")


class Number(NamedTuple):
  """A value; half a unit of its last digit (0: exact); digits that it shows."""

  value: Fraction
  half: Fraction = Fraction(0)
  digits: int = 0


@functools.lru_cache(maxsize=4096)  # parts of lists are compared with one another
def number(text: str) -> Number | None:
  """The number that a canonical text (latex.text) is; None if it is anything more."""
  if len(text) > MAX_LENGTH or not any(map(str.isdigit, text)):
    return None
  unsigned = text[1:] if text[0] in "+-" else text
  for read in (_decimal, _power_of_ten, _ratio, _repeating):
    found = read(unsigned)
    if found is not None:
      return found._replace(value=-found.value) if text[0] == "-" else found
  return None


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


def _decimal(text: str) -> Number | None:
  if _GROUPED.fullmatch(text):
    text = text.replace(",", "").replace(" ", "")
  elif _EUROPEAN.fullmatch(text):
    text = text.replace(".", "").replace(",", ".")
  match = _DECIMAL.fullmatch(text)
  if not match:
    return None
  places = match[2] or ""
  half = Fraction(1, 2 * 10 ** len(places)) if places.strip("0") else Fraction(0)
  return Number(Fraction(int(match[1] + places), 10 ** len(places)), half, len(places))


def _power_of_ten(text: str) -> Number | None:
  match = _POWER_OF_TEN.fullmatch(text)
  if not match or ("^" in text) != text.endswith("}"):
    return None
  digits, scale = match[1] or "1", Fraction(10) ** int(match[2])
  places = len(digits.partition(".")[2])
  # here 7.0 does not come from a table of integers: the digit was written to be read
  half = scale / (2 * 10**places) if places else Fraction(0)
  return Number(Fraction(digits.rstrip(".")) * scale, half, places)


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


def _repeating(text: str) -> Number | None:
  match = _REPEATING.fullmatch(text)
  if not match:
    return None
  once, places, again = match.groups()
  cycle = Fraction(int(again), 10 ** len(again) - 1)
  return Number((int(once + places or "0") + cycle) / 10 ** len(places))
