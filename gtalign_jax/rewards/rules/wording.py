"""Answers in words: October 30, even, no solution, (A), twenty-one."""

from __future__ import annotations

import re
from fractions import Fraction

REALS = "all real numbers"
_SAME = {
  each: meant
  for meant, said in {
    "no solution": "no solutions, no real solution, no real solutions, none, empty set, "
    "there is no solution, there are no solutions, no such number",
    "does not exist": "dne, doesnt exist, do not exist",
    "infinity": "infinite",
    "infinitely many": "infinitely many solutions, infinite solutions",
    REALS: "all reals, all real x, any real number, real numbers",
  }.items()
  for each in said.split(", ")
}
_FILLERS = {"a", "an", "the", "on", "in", "at", "is", "it", "its", "option", "choice", "answer"}
_SMALL = (
  "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
  "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUE = dict(zip((*_SMALL, *_TENS), (*range(20), *range(20, 100, 10))))
_SCALE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
          "eighth": 8, "tenth": 10}  # fmt: skip


def wording(answer: str) -> str:
  """Words, letters and digits of a canonical text in lower case, one spelling for one meaning."""
  said = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", answer).lower().replace("'", "")
  for sign, words in (("emptyset", "no solution"), ("infty", "infinity"), ("mathbb{r}", REALS)):
    said = said.replace("\\" + sign, words)
  said = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", re.sub(r"[^\w+\-/.]|_", " ", said))
  kept = [bare if (bare := each.strip(".-")).isalpha() else each for each in said.split()]
  while len(kept) > 1 and kept[0] in _FILLERS:
    kept.pop(0)
  plain = " ".join(kept)
  return _SAME.get(plain, plain)


def counted(said: str) -> Fraction | None:
  """The number that words spell (twenty-one, one half, three hundred and five), else None."""
  words = [each for each in re.split(r"[\s-]+", said) if each != "and"]
  if not words or len(words) > 12:
    return None
  below = _PARTS.get(words[-1].rstrip("s")) if len(words) > 1 or words[-1] == "half" else None
  if below:
    above = Fraction(1) if words[0] in ("a", "half") else counted(" ".join(words[:-1]))
    return above / below if above is not None else None
  total = part = 0
  for each in words:
    scale = _SCALE.get(each, 0)
    if each in _VALUE:
      part += _VALUE[each]
    elif not part or not scale:
      return None
    else:
      part *= scale
      if scale > 100:
        total, part = total + part, 0
  return Fraction(total + part)
