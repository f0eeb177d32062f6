"""The rule for concierge: the confirmation names every slot of what the user means, exactly."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gtalign_jax.concierge_words import VALUES
from gtalign_jax.rewards.judges.base import Question
from gtalign_jax.wording import sentences

# a stop after p.m. ends the sentence unless it goes on in small letters
_TIME = re.compile(
  r"\b(\d{1,2})(?:[:.h](\d\d))?\s*([AaPp])\.?\s?[Mm]\b(?:\.(?=\s+[a-z0-9]))?(?![A-Za-z])"
)
_CLOCK = re.compile(r"\b(\d{1,2}):(\d\d)\b")  # of 24 hours
_WORD = re.compile(r"[a-z0-9]+(?::\d\d[ap]m)?")
# "one" is left out: it is a pronoun as well
_NUMBERS = {
  "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
  "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
_NAMED = {"noon": "12pm", "midnight": "12am"}
# "no" is left out: "no problem" denies nothing
_DENIES = {"not", "cannot", "cant", "couldnt", "wont", "unable", "never", "dont", "didnt"}


def judge(question: Question) -> float | None:
  """1.0 if the sentences that do not ask name each value of the truth and no other value of a slot.

  truth: `slot: value` lines. Case, punctuation and spellings of times and numbers do not matter. A
  denial, another number or another value of a slot's list earns 0. None: the truth is not readable.
  """
  wanted = dict(line.split(": ", 1) for line in question.truth.splitlines() if ": " in line)
  if not wanted:
    return None
  told = (text for text, asks in sentences(_times(question.response)) if not asks)
  words = _words(" ".join(told))
  # longest first: "2 hours" must not give its 2 to the number of people
  for value in sorted(map(_value, wanted.values()), key=len, reverse=True):
    words, found = _without(words, value)
    if not found:
      return 0.0
  rest = [word for word in words if word is not None]
  numeric = any(word[0].isdigit() for value in wanted.values() for word in _value(value))
  if _DENIES & set(rest) or (numeric and any(word[0].isdigit() for word in rest)):
    return 0.0
  others = (_value(each) for slot in wanted for each in VALUES.get(slot, ()))
  return float(not any(_without(words, other)[1] for other in others))


def truth(slots: Iterable[tuple[str, str]]) -> str:
  """The truth that `judge` reads, and a model can read as well."""
  return "\n".join(f"{slot}: {value}" for slot, value in slots)


def _times(text: str) -> str:
  """The text with each time as one word: 7pm, 7:30pm."""

  def half_day(match: re.Match[str]) -> str:
    return _time(int(match[1]), match[2], match[3])

  def full_day(match: re.Match[str]) -> str:
    hour = int(match[1])
    if 12 < hour < 24 or match[1] in ("0", "00"):
      return _time((hour - 1) % 12 + 1, match[2], "p" if hour else "a")
    return match[0]  # 7:00 alone says neither morning nor evening

  return _CLOCK.sub(full_day, _TIME.sub(half_day, text))


def _time(hour: int, minutes: str | None, half: str) -> str:
  minutes = f":{minutes}" if minutes not in (None, "00") else ""
  return f"{hour}{minutes}{half.lower()}m"


def _words(text: str) -> list[str | None]:
  """The words of a text in small letters, numbers in digits."""
  plain = re.sub(r"['\u2019]", "", text.lower())
  return [_NAMED.get(word) or _NUMBERS.get(word, word) for word in _WORD.findall(plain)]


def _value(value: str) -> list[str]:
  return [word for word in _words(_times(value)) if word]


def _without(words: list[str | None], value: list[str]) -> tuple[list[str | None], bool]:
  """The words with every place of `value` blanked out, and whether there was one."""
  words, size, found = list(words), len(value), False
  for at in range(len(words) - size + 1):
    if size and words[at : at + size] == value:
      words[at : at + size], found = [None] * size, True
  return words, found
