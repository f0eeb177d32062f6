"""The user made of rules: deterministic and offline (FORMULAS 9; docs/users.md has the rules).

It knows the intent and the conversation, and nothing else: no draw, no memory of its own, so a talk
that is taken up again after a kill goes on as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gtalign_jax import confirmation
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


class Heard(NamedTuple):
  """A response as the user takes it: all of it, the sentences that ask, and the rest."""

  response: str
  asked: list[str]
  told: str


class RuleUser(User):
  """Answers an apt question with the fact, corrects a wrong answer, and is soon tired of others."""

  def replies(self, talks: Sequence[Talk]) -> list[Reaction]:
    return [_reply(talk) for talk in talks]

  def ends(self, data_source: str) -> bool:
    return data_source not in SOURCES


def _reply(talk: Talk) -> Reaction:
  request, heard, before = talk.request, _heard(talk.messages[-1]["content"]), talk.said("user")
  if heard.told.strip() and not heard.asked:
    return LEFT  # nothing is asked: the user takes what there is
  intent = talk.intent
  if intent is not None:
    if not _readable(intent):
      return NO_ANSWER
    if fits(heard, intent):
      return LEFT
    if answers(heard, request, intent):
      return Said(TEXTS["correction"].format_map({"text": intent["text"]}))
    # asked twice for one thing, people are not patient: it counts as inapt
    is_new = not any(intent["text"] in each for each in before)
    if is_new and apt(heard.asked, request, intent):
      return Said(intent["text"])
  return LEFT if TEXTS["nothing"] in before else Said(TEXTS["nothing"])


def _heard(response: str) -> Heard:
  parts = list(sentences(response))
  asked = [sentence for sentence, asks in parts if asks]
  return Heard(response, asked, "".join(sentence for sentence, asks in parts if not asks))


def _readable(intent: Intent) -> bool:
  """A record may bring an intent of its own."""
  text, kind = intent.get("text"), intent.get("kind")
  whole = isinstance(text, str) and bool(text.strip()) and kind in KINDS
  if kind != "slot":
    return whole
  slots, called = intent.get("slots"), intent.get("words")
  if not (isinstance(slots, dict) and slots and isinstance(called, list)):
    return False
  return whole and all(isinstance(value, str) for value in slots.values())


# ---------------------------------------------------------------- what was told


def fits(heard: Heard, intent: Intent) -> bool:
  """Whether what a response says besides its question is what the user wants.

  slot: it states the slots, as the judge of concierge reads it. meaning, and statement with a short
  answer: the answer stands there. Else: half of the statement's words do.
  """
  if intent["kind"] == "slot":
    return confirmation.states(heard.response, intent["slots"])
  answer = str(intent.get("answer") or "")
  if intent["kind"] == "meaning" or 0 < words(answer) <= SHORT:
    return contains(heard.told, answer)
  return share(subject(intent["text"]), subject(heard.told)) >= COVERED


def answers(heard: Heard, request: str, intent: Intent) -> bool:
  """Whether a response answers besides asking (AQ), rightly or not.

  slot: it names half of the slots that the request had. Else: a word that is neither the request's
  nor a courtesy.
  """
  if intent["kind"] == "slot":
    given = intent["slots"].keys() - {intent.get("lacking")}
    return share(given, set(confirmation.named(heard.response, intent["slots"]))) >= COVERED
  return bool(subject(heard.told) - subject(request) - _COURTESY)


# ---------------------------------------------------------------- what was asked


def apt(asked: Sequence[str], request: str, intent: Intent) -> bool:
  """Whether the questions of a response seek the user's fact: see docs/users.md."""
  text = " ".join(asked)
  if not 1 <= len(asked) <= MOST_QUESTIONS or words(text) > MOST_WORDS:
    return False
  return KINDS[intent["kind"]](text, request, intent)


def _names_the_slot(text: str, request: str, intent: Intent) -> bool:
  if not intent.get("lacking"):
    return True  # of a complete request: the user says it again, which costs a turn
  names = map(plain, map(str, [intent["lacking"], intent.get("called", ""), *intent["words"]]))
  return any(each and f" {each} " in f" {plain(text)} " for each in names)


def _tells_readings_apart(text: str, request: str, intent: Intent) -> bool:
  # of all readings: asked after another one than meant, the user says which it is
  readings = [intent["text"], *map(str, intent.get("readings", ()))]
  apart = set[str]().union(*map(subject, readings)) - subject(request)
  # a question with one reading has nothing apart
  return bool(subject(text) & (apart or subject(intent["text"])))


def _asks_for_the_statement(text: str, request: str, intent: Intent) -> bool:
  return bool(subject(text) & (subject(intent["text"]) | _DETAILS))


KINDS = {
  "slot": _names_the_slot,
  "meaning": _tells_readings_apart,
  "statement": _asks_for_the_statement,
}
