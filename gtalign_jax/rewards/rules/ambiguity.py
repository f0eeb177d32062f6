"""The rule for ambiguity: ask where a question has several readings, answer where it has one."""

from __future__ import annotations

import re

from gtalign_jax.rewards.judges.base import Question
from gtalign_jax.wording import asking, contains, plain, subject

# How the released labels spell them. To the end of the line, and cut in Python: white space that a
# lazy match and a repeat after it both take is tried in every way of sharing it.
_ANSWERS = re.compile(r"Answer \d+:([^\n]*)")
_MEANINGS = re.compile(r"Meaning \d+:([^\n]*)")
_ANSWER = re.compile(r"Answer \d+:")
# Asking for a choice between readings, in a few words that clarifying questions share.
_CLARIFIES = re.compile(
  r"\b(?:which|do you mean|did you mean|are you (?:asking|referring|looking|interested|thinking)"
  r"|clarify|specify|be more specific|what (?:kind|type|sort|version|year|specific)|or\b)",
  re.I,
)
# Asking by a request, without a question mark.
_REQUESTS = re.compile(
  r"\b(?:please|kindly|let me know|tell me)\b[^.?!\n]{0,40}"
  r"\b(?:which|what|who|clarify|specify|narrow)\b",
  re.I,
)
MIN_WORDS = 12  # a reply that asks and has at least so many words outside the question also answers


def judge(question: Question) -> float | None:
  """ambig_qa. One answer: 1.0 if the reply contains it and does not only ask.

  Several: 1.0 if it asks an apt question, or states answers of two meanings. None where the truth
  has neither form.
  """
  kind, _, rest = question.truth.partition("###")
  if kind == "singleAnswer":
    return float(contains(question.response, rest) and not only_asks(question.response))
  if kind != "multipleQAs":
    return None
  # answers of several meanings, each stated: the reply has set them out
  given = {a for a in map(plain, _ANSWERS.findall(rest)) if a and contains(question.response, a)}
  given = {a for a in given if not any(a != b and a in b for b in given)}  # 1947 in October 1947
  about = subject(question.asked + " " + " ".join(_meanings(rest)))
  return float(len(given) >= 2 or asks_aptly(question.response, about))


def judge_meant(question: Question) -> float:
  """The end of a talk, truth `meaning###answer`: 1.0 if it states the answer, not only asks."""
  answer = question.truth.rpartition("###")[2]
  return float(contains(question.response, answer) and not only_asks(question.response))


def _meanings(label: str) -> list[str]:
  return [_ANSWER.split(each)[0].strip(" ;") for each in _MEANINGS.findall(label)]


def judge_passage(question: Question) -> float | None:
  """abg-coqa. ambiguous: 1.0 if the reply asks aptly. non_ambiguous: 1.0 if it answers."""
  if question.truth == "ambiguous":
    return float(asks_aptly(question.response, subject(question.asked)))
  if question.truth == "non_ambiguous":
    return float(bool(plain(question.response)) and not only_asks(question.response))
  return None


def only_asks(response: str) -> bool:
  """A question and next to nothing besides."""
  found = asking(response)
  return found.questions > 0 and found.words_outside < MIN_WORDS


def asks_aptly(response: str, about: set[str]) -> bool:
  """One or two questions (or a request) that offer or seek a reading and share the subject.

  A question that fits every prompt is not apt: as a reward it would teach just that one.
  """
  count = asking(response).questions
  asks = 1 <= count <= 2 and _CLARIFIES.search(response) is not None
  requests = count == 0 and _REQUESTS.search(response) is not None
  return (asks or requests) and bool(subject(response) & about)
