"""What a record's label says about the right reply: question type, action, and a response to carry it out."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from gtalign_jax.data import prompts
from gtalign_jax.data.records import Record
from gtalign_jax.rewards import chain, features
from gtalign_jax.rewards.rules.text import share, subject
from gtalign_jax.sections import RewardConfig
from gtalign_jax.types import ACTIONS, USER_TYPES

STATED = 0.5  # share of the full intent's subject that the user has said in a complete request
MAX_WORDS = 52  # of an excerpt of a reference text
MAX_MEANING = 12  # words of one meaning in a clarifying question
_LIMITS = RewardConfig()
_NUMBER = re.compile(r"\d+")
_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.S)
_QA = re.compile(r"Meaning \d+:\s*(.*?)\s*;\s*Answer \d+:\s*(.*?)\s*(?:\n|$)")
_WORD = re.compile(r"[^\W\d_]{4,}")
_END = re.compile(r"(?<=[.!])\s+")
# Words of requests that say nothing of their subject.
_FILLER = subject(
  """above again already blog anyone anything because being below between could detailed different draft
  enough everyone exactly explain feel figure following frac going good great hello know little look
  looking looks makes many maybe mean much none please point prepare problem question ready really right said
  sense share short show someone something sqrt start step still sure text than thank thanks today
  trying under user using value walk wants words works would writing yourself"""
)
# Kinds of text that a writing request may name.
_FORM = re.compile(
  r"\b(?:ad|announcement|article|card|description|email|flyer|introduction|letter|message|note|paragraph"
  r"|poem|post|review|speech|statement|story|talk|text|toast)\b",
  re.I,
)
# What a refusal can offer where the record names nothing better.
_OFFERS = (
  "explain the risks and the law in general terms",
  "suggest safe and legal ways to reach your goal",
  "point you to people who can support you",
  "talk about what is behind this",
  "help you settle the matter without harming anyone",
)


class Reply(NamedTuple):
  """kind: which family of wording fits the thinking block (labels.WORDING). response: plain text."""

  kind: str
  user_type: str
  action: str
  response: str


class Draft(NamedTuple):
  """A reply in the making: wordings in order of preference, the last one good for any text."""

  kind: str
  user_type: str
  action: str
  wordings: tuple[str, ...]


def reply(record: Record, rng: random.Random) -> Reply:
  """The reply that the label calls for; `rng` picks among actions and wordings that suit it alike."""
  draft = _by_source(record, rng)
  cell = 3 * USER_TYPES.index(draft.user_type) + ACTIONS.index(draft.action)
  for wording in draft.wordings:
    response = clean(wording)
    limits = (_LIMITS.cq_max_words, _LIMITS.aq_min_words)
    if response and features.carried_out(cell, response, *limits):
      return Reply(draft.kind, draft.user_type, draft.action, response)
  raise AssertionError(f"{record.id}: no wording carries out {draft.action}")  # see Draft


def clean(text: str) -> str:
  """One line without block tags and special tokens, so that a quoted text cannot break the chain."""
  marks = [tag for pair in chain.TAGS for tag in pair] + ["<|"]
  while any(mark in text for mark in marks):
    for mark in marks:
      text = text.replace(mark, " ")
  return " ".join(text.split())


def _reference(record: Record) -> str:
  """The record's own line to build an answer on, "" if it has none that can be quoted."""
  text = record.extra_info.get("reference")
  return clean(text) if isinstance(text, str) and clean(_no_question(text)) else ""


def topic(record: Record, most: int = 3) -> list[str]:
  """Words that say what the user's turns are about, the last turn's first."""
  found: dict[str, str] = {}
  for text in reversed(_said(record)):
    for word in _WORD.findall(text):
      for stem in subject(word) - _FILLER:
        found.setdefault(stem, word)
  return [clean(word) for word in list(found.values())[:most]]


def _said(record: Record) -> list[str]:
  turns = prompts.conversation(record)[1]
  return [turn["content"] for turn in turns if turn["role"] == "user"]


def is_complete(record: Record) -> bool:
  """Has the user said what the full intent (`single_turn_prompt`) says? True where none is recorded."""
  whole = record.extra_info.get("single_turn_prompt")
  if not isinstance(whole, str) or not whole:
    return True
  whole = _DRAWING.sub(" ", whole)
  said = " ".join(turn["content"] for turn in prompts.conversation(record)[1])
  numbers = set(_NUMBER.findall(whole)) <= set(_NUMBER.findall(said))
  return numbers and share(subject(whole), subject(said)) >= STATED


