"""Concierge: requests whose game has a known solution (FORMULAS 11), made by code from a seed.

A request names all its slots, or leaves out the one that its kind leaves open; the system message
says what is meant then, and how surely. What the user of this conversation means is drawn by
`intent` and stands in no prompt.
"""

from __future__ import annotations

import hashlib
import random
import re
from typing import Any

from gtalign_jax.concierge_words import KINDS, VALUES, Kind
from gtalign_jax.data import concierge_chain as chains
from gtalign_jax.data.concierge_game import best_action as best_action
from gtalign_jax.data.concierge_game import choice as choice
from gtalign_jax.data.concierge_game import matrix as matrix
from gtalign_jax.data.concierge_game import speak as speak
from gtalign_jax.data.concierge_game import spoken as spoken
from gtalign_jax.data.concierge_game import true_payoffs as true_payoffs
from gtalign_jax.data.concierge_game import true_score as true_score
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.types import ACTIONS

SOURCE = "concierge"
SIZES = {"train": 4000, "test": 400}  # most records of a split
SEED = 0  # of the records of the source, whatever the seed of a run: one test set for all
TEST_SHARE = 8  # one request in so many is of the test split, by its text
_OPEN = re.compile(r"\[([^]]*)\]")


def records(split: str, n: int, seed: int = SEED) -> list[Record]:
  """The first `n` records of a split, a pure function of (split, seed); no two requests are equal.

  Kinds take turns, and of each kind complete and lacking requests do. Raises BadInput for a split
  that is not train or test, and for more records than SIZES has.
  """
  if not 0 <= n <= SIZES.get(split, 0):
    known = ", ".join(f"{size} of {name!r}" for name, size in SIZES.items())
    raise BadInput(f"concierge: {n} records of {split!r} were asked for; it has {known}")
  found: list[Record] = []
  seen: set[str] = set()
  while len(found) < n:
    at = len(found)
    name = list(KINDS)[at % len(KINDS)]
    rng = random.Random(f"{seed}/{SOURCE}/{split}/{at}")
    lacking = at // len(KINDS) % 2 == 1
    asked, slots = _fresh(KINDS[name], lacking, split, rng, seen)
    found.append(_record(name, lacking, asked, slots, f"{SOURCE}/{split}/{at}"))
  return found


def _fresh(
  kind: Kind, lacking: bool, split: str, rng: random.Random, seen: set[str]
) -> tuple[str, dict[str, str]]:
  """A request of the split that was not seen yet, with the values of its slots."""
  while True:
    slots = {slot: rng.choice(VALUES[slot]) for slot in kind.slots}
    wording = rng.choice(kind.requests)
    asked = _OPEN.sub("" if lacking else r"\1", wording).format(**slots)
    # by the text, so that the splits have nothing in common whatever the seeds and sizes are
    is_test = hashlib.sha256(asked.encode()).digest()[0] % TEST_SHARE == 0
    if is_test == (split == "test") and asked not in seen:
      seen.add(asked)
      return asked, slots


def _record(name: str, lacking: bool, asked: str, slots: dict[str, str], id: str) -> Record:
  kind = KINDS[name]
  if lacking:
    del slots[kind.open]
  rule = f"If the {kind.called} is left out, {kind.default} is meant {kind.sure}."
  return Record(
    id=id,
    data_source=SOURCE,
    messages=[{"role": "system", "content": rule}, {"role": "user", "content": asked}],
    ground_truth=f"{'lacking' if lacking else 'complete'}###{kind.called}",
    extra_info={
      "kind": name, "slots": slots, "lacking": kind.open if lacking else None,
      "default": kind.default, "q": kind.q,
    },
  )  # fmt: skip


def intent(record: Record, rng: random.Random) -> dict[str, Any]:
  """What the user of one conversation means: the default with probability q where a slot lacks.

  kind "slot"; text: what answers a question; answer: the right confirmation; slots: all values;
  lacking: name of the slot or None; called, words: what a question may call it; default, and
  whether it is meant (True of complete requests).
  """
  kind, case = KINDS[record.extra_info["kind"]], chains.case(record.extra_info)
  value, text = case.slots.get(kind.open, kind.default), record.messages[-1]["content"]
  if case.lacking:
    # the draw goes first, so that both its outcomes use the same stream
    value = kind.default if rng.random() < record.extra_info["q"] else rng.choice(kind.others)
    text = chains.said(kind, value)
  slots = {slot: {**case.slots, kind.open: value}[slot] for slot in kind.slots}
  return {
    "kind": "slot", "text": text, "answer": chains.confirmation(kind, slots), "slots": slots,
    "lacking": record.extra_info["lacking"], "called": kind.called, "words": list(kind.words),
    "default": kind.default, "meant": not case.lacking or value == kind.default,
  }  # fmt: skip


def response(record: Record, action: str) -> str:
  """What a perfect speaker says to the user who made the request, by its action."""
  return chains.response(chains.case(record.extra_info), ACTIONS.index(action))
