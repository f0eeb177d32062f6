"""What a record's label says about the right reply: its question type, and what each action says.

The sentences are in `wordings.toml`; here is which of them fits a record. Every draw from `rng`
belongs to what a seed means, so drawing more, less or in another order gives other chains. All
three actions of a record can be put into words: which one is taken, the matrix says (payoffs.py).
"""

from __future__ import annotations

import random
import re
import tomllib
from importlib import resources
from typing import Any, NamedTuple

from gtalign_jax.data import intents, prompts
from gtalign_jax.data.records import Record
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, features
from gtalign_jax.types import ACTIONS
from gtalign_jax.wording import share, subject

WORDINGS: dict[str, Any] = tomllib.loads(
  resources.files("gtalign_jax.synthesize").joinpath("wordings.toml").read_text("utf-8")
)
STATED = 0.5  # share of the full intent's subject that the user has said in a complete request
MAX_WORDS = 44  # of an excerpt of a reference text
MAX_MEANING = 12  # words of one meaning in a clarifying question
_LIMITS = RewardConfig()
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]{4,}")  # shorter ones say little of a subject
_END = re.compile(r"(?<=[.!])\s+")
_FILLER = subject(WORDINGS["filler"])
_FORM = re.compile(rf"\b(?:{'|'.join(WORDINGS['forms'].split())})\b", re.I)


class Case(NamedTuple):
  """What a record lets one say. kind: a family of wordings. slots: what they are filled with."""

  kind: str
  slots: dict[str, str]

  @property
  def user_type(self) -> str:
    """Follows from the kind, so that the two cannot disagree."""
    return WORDINGS[self.kind]["type"]


def response(case: Case, action: str) -> str:
  """Plain text that carries the action out, whatever the record's texts hold.

  The kind's wordings are in order of preference, the last one good for any text: a question mark in
  the record's own text can turn an answer into a question, and so on.
  """
  words, cell = WORDINGS[case.kind], ACTIONS.index(action)
  slots = {name: text for name, text in words.items() if isinstance(text, str)} | case.slots
  plain = {f"{name}_plain": _no_question(text) for name, text in slots.items()}
  for wording in words[action]:
    said = clean(wording.format(**slots, **plain))
    if said and features.carried_out(cell, said, _LIMITS.cq_max_words, _LIMITS.aq_min_words):
      return said
  raise AssertionError(f"no wording of {case.kind} carries out {action}: {case.slots}")


def _case(kind: str, rng: random.Random, **slots: str) -> Case:
  """A case of the kind; of each list that its `drawn` names, one entry is a slot."""
  words = WORDINGS[kind]
  drawn = {name: rng.choice(words[name]) for name in words.get("drawn", ())}
  return Case(kind, drawn | slots)


def clean(text: str) -> str:
  """One line without block tags and special tokens: a quoted text must not break the chain."""
  marks = [tag for pair in chain.TAGS for tag in pair] + ["<|"]
  while any(mark in text for mark in marks):  # again: taking one out can put another together
    for mark in marks:
      text = text.replace(mark, " ")
  return " ".join(text.split())


def _reference(record: Record) -> str:
  """The record's own line to build an answer on, "" if it has none that can be quoted."""
  text = record.extra_info.get("reference")  # the sample set has one; released records do not
  return clean(text) if isinstance(text, str) and clean(_no_question(text)) else ""


def topic(record: Record, most: int = 3) -> list[str]:
  """Words that say what the user's turns are about, the last turn's first."""
  found: dict[str, str] = {}  # stem -> the word as it was written, one per stem
  for text in reversed(turns(record, "user")):
    for word in _WORD.findall(text):
      for stem in subject(word) - _FILLER:
        found.setdefault(stem, word)
  return [clean(word) for word in list(found.values())[:most]]


def turns(record: Record, *roles: str) -> list[str]:
  """The turns of the conversation, those of `roles` alone where some are given."""
  turns = prompts.conversation(record)[1]
  return [turn["content"] for turn in turns if not roles or turn["role"] in roles]


def is_complete(record: Record) -> bool:
  """Has the user said what the full intent (`single_turn_prompt`) says? True if none is known."""
  whole = record.extra_info.get("single_turn_prompt")
  if not isinstance(whole, str) or not whole:
    return True  # what was said is all there is
  whole, said = _without_drawings(whole), " ".join(turns(record))
  numbers = set(_NUMBER.findall(whole)) <= set(_NUMBER.findall(said))
  return numbers and share(subject(whole), subject(said)) >= STATED


def _without_drawings(text: str) -> str:
  """The text without [asy] … [/asy], whose coordinates are no numbers that a user says."""
  kept, *drawings = text.split("[asy]")
  # a drawing that never ends is text; looking for its end from every beginning would be quadratic
  return kept + "".join(
    " " + each.partition("[/asy]")[2] if "[/asy]" in each else "[asy]" + each for each in drawings
  )


