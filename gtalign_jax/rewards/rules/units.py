"""Units: what stands after (or, for money, before) a value, and how two units compare.

A unit that only one side names is left out; two that both are known are compared, so 2 miles are
not 2 km and 50 mm are 5 cm. Words that are no unit (7 apples) never matter.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

# dimension: names (plural s and -re spelling are added) and size
_TABLE: dict[str, dict[str, int | str]] = {
  "length": {
    "m meter": 1, "km kilometer": 1000, "dm": "0.1", "cm centimeter": "0.01",
    "mm millimeter": "0.001", "nm nanometer": "1e-9", "in inch inches": "0.0254",
    "ft foot feet": "0.3048", "yd yard": "0.9144", "mi mile": "1609.344",
  },
  "mass": {
    "kg kilogram": 1000, "g gram": 1, "mg milligram": "0.001", "lb lbs pound": "453.59237",
    "oz ounce": "28.349523125",
  },
  "time": {
    "s sec second": 1, "min minute": 60, "h hr hour": 3600, "day": 86400, "week": 604800,
    "ms millisecond": "0.001", "yr year": 31557600, "month": 2629800,
  },
  "volume": {"l liter": 1, "ml milliliter": "0.001"},
  "energy": {"j joule": 1, "erg": "1e-7"}, "power": {"w watt": 1, "kw": 1000},
  "force": {"n newton": 1}, "temperature": {"k kelvin": 1}, "share": {"percent %": 1},
  "angle": {"degree deg \\degree": 1}, "money": {"dollar usd \\$": 1, "cent": "0.01"},
  "euro": {"euro eur": 1},
}  # fmt: skip
_UNITS = {
  spelled: (dimension, Fraction(size))
  for dimension, sizes in _TABLE.items()
  for names, size in sizes.items()
  for name in names.split()
  for spelled in {name, name + "s", name[:-2] + "re" if name.endswith("er") else name}
}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
# mph is miles per hour; all others are written out
_SHORT = {"mph": "mile / hour", "kmh": "km / h", "kph": "km / h", "mps": "m / s"}

# 5 m, 9.8 m/s^2, 5cm at the end of plain text; one letter counts only after a space
_LONG = "|".join(each for each in (*_UNITS, *_SHORT) if re.match("[a-z]{2}", each))
_RAISED = r"(?:\^?\{?-?[23]\}?)?"
_BARE = re.compile(
  rf"(?<=[\d}}])(?:\s*(?:{_LONG})|[\s~]+[a-zA-ZΩ]){_RAISED}"
  rf"(?:\s*(?:/|\\cdot|\*)\s*(?:{_LONG}|[a-zA-Z]){_RAISED})*\s*$"
)
_WORD = r"\\text\{[^{}]*\}"
_MEASURED = re.compile(
  rf"(?:{_WORD})*(?:(-?)(\\\$)(-?))?(?:{_WORD})*(?P<value>.*?)"
  rf"(?P<unit>(?:(?:/|\\cdot)?(?:{_WORD}(?:\^\{{-?\d\}})?|\\degree|%|\\\$))*)",
  re.S,
)
_PIECE = re.compile(r"(?:\\text\{([^{}]+)\}|(\\degree|%|\\\$|/))(?:\^\{(-?\d)\})?")


class Unit(NamedTuple):
  """What a value is measured in; `dimensions` None where nothing that is known is named."""

  size: Fraction
  dimensions: frozenset[tuple[str, int]] | None


SHARE, ANGLE = frozenset({("share", 1)}), frozenset({("angle", 1)})


def mark(answer: str) -> str:
  """An answer whose bare unit at the end, if it has one, is in `\\text{…}`."""
  return _BARE.sub(lambda match: f" \\text{{{match[0].strip()}}}", answer)


def split(answer: str) -> tuple[str, Unit]:
  """Value and unit of a canonical text; all words at either end of the value go."""
  match = _MEASURED.fullmatch(answer)
  assert match  # its parts may all be empty
  said = (match[2] or "") + match["unit"]
  sign = (match[1] or "") + (match[3] or "")
  return sign[:1] + match["value"].rstrip("/ "), _unit(said)


def _unit(said: str) -> Unit:
  """Size and dimensions of what is said, as in `\\text{m}/\\text{s}^{2}`."""
  size, powers, sign, power = Fraction(1), Counter[str](), 1, 1
  for match in _PIECE.finditer(said):
    name = (match[1] or match[2]).lower()
    for each in _SHORT.get(name, name).split():
      if each in ("/", "per"):
        sign = -1
      elif each in _POWERS:
        power = _POWERS[each]
      elif each in _UNITS:
        dimension, one = _UNITS[each]
        exponent = sign * int(match[3] or power)
        size *= one**exponent
        powers[dimension] += exponent
        power = 1  # square meter second: of the meter only
      else:
        return Unit(Fraction(1), None)
  return Unit(size, frozenset((each, n) for each, n in powers.items() if n) if powers else None)