def _by_source(record: Record, rng: random.Random) -> Draft:
  truth = record.ground_truth or ""
  if record.data_source == "advbench" or truth == "harmful":
    return _refusal(record, rng)
  if truth == "unharmful":
    return _help(record, rng)
  if truth.startswith(("singleAnswer###", "multipleQAs###")):
    return _answer(truth, rng) if truth.startswith("single") else _meanings(record, truth, rng)
  if record.data_source == "medium" and truth:
    return _writing(record, truth, rng)
  # a label is no answer, and a problem that was not stated cannot be solved
  if not truth or truth in ("ambiguous", "non_ambiguous") or not is_complete(record):
    return _unstated(record, rng)
  return _solution(record, truth, rng)


def _solution(record: Record, truth: str, rng: random.Random) -> Draft:
  working = _reference(record) or rng.choice(
    ("From what is given the result follows.", "Working it through leaves one value.")
  )
  answer = f"{working} The answer is ${truth.strip('$')}$."
  if rng.random() < 0.15:
    more = rng.choice(("Shall I show every step?", "Would another example help?"))
    plain = f"The answer is {_no_question(truth)}, worked out from the given values. {more}"
    return Draft(
      "solve", "DQ", "AQ", (f"{answer} {more}", plain, f"This is my result for it. {more}")
    )
  return Draft("solve", "DQ", "DA", (answer, _no_question(answer)))


def _answer(truth: str, rng: random.Random) -> Draft:
  answer = truth.partition("###")[2].strip().rstrip(".")
  forms = ("It is {}.", "The answer is {}.", "That is {}.", "The answer to this is {}.")
  text = rng.choice(forms).format(answer)
  if rng.random() < 0.15:
    sure = "The question has one common reading, so I can give this answer directly."
    more = rng.choice(("Would you like some background?", "Is there more that you want to know?"))
    return Draft(
      "answer",
      "DQ",
      "AQ",
      (f"{text} {sure} {more}", f"{_no_question(text)} {sure} {more}"),
    )
  return Draft("answer", "DQ", "DA", (text, _no_question(text)))


def _meanings(record: Record, truth: str, rng: random.Random) -> Draft:
  pairs = [(_inner(meaning), answer) for meaning, answer in _QA.findall(truth.partition("###")[2])]
  rng.shuffle(pairs)
  about = " ".join(topic(record)) or "this"
  generic = f"Which of several readings of {_no_question(about)} do you mean?"
  safe = "Your question has several readings, each with its own answer."
  if len(pairs) < 2:
    return Draft("meanings", "VQ", "CQ", (generic, "Which of several readings do you mean?"))
  (whole, first), (other, _) = pairs[:2]
  one, two = _difference(whole, other)
  short = max(len(one.split()), len(two.split())) <= MAX_MEANING
  ask = rng.choice(("Do you mean “{}” or “{}”?", "Which do you mean: “{}” or “{}”?"))
  question = ask.format(one, two) if short else generic
  if rng.random() < 0.3:
    answer = f"If you mean “{one}”, it is {first}." if short else safe
    last = f"Or do you mean “{two}”?" if short else generic
    lines = (f"{answer} {last}", f"{_no_question(answer)} {generic}", f"{safe} {generic}")
    return Draft("meanings", "VQ", "AQ", (*lines, f"{safe} Which one do you mean?"))
  return Draft(
    "meanings", "VQ", "CQ", (question, generic, "Which of several readings do you mean?")
  )


def _difference(one: str, two: str) -> tuple[str, str]:
  """Two meanings without the words that both begin or end with; whole where one would be empty."""
  a, b = one.split(), two.split()
  shorter = min(len(a), len(b))
  start = next((i for i in range(shorter) if a[i] != b[i]), shorter)
  left = shorter - start
  end = next((i for i in range(left) if a[-1 - i] != b[-1 - i]), left)
  inner = " ".join(a[start : len(a) - end]), " ".join(b[start : len(b) - end])
  return inner if all(map(subject, inner)) else (one, two)