def case(record: Record, rng: random.Random) -> Case:
  """The case of a record, by its label; `rng` picks among wordings that suit alike."""
  truth = record.ground_truth or ""
  # advbench has no labels: all of it is harmful
  if record.data_source == "advbench" or truth == "harmful":
    offer = _reference(record) or rng.choice(WORDINGS["refuse"]["offers"])
    return _case("refuse", rng, offer=offer)
  if truth == "unharmful":
    text = _reference(record)
    return _case("help", rng, text=text) if text else _focus(record, rng)
  if truth.startswith("singleAnswer###"):
    return _case("answer", rng, truth=truth.partition("###")[2].strip().rstrip("."))
  if truth.startswith("multipleQAs###"):
    return _meanings(record, truth, rng)
  if record.data_source == "medium" and truth:
    return _writing(record, truth, rng)
  # a label is no answer, and a problem that was not stated cannot be solved
  if not truth or truth in ("ambiguous", "non_ambiguous") or not is_complete(record):
    return _unstated(record, rng)
  own = {"working": working} if (working := _reference(record)) else {}
  return _case("solve", rng, truth=truth.strip("$"), **own)  # some come in dollars


def _meanings(record: Record, truth: str, rng: random.Random) -> Case:
  words = WORDINGS["meanings"]
  pairs = [
    (_inner(meaning), answer) for meaning, answer in intents.readings(truth.partition("###")[2])
  ]
  rng.shuffle(pairs)  # else the two readings that the label lists first would always be the ones
  generic = words["generic"].format(topic=_no_question(" ".join(topic(record)) or "this"))
  slots = {"question": generic, "answer": words["safe"], "guess": words["usual"], "last": generic}
  if len(pairs) > 1:
    (whole, first), (other, _) = pairs[:2]
    one, two = _difference(whole, other)
    # meanings that are quoted at length would break the word limit of a clarifying question
    if max(len(one.split()), len(two.split())) <= MAX_MEANING:
      of = {"one": one, "two": two, "first": first}
      slots = {name: rng.choice(said).format(**of) for name, said in words["quoted"].items()}
  return _case("meanings", rng, generic=generic, **slots)


def _difference(one: str, two: str) -> tuple[str, str]:
  """Two meanings without their common first and last words; whole where one would be empty."""
  a, b = one.split(), two.split()
  shorter = min(len(a), len(b))
  start = next((i for i in range(shorter) if a[i] != b[i]), shorter)
  left = shorter - start  # the same word must not count at both ends
  end = next((i for i in range(left) if a[-1 - i] != b[-1 - i]), left)
  inner = " ".join(a[start : len(a) - end]), " ".join(b[start : len(b) - end])
  return inner if all(map(subject, inner)) else (one, two)


def _focus(record: Record, rng: random.Random) -> Case:
  """A harmless request for which the record holds no answer: ask where to begin."""
  asked = subject(" ".join(turns(record)))
  # about an eighth of what was said, so that a long request is not asked back in three words
  named = topic(record, most=min(max(3, -(-len(asked) // 8)), 7))
  words = WORDINGS["open"]
  question = words["first"]
  if len(named) > 1:
    question = rng.choice(words["ask"]).format(words=f"{', '.join(named[:-1])} or {named[-1]}")
  short = rng.choice(words["gist"]).format(words=" and ".join(named) or "this")
  return _case("open", rng, question=question, short=short)


def _writing(record: Record, truth: str, rng: random.Random) -> Case:
  truth = clean(_no_question(truth))  # a text that asks its reader something is no question back
  excerpt = _excerpt(truth, MAX_WORDS)
  if is_complete(record) and excerpt:
    return _case("write", rng, excerpt=excerpt)
  words, form = WORDINGS["draft"], _FORM.search(" ".join(reversed(turns(record, "user"))))
  about = [word for word in topic(record) if not _FORM.fullmatch(word)][:1]
  kind = form[0].lower() if form else "text"  # as far as the user has said it
  named = f"the {kind} about {about[0]}" if about else f"the {kind}"
  question = rng.choice(words["ask"]).format(named=named)
  # a taste of it: what the reply asks is the point
  opening = _excerpt(truth, most=20) or words["plan"]
  return _case("draft", rng, opening=opening, question=question)


def _unstated(record: Record, rng: random.Random) -> Case:
  words = WORDINGS["unstated"]
  about = " and ".join(topic(record, most=2)) or "your question"
  question = words["named"].format(topic=about)
  if record.data_source in ("math-hard", "minerva"):
    question = rng.choice(words["problem"])
  attempt = words["attempt"].format(topic=about)
  return _case("unstated", rng, attempt=attempt, question=question)


def _no_question(text: str) -> str:
  """The text with its question marks gone, for answers such as titles that end in one."""
  return text.replace("?", "").replace("\uff1f", "").strip()


def _inner(meaning: str) -> str:
  """A meaning as part of a question: no end mark, no capital that a sentence start gave it."""
  text = _no_question(meaning).strip(" .!")
  lower = text.split()[:1] and text.split()[0].lower() in WORDINGS["starts"]
  return text[:1].lower() + text[1:] if lower else text


def _excerpt(text: str, most: int) -> str:
  """The opening of a reference text: whole sentences, at most `most` words."""
  kept: list[str] = []
  for sentence in _END.split(text):
    # a first sentence is kept whatever its length: an excerpt must not be empty
    if kept and len(" ".join([*kept, sentence]).split()) > most:
      break
    kept.append(sentence)
  words = " ".join(kept).split()
  # only a first sentence longer than `most` is cut
  return " ".join(words[:most]) + (" …" if len(words) > most else "")
