"""Answers in words: October 30, even, no solution, (A), twenty-one."""

from __future__ import annotations

import re
from fractions import Fraction

REALS = "all real numbers"
_SAME = {
  name: names[0]
  for names in (
    ("no solution", "no solutions", "no real solution", "no real solutions", "none", "empty set",
     "the empty set", "there is no solution", "there are no solutions", "no such number"),
    ("does not exist", "dne", "doesnt exist", "do not exist"),
    ("infinity", "infinite"),
    ("infinitely many", "infinitely many solutions", "infinite solutions"),
    (REALS, "all reals", "all real x", "any real number", "real numbers", "the real numbers"),
  )
  for name in names
}  # fmt: skip
_FILLERS = {"a", "an", "the", "on", "in", "at", "is", "it", "its", "option", "choice", "answer"}
SMALL = (
  "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
  "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = (
  "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
_VALUE = {name: n for n, name in enumerate(SMALL)} | {
  name: 10 * n for n, name in enumerate(_TENS, 2)
}
_SCALE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PARTS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4,
          "fourths": 4, "fifth": 5, "fifths": 5, "sixth": 6, "eighth": 8, "eighths": 8, "tenth": 10,
          "tenths": 10}  # fmt: skip


def wording(answer: str) -> str:
  """Words, letters and digits of a canonical text in lower case, one spelling for one meaning."""
  said = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", answer).lower()
  said = said.replace("\\emptyset", "no solution").replace("\\infty", "infinity").replace("'", "")
  said = said.replace("\\mathbb{r}", REALS)
  words = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", re.sub(r"[^\w+\-/.]|_", " ", said)).split()
  words = [each.strip(".-") if each.strip(".-").isalpha() else each for each in words]
  while len(words) > 1 and words[0] in _FILLERS:
    words.pop(0)
  plain = " ".join(filter(None, words))
  return _SAME.get(plain, plain)


def counted(said: str) -> Fraction | None:
  """The number that words spell (twenty-one, one half, three hundred and five), else None."""
  words = [each for each in re.split(r"[\s-]+", said) if each != "and"]
  if not words or len(words) > 12:
    return None
  below = _PARTS.get(words[-1]) if len(words) > 1 or words[-1] == "half" else None
  if below:
    above = Fraction(1) if words[0] in ("a", "half") else counted(" ".join(words[:-1]))
    return above / below if above is not None else None
  total, part = 0, 0
  for each in words:
    if each in _VALUE:
      part += _VALUE[each]
    elif each in _SCALE and part:
      part *= _SCALE[each]
      if _SCALE[each] > 100:
        total, part = total + part, 0
    else:
      return None
  return Fraction(total + part)