def _refusal(record: Record, rng: random.Random) -> Draft:
  offer = _reference(record) or rng.choice(_OFFERS)
  no = rng.choice(
    ("I can't help with that", "I won't help with that", "I can't help with this request")
  )
  why = rng.choice((", as it could hurt someone", ", because it could do harm", ""))
  text = f"{no}{why}. Instead, I can {offer}."
  if rng.random() < 0.25:
    more = rng.choice(("Would that help you?", "Shall we start there?"))
    return Draft("refuse", "DQ", "AQ", (f"{text} {more}", f"{_no_question(text)} {more}"))
  return Draft("refuse", "DQ", "DA", (text, _no_question(text)))


def _help(record: Record, rng: random.Random) -> Draft:
  text = _reference(record)
  if not text:
    return _focus(record, rng)
  if rng.random() < 0.3:
    more = rng.choice(("Would you like more detail?", "Which part shall I go into?"))
    safe = "Happy to help with this one. "
    return Draft("help", "DQ", "AQ", (f"{text} {more}", f"{safe}{_no_question(text)} {more}"))
  return Draft("help", "DQ", "DA", (text, _no_question(text)))


def _focus(record: Record, rng: random.Random) -> Draft:
  """A harmless request for which the record holds no answer: ask where to begin."""
  asked = subject(" ".join(turn["content"] for turn in prompts.conversation(record)[1]))
  words = topic(record, most=min(max(3, -(-len(asked) // 8)), 7))
  start = rng.choice(("Happy to help.", "I can help with this.", "Gladly."))
  if len(words) < 2:
    return Draft("open", "VQ", "CQ", (f"{start} What would you like to know first?",))
  ask = rng.choice(("Which should I begin with: {}?", "Which part matters most to you: {}?"))
  question = ask.format(", ".join(words[:-1]) + f" or {words[-1]}")
  return Draft(
    "open", "VQ", "CQ", (f"{start} {question}", f"{start} What would you like to know first?")
  )


def _writing(record: Record, truth: str, rng: random.Random) -> Draft:
  truth = clean(_no_question(truth))
  excerpt = _excerpt(truth)
  if is_complete(record) and excerpt:
    return Draft("write", "DQ", "DA", (excerpt,))
  form = _form(record)
  about = [word for word in topic(record) if not _FORM.fullmatch(word)][:1]
  named = f"the {form} about {about[0]}" if about else f"the {form}"
  asks = (
    f"Who are the readers of {named}, and what should it say?",
    f"Who is {named} for, and how long should it be?",
    f"What should {named} say, and in what tone?",
  )
  question = rng.choice(asks)
  safe = "Who will read the text, and what should it say?"
  opening = _excerpt(truth, most=20)
  if opening and rng.random() < 0.35:
    lead = f"It could begin like this: {opening}"
    lines = (f"{lead} {question}", f"{lead} {safe}", f"I can draft it at once. {safe}")
    return Draft("draft", "VQ", "AQ", lines)
  return Draft("draft", "VQ", "CQ", (question, safe))


def _form(record: Record) -> str:
  """The kind of text that the user asked for, as far as it was said."""
  found = _FORM.search(" ".join(reversed(_said(record))))
  return found[0].lower() if found else "text"


def _unstated(record: Record, rng: random.Random) -> Draft:
  about = topic(record, most=2)
  if record.data_source in ("math-hard", "minerva"):
    asks = (
      "Could you give me the exact problem with all its numbers?",
      "What exactly is given, and what is asked for?",
    )
    return Draft("unstated", "VQ", "CQ", (rng.choice(asks), asks[1]))
  named = " and ".join(about) if about else "your question"
  asks = (f"Could you specify what you mean by {named}?", "Could you specify what you mean?")
  return Draft("unstated", "VQ", "CQ", asks)


def _no_question(text: str) -> str:
  """The text with its question marks gone, for answers such as titles that end in one."""
  return text.replace("?", "").replace("\uff1f", "").strip()


def _inner(meaning: str) -> str:
  """A meaning as part of a question: no end mark, no capital that a sentence start gave it."""
  text = _no_question(meaning).strip(" .!")
  words = text.split()
  lower = words and words[0].lower() in (
    "who",
    "what",
    "when",
    "where",
    "which",
    "how",
    "why",
    "in",
  )
  return text[:1].lower() + text[1:] if lower else text


def _excerpt(text: str, most: int = MAX_WORDS) -> str:
  """The opening of a reference text: whole sentences, at most `most` words."""
  kept: list[str] = []
  for sentence in _END.split(text):
    if kept and len(" ".join([*kept, sentence]).split()) > most:
      break
    kept.append(sentence)
  words = " ".join(kept).split()
  return " ".join(words[:most]) + (" …" if len(words) > most else "")
