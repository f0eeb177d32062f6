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

_DECIMAL = re.compile(r"([-+]?)(?=\.?\d)(\d*)(?:\.(\d*))?")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_EUROPEAN = re.compile(r"[-+]?\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})")  # 1.234,5
_POWER_OF_TEN = re.compile(
  r"(?P<sign>[-+]?)(?:(?P<digits>\d*\.?\d+|\d+\.)(?:[eE]|(?:\\times|\\cdot)10\^\{)|10\^\{)"
  r"(?P<power>[-+]?\d{1,4})\}?"
)
_RATIO = re.compile(
  r"(?P<sign>[-+]?)(?:\\frac\{(?P<a>[^{}]*)\}\{(?P<b>[^{}]*)\}|(?P<c>[^/]*)/(?P<d>[^/]*))"
)
_MIXED = re.compile(r"([-+]?)(\d+)(?:\\frac\{(\d+)\}\{(\d+)\}| (\d+)/(\d+))")
_REPEATING = re.compile(r"([-+]?)(\d*)\.(\d*)\\(?:overline|bar)\{(\d+)\}")


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
  for read in (_decimal, _power_of_ten, _ratio, _mixed, _repeating):
    found = read(text)
    if found is not None:
      return found
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
  places = match[3] or ""
  shown = len(places) if places.strip("0") else 0
  half = Fraction(1, 2 * 10**shown) if shown else Fraction(0)
  value = Fraction(int(match[2] + places or "0"), 10 ** len(places))
  return Number(-value if match[1] == "-" else value, half, len(places))


def _power_of_ten(text: str) -> Number | None:
  match = _POWER_OF_TEN.fullmatch(text)
  if not match or ("^" in text) != text.endswith("}"):
    return None
  scale = Fraction(10) ** int(match["power"])
  digits = match["digits"] or "1"
  places = len(digits.partition(".")[2])
  value = Fraction(digits.rstrip(".")) * scale
  # here 7.0 does not come from a table of integers: the digit was written to be read
  half = scale / (2 * 10**places) if places else Fraction(0)
  return Number(-value if match["sign"] == "-" else value, half, places)


def _ratio(text: str) -> Number | None:
  match = _RATIO.fullmatch(text)
  if not match:
    return None
  above, below = (_decimal(match[a] or match[b] or "") for a, b in (("a", "c"), ("b", "d")))
  if above is None or below is None or not below.value:
    return None
  value = above.value / below.value
  return Number(-value if match["sign"] == "-" else value)


def _mixed(text: str) -> Number | None:
  match = _MIXED.fullmatch(text)
  if not match:
    return None
  above, below = int(match[3] or match[5]), int(match[4] or match[6])
  if not below:
    return None
  value = int(match[2]) + Fraction(above, below)
  return Number(-value if match[1] == "-" else value)


def _repeating(text: str) -> Number | None:
  match = _REPEATING.fullmatch(text)
  if not match:
    return None
  once, again = match[2] + match[3], match[4]
  cycle = Fraction(int(again), 10 ** len(again) - 1)
  value = (int(once or "0") + cycle) / 10 ** len(match[3])
  return Number(-value if match[1] == "-" else value)
