"""Slots that a confirmation names, read exactly: what judge and user of concierge go by."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gtalign_jax.concierge_words import VALUES
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


def states(response: str, slots: Mapping[str, str]) -> bool:
  """Whether the sentences that do not ask name each value, and no other value of a slot.

  Case, punctuation and spellings of times and numbers do not matter. A denial, another number or
  another value of a slot's list is not what was meant.
  """
  words = _told(response)
  # longest first: "2 hours" must not give its 2 to the number of people
  for value in sorted(map(_value, slots.values()), key=len, reverse=True):
    words, found = _without(words, value)
    if not found:
      return False
  rest = [word for word in words if word is not None]
  numeric = any(word[0].isdigit() for value in slots.values() for word in _value(value))
  if _DENIES & set(rest) or (numeric and any(word[0].isdigit() for word in rest)):
    return False
  others = (_value(each) for slot in slots for each in VALUES.get(slot, ()))
  return not any(_without(words, other)[1] for other in others)


def named(response: str, slots: Mapping[str, str]) -> list[str]:
  """The slots whose value stands in the sentences that do not ask, whatever else does."""
  words = _told(response)
  return [slot for slot, value in slots.items() if _without(words, _value(value))[1]]


def _told(response: str) -> list[str | None]:
  """The words of the sentences that do not ask."""
  told = (sentence for sentence, asks in sentences(_times(response)) if not asks)
  return _words(" ".join(told))


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
