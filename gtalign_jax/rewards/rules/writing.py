"""The rule for writing, 0 to 4: on the subject, substantial, near the reference, not repetitive."""

from __future__ import annotations

from gtalign_jax.rewards.judges.base import Question
from gtalign_jax.rewards.rules.text import questions, share, subject

MIN_SUBJECT = 0.15  # share of the request's subject below which a reply is about something else
FULL_SUBJECT = 0.4
MIN_DRAFT = 80  # words of a draft, as against a remark
NEAR_REFERENCE = 0.2  # share of the reference's subject words found in the reply
MAX_REPEAT = 0.3  # share of sentences' worth of repeated trigrams above which a text is filler


def judge(question: Question) -> float | None:
  """A question about the request earns 2, or 3 if it is specific. A draft earns 1 for being on the
  subject, and 1 each for taking up much of the request, for length, and for being near the reference."""
  response = question.response
  about, said = subject(question.asked), subject(response)
  covered = share(about, said)
  found = questions(response)
  words = response.split()
  if found.questions and len(words) < MIN_DRAFT:
    return 0.0 if not about & said else 3.0 if len(about & said) >= 2 else 2.0
  if covered < MIN_SUBJECT or not words:
    return 0.0
  if repetition(words) > MAX_REPEAT:
    return 1.0
  long_enough = len(words) >= MIN_DRAFT
  near = share(subject(question.truth), said) >= NEAR_REFERENCE
  return 1.0 + (covered >= FULL_SUBJECT) + long_enough + near


def repetition(words: list[str]) -> float:
  """Share of three-word sequences that occurred before in the text."""
  if len(words) < 6:
    return 0.0
  triples = list(zip(words, words[1:], words[2:], strict=False))
  return 1 - len(set(triples)) / len(triples)
