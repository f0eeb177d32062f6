"""What a record's user means and no prompt says: the private intent of a conversation (FORMULAS 9).

`extra_info.intent` of a record holds it, JSON-ready: kind ("slot", "meaning" or "statement"), text
(the fact in the user's words, which answers an apt question), answer (what a right final answer
holds), and what else its kind needs.
"""

from __future__ import annotations

import random
import re
from typing import Any

from gtalign_jax.data import concierge, prompts
from gtalign_jax.data.records import Record

KEY = "intent"  # of extra_info
# how the released labels of ambig_qa spell several readings, a line each
_MEANING = re.compile(r"Meaning \d+:")
_ANSWER = re.compile(r";\s*+Answer \d+:")


def given(record: Record, seed: int, step: int | None, turns: int) -> Record:
  """The record with the intent of its user, a function of (seed, step, id) alone.

  So all samples of a prompt meet the same user. step: of training; None: in evaluations. Without
  later turns (turns = 1) only concierge has one. One that a record brings is kept.
  """
  if isinstance(record.extra_info.get(KEY), dict):
    return record
  at = "" if step is None else step
  # not hash(), which Python salts per process: all processes must meet the same user
  rng = random.Random(f"{seed}/intent/{at}/{record.id}")
  found = _drawn(record, turns, rng)
  return record if found is None else record._replace(extra_info=record.extra_info | {KEY: found})


def _drawn(record: Record, turns: int, rng: random.Random) -> dict[str, Any] | None:
  if record.data_source == concierge.SOURCE:
    return concierge.intent(record, rng)
  if turns == 1 or record.ground_truth is None:
    return None
  if record.data_source == "ambig_qa":
    return _meaning(record, record.ground_truth, rng)
  if record.data_source in ("math-hard", "minerva", "medium"):
    return {"kind": "statement", "text": _whole(record), "answer": record.ground_truth}
  return None


def _meaning(record: Record, label: str, rng: random.Random) -> dict[str, Any] | None:
  """One of the readings of a question of ambig_qa; None where the label has none."""
  kind, _, rest = label.partition("###")
  known = [(_whole(record), rest.strip())] if kind == "singleAnswer" else readings(rest)
  if not known:
    return None
  text, answer = rng.choice(known)
  every = [each for each, _ in known]
  return {"kind": "meaning", "text": text, "answer": answer, "readings": every}


def _whole(record: Record) -> str:
  """The user's full intent in words, as far as the record has it."""
  whole = record.extra_info.get("single_turn_prompt")
  if isinstance(whole, str) and whole:
    return whole
  return prompts.conversation(record)[1][-1]["content"]


def readings(label: str) -> list[tuple[str, str]]:
  """(meaning, its answer) of each line that has both."""
  found = []
  for line in label.split("\n"):
    start = _MEANING.search(line)
    middle = _ANSWER.search(line, start.end()) if start else None
    if start and middle:
      found.append((line[start.end() : middle.start()].strip(), line[middle.end() :].strip()))
  return found
