"""Values with a notation of their own: clock times, number bases, ratios, words, option letters.

Each rule takes two canonical texts, truth and answer, and says whether they mean the same; None
where it does not apply.
"""

from __future__ import annotations

import re
from fractions import Fraction

from gtalign_jax.rewards.rules import units, wording
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
_STARTS_WITH_WORDS = re.compile(r"\\text\{")


def clocks(gold: str, pred: str) -> bool | None:
  """3:30, 3:30 p.m."""
  a, b = _CLOCK.fullmatch(gold), _CLOCK.fullmatch(pred)
  if not (a and b):
    return None
  halves = [re.sub(r"[^apm]", "", wording.wording(each[3])) for each in (a, b)]
  return (int(a[1]), a[2]) == (int(b[1]), b[2]) and (halves[0] == halves[1] or "" in halves)


def bases(gold: str, pred: str) -> bool | None:
  """1011_2: the digits, and the base where both name it."""
  gold, pred = (re.sub(r"^\\text\{(\w+)\}", r"\1", each) for each in (gold, pred))
  a, b = _BASED.fullmatch(gold), _BASED.fullmatch(pred)
  if not (a or b):
    return None
  digits = [each[1] if each else text for each, text in ((a, gold), (b, pred))]
  named = [wording.wording(each[2] or each[3]) for each in (a, b) if each]
  values = {str(wording.counted(name) or name) for name in named}  # 5 and five
  return digits[0].upper() == digits[1].upper() and len(values) == 1


def ratios(gold: str, pred: str) -> bool | None:
  """2:4 is 1:2, and 1/2."""
  if not _RATIO.fullmatch(gold):
    return None
  pred = pred.replace("\\text{to}", ":")
  sides = [[number(units.split(part)[0]) for part in each.split(":")] for each in (gold, pred)]
  if not all(map(all, sides)):
    return False
  left, right = ([part.value for part in side if part] for side in sides)
  if len(left) == 2 and len(right) == 1:
    right.append(Fraction(1))
  return len(left) == len(right) and all(a * right[0] == b * left[0] for a, b in zip(left, right))


def words(gold: str, pred: str) -> bool | None:
  """Answers in words and option letters; None where the truth is no text."""
  said, answered = wording.wording(gold), wording.wording(pred)
  for text, words, other in ((gold, said, pred), (pred, answered, gold)):
    value = wording.counted(words) if "\\text" in text or words in wording.SMALL else None
    if value is not None and (found := number(units.split(other)[0])):
      return found.value == value
  label = _LABEL.fullmatch(gold)
  if label:
    option = OPTION.fullmatch(pred)
    letter = option[1] if option else (_LABEL.fullmatch(pred) or ["", ""])[1]
    folded = "\\text" in gold + pred
    return letter == label[1] or (folded and letter.upper() == label[1].upper()) or None
  is_text = "\\text" in pred or "\\text" in gold or "\\emptyset" in gold
  same = said == answered or (
    # 30 October; not without digits, where the order may be the answer
    any(map(str.isdigit, said)) and sorted(said.split()) == sorted(answered.split())
  )
  if is_text and same and said:
    return True
  return False if _STARTS_WITH_WORDS.match(gold) else None
