"""Values with a notation of their own: clock times, number bases, ratios, words, option letters.

Each rule takes two canonical texts, truth and answer, and says whether they mean the same; None
where it does not apply.
"""

from __future__ import annotations

import re
from fractions import Fraction

from gtalign_jax.rewards.rules import units
from gtalign_jax.rewards.rules.numerals import number

_BASED = re.compile(
  r"\(?(\d[0-9a-f]*|[a-f][0-9a-f]+)\)?"
  r"(?:_\{\(?([^{}()]+|\\text\{[a-z]+\})\)?\}|\\text\{base\}(\d+))",
  re.I,
)
_RATIO = re.compile(r"[^:]+(?::[^:]+)+")
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)((?:\\text\{[apm]+\}|[apm.])*)", re.I)
_LABEL = re.compile(r"(?:\\text\{)?([A-Za-z])\}?")
OPTION = re.compile(r"\(?(?:\\text\{)?([A-Z])\}?[).:]+(.*)", re.S)

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
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
          "eighth": 8, "tenth": 10}  # fmt: skip
# twenty-one, two thirds; whoever means more than 99 writes digits
_COUNTED = {"half": Fraction(1, 2)}
for _n, _name in enumerate(_SMALL):
  _COUNTED |= {f"{_name} {part}": Fraction(_n, below) for part, below in _PARTS.items()}
  _COUNTED |= {f"{ten} {_name}": Fraction(10 * k + _n) for k, ten in enumerate(_TENS, 2)}
  _COUNTED[_name] = Fraction(_n)
_COUNTED |= {ten: Fraction(10 * k) for k, ten in enumerate(_TENS, 2)}


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
  """The number that words spell, None if they spell none."""
  spelled = " ".join(said.replace("-", " ").split())
  return _COUNTED.get(spelled, _COUNTED.get(spelled.removesuffix("s")))


def clocks(gold: str, pred: str) -> bool | None:
  """3:30, 3:30 p.m."""
  a, b = _CLOCK.fullmatch(gold), _CLOCK.fullmatch(pred)
  if not (a and b):
    return None
  halves = {re.sub("[^apm]", "", wording(each[3])) for each in (a, b)} - {""}
  return int(a[1]) == int(b[1]) and a[2] == b[2] and len(halves) < 2


def bases(gold: str, pred: str) -> bool | None:
  """1011_2: the digits, and the base where both name it."""
  texts = [re.sub(r"^\\text\{(\w+)\}", r"\1", each) for each in (gold, pred)]
  based = [_BASED.fullmatch(each) for each in texts]
  if not any(based):
    return None
  digits = {(match[1] if match else each).upper() for match, each in zip(based, texts)}
  named = [wording(match[2] or match[3]) for match in based if match]
  return len(digits) == 1 == len({str(counted(name) or name) for name in named})  # 5 and five


def ratios(gold: str, pred: str) -> bool | None:
  """2:4 is 1:2, and 1/2."""
  if not _RATIO.fullmatch(gold):
    return None
  sides = [each.split(":") for each in (gold, pred.replace("\\text{to}", ":"))]
  if len(sides[0]) == 2 and len(sides[1]) == 1:
    sides[1].append("1")
  a, b = ([number(units.split(part)[0]) for part in side] for side in sides)
  pairs = [(x.value, y.value) for x, y in zip(a, b) if x and y]
  whole = len(a) == len(b) == len(pairs)
  return whole and all(x * pairs[0][1] == y * pairs[0][0] for x, y in pairs)


def words(gold: str, pred: str) -> bool | None:
  """Answers in words and option letters; None where the truth is no text."""
  said, answered = wording(gold), wording(pred)
  for text, spelled, other in ((gold, said, pred), (pred, answered, gold)):
    # six without marks is three letters; longer words are marked
    value = counted(spelled) if "\\text" in text or len(text) == 3 else None
    if value is not None and (found := number(units.split(other)[0])):
      return found.value == value
  is_text = "\\text" in gold + pred
  if label := _LABEL.fullmatch(gold):
    letter = (OPTION.fullmatch(pred) or _LABEL.fullmatch(pred) or ["", ""])[1]
    same = letter.upper() == label[1].upper() if is_text else letter == label[1]
    return same or None
  same = said == answered or (
    # 30 October; not without digits, where the order may be the answer
    any(map(str.isdigit, said)) and sorted(said.split()) == sorted(answered.split())
  )
  if same and said and (is_text or "\\emptyset" in gold):
    return True
  return False if gold.startswith("\\text{") else None
