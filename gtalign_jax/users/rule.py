"""The user made of rules: deterministic and offline (FORMULAS 9; docs/users.md has the rules).

It knows the intent and the conversation, and nothing else: no draw, no memory of its own, so a talk
that is taken up again after a kill goes on as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gtalign_jax.users.base import LEFT, NO_ANSWER, Reaction, Said, Talk, User
from gtalign_jax.users.role import TEXTS
from gtalign_jax.wording import contains, plain, sentences, share, subject, words

SOURCES = ("concierge", "ambig_qa", "math-hard", "minerva", "medium")  # whose intents it can act on
MOST_QUESTIONS = 2  # more at once are an interrogation
MOST_WORDS = 60  # of the questions: whoever asks for longer is not understood
SHORT = 12  # words of an answer that is looked for as it stands; a longer one is a reference text
COVERED = 0.5  # share of an intent's words, or slots, in a reply that takes it up
_COURTESY, _DETAILS = subject(TEXTS["courtesy"]), subject(TEXTS["details"])

Intent = Mapping[str, Any]


class RuleUser(User):
  """Answers an apt question with the fact, corrects a wrong answer, and is soon tired of others."""

  def replies(self, talks: Sequence[Talk]) -> list[Reaction]:
    return [_reply(talk) for talk in talks]

  def ends(self, data_source: str) -> bool:
    return data_source not in SOURCES


def _reply(talk: Talk) -> Reaction:
  request, response = talk.messages[0]["content"], talk.messages[-1]["content"]
  parts = list(sentences(response))
  asked = [sentence for sentence, asks in parts if asks]
  told = "".join(sentence for sentence, asks in parts if not asks)
  if told.strip() and not asked:
    return LEFT  # nothing is asked: the user takes what there is
  before = [each["content"] for each in talk.messages[1:] if each["role"] == "user"]
  intent = talk.intent
  if intent is not None:
    if not _readable(intent):
      return NO_ANSWER
    if fits(told, intent):
      return LEFT
    if answers(told, request, intent):
      return Said(TEXTS["correction"].format_map({"text": intent["text"]}))
    is_new = not any(intent["text"] in each for each in before)
    if is_new and apt(asked, request, intent):
      return Said(intent["text"])
  return LEFT if TEXTS["nothing"] in before else Said(TEXTS["nothing"])


def _readable(intent: Intent) -> bool:
  """A record may bring an intent of its own."""
  text, kind = intent.get("text"), intent.get("kind")
  whole = isinstance(text, str) and bool(text.strip()) and kind in KINDS
  has_slots = isinstance(intent.get("slots"), dict) and isinstance(intent.get("words"), list)
  return whole and (kind != "slot" or has_slots)


# ---------------------------------------------------------------- what was told


def fits(told: str, intent: Intent) -> bool:
  """Whether what a reply says besides its question is what the user wants.

  slot: every value stands there. meaning, and statement with a short answer: the answer does. Else:
  half of the statement's words do.
  """
  if intent["kind"] == "slot":
    return bool(intent["slots"]) and _named(told, intent) == len(intent["slots"])
  answer = str(intent.get("answer") or "")
  if intent["kind"] == "meaning" or 0 < words(answer) <= SHORT:
    return contains(told, answer)
  return share(subject(intent["text"]), subject(told)) >= COVERED


def answers(told: str, request: str, intent: Intent) -> bool:
  """Whether a reply answers besides asking (AQ), rightly or not.

  slot: it names half of the slots that the request had. Else: a word that is neither the request's
  nor a courtesy.
  """
  if intent["kind"] == "slot":
    given = len(intent["slots"]) - bool(intent.get("lacking"))
    return 0 < given <= _named(told, intent) / COVERED
  return bool(subject(told) - subject(request) - _COURTESY)


def _named(told: str, intent: Intent) -> int:
  """Slots whose value stands in `told`, word for word."""
  text = f" {plain(told)} "
  return sum(f" {plain(str(value))} " in text for value in intent["slots"].values())


# ---------------------------------------------------------------- what was asked


def apt(asked: Sequence[str], request: str, intent: Intent) -> bool:
  """Whether the questions of a reply seek the user's fact: see docs/users.md."""
  text = " ".join(asked)
  if not 1 <= len(asked) <= MOST_QUESTIONS or words(text) > MOST_WORDS:
    return False
  return KINDS[intent["kind"]](text, request, intent)


def _names_the_slot(text: str, request: str, intent: Intent) -> bool:
  if not intent.get("lacking"):
    return True  # of a complete request: the user says it again
  names = map(plain, map(str, [intent["lacking"], intent.get("called", ""), *intent["words"]]))
  return any(each and f" {each} " in f" {plain(text)} " for each in names)


def _tells_readings_apart(text: str, request: str, intent: Intent) -> bool:
  readings = [intent["text"], *map(str, intent.get("others", ()))]
  apart = set[str]().union(*map(subject, readings)) - subject(request)
  return bool(subject(text) & (apart or subject(intent["text"])))


def _asks_for_the_statement(text: str, request: str, intent: Intent) -> bool:
  return bool(subject(text) & (subject(intent["text"]) | _DETAILS))


KINDS = {
  "slot": _names_the_slot,
  "meaning": _tells_readings_apart,
  "statement": _asks_for_the_statement,
}
