"""The rule for writing, 0 to 4: on the subject, substantial, near the reference, not repetitive."""

from __future__ import annotations

import re

from gtalign_jax.rewards.judges.base import Question
from gtalign_jax.wording import asking, share, subject

# What a question about any text may ask for.
_FORM = re.compile(r"\b(?:long|length|tone|style|audience|readers?|format|words|purpose)\b", re.I)
MIN_SUBJECT = 0.15  # share of the request's subject below which a reply is about something else
FULL_SUBJECT = 0.4
MIN_DRAFT = 80  # words of a draft, as against a remark
NEAR_REFERENCE = 0.2  # share of the reference's subject words found in the reply
MAX_COPIED = 0.5  # share of three-word sequences taken over from the request
MAX_REPEAT = 0.3  # share of three-word sequences that are repeats, above which a text is filler


def judge(question: Question) -> float | None:
  """A question earns 1 for the form of the text, 2 for its subject, 3 where it is specific.

  A draft earns 1 for being on the subject, and 1 each for taking up much of the request, for
  length, and for being near the reference; 1 in all where it repeats itself or the request.
  """
  response = question.response
  about, said = subject(question.asked), subject(response)
  words = response.split()
  if asking(response).questions and len(words) < MIN_DRAFT:
    return _of_question(response, len(about & said))
  if share(about, said) < MIN_SUBJECT or not words:
    return 0.0
  triples = _triples(words)
  copied = share(set(triples), set(_triples(question.asked.split())))
  if copied > MAX_COPIED or repetition(triples) > MAX_REPEAT:
    return 1.0
  near = share(subject(question.truth), said) >= NEAR_REFERENCE
  return 1.0 + (share(about, said) >= FULL_SUBJECT) + (len(words) >= MIN_DRAFT) + near


def _of_question(response: str, shared: int) -> float:
  if shared:
    return 3.0 if shared >= 2 else 2.0
  return 1.0 if _FORM.search(response) else 0.0


def repetition(triples: list[tuple[str, str, str]]) -> float:
  """Share of three-word sequences that occurred before in the text."""
  return 1 - len(set(triples)) / len(triples) if len(triples) > 3 else 0.0


def _triples(words: list[str]) -> list[tuple[str, str, str]]:
  return list(zip(words, words[1:], words[2:], strict=False))
