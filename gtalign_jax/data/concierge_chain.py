"""What a perfect speaker of the concierge writes: responses, and whole chains of fixed length.

The words of a chain do not depend on its matrix, and its analysis writes numbers with a sign and
one digit: so a chain has the same length whatever the payoffs are, and the payoffs can be computed
from the lengths (data/concierge.py).
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.concierge_words import KINDS, Kind
from gtalign_jax.types import ACTIONS, CELLS, FORMS, GAME, REASONING, USER_TYPES

# Tenths of payoff at which the written scale ends: two such numbers still have a sum of one digit.
MOST = 49
_WORD = re.compile(r"[\w:]+")


class Case(NamedTuple):
  """A request as its speaker knows it.

  slots: the values that were named. lacking: is the open slot left out? replied: has the user
  named it since, in an answer or a correction?
  """

  kind: Kind
  slots: dict[str, str]
  lacking: bool
  replied: bool = False

  @property
  def user_type(self) -> int:
    """Index of USER_TYPES."""
    return int(self.lacking and not self.replied)


class Chain(NamedTuple):
  """The blocks of one chain of the form game, in their order; payoff is JSON."""

  thinking: str
  payoff: str
  analyze: str
  response: str

  def text(self, form: str = GAME) -> str:
    """The completion, what `form` has of it. No white space between blocks: tokens cost time."""
    return "".join(f"<{b}>{getattr(self, b)}</{b}>" for b in FORMS[form]) or self.response

  def reasoning(self, form: str = GAME) -> int:
    """Characters of thinking and analyze, as far as `form` has them."""
    return sum(len(getattr(self, b)) for b in FORMS[form] if b in REASONING)


def case(extra_info: dict[str, Any]) -> Case:
  """The case of a record's extra_info."""
  return Case(
    KINDS[extra_info["kind"]], dict(extra_info["slots"]), extra_info["lacking"] is not None
  )


def confirmation(kind: Kind, slots: dict[str, str]) -> str:
  """The right answer where `slots` are meant."""
  return kind.line.format(**slots)


def said(kind: Kind, value: str) -> str:
  """What the user says of the open slot."""
  return kind.say.format(**{kind.open: value})


def heard(kind: Kind, reply: str) -> str | None:
  """The value of the open slot that a reply names; None where it names none, or several."""
  words = f" {' '.join(_WORD.findall(reply.lower()))} "
  values = (kind.default, *kind.others)
  found = [value for value in values if f" {value.lower()} " in words]
  return found[0] if len(found) == 1 else None


def response(case: Case, action: int) -> str:
  """What the action (index of ACTIONS) says to the user; the default stands for what is lacking."""
  kind, slots = case.kind, {case.kind.open: case.kind.default} | case.slots
  line = confirmation(kind, slots)
  question = kind.ask if case.user_type else f"Shall I go on with that {kind.called}?"
  if ACTIONS[action] == "DA":
    return line
  if ACTIONS[action] == "CQ":
    return question
  return f"{line} Is {slots[kind.open]} right?"


def write(case: Case, action: int, tenths_UAR: np.ndarray) -> Chain:
  """The chain that takes `action`, the choice of the matrix (int tenths of payoff [2, 3, 2]).

  A chain for a case that was replied to is of a definite request.
  """
  kind, u = case.kind, case.user_type
  named = ", ".join(case.slots[slot] for slot in kind.slots if slot != kind.open)
  found = f"left out, {kind.default} {kind.sure}" if u else case.slots.get(kind.open, kind.default)
  return Chain(
    # what the request says goes first: a small model finds what is missing by copying the rest
    f"{named}; {kind.called}: {found}. So it is {USER_TYPES[u]}.",
    numbers(tenths_UAR),
    analysis(tenths_UAR, u, ACTIONS[action]),
    response(case, action),
  )


def numbers(tenths_UAR: np.ndarray) -> str:
  """The payoff block of a matrix in int tenths."""
  cells = zip(CELLS, tenths_UAR.reshape(6, 2).tolist(), strict=True)
  found = {cell: {"LLM": llm / 10, "user": user / 10} for cell, (llm, user) in cells}
  return json.dumps(found, separators=(",", ":"))  # a payoff object is half of a chain's tokens


def analysis(tenths_UAR: np.ndarray, user_type: int, action: str) -> str:
  """The sum of each cell of the row of `user_type`, and the cell of `action`, its choice.

  tenths_UAR: int tenths of payoff.
  """
  row, pairs_AR = f"{USER_TYPES[user_type]}_", tenths_UAR[user_type].tolist()
  most = _number(sum(pairs_AR[ACTIONS.index(action)]))
  # one step at a time, for a small model: both numbers are found before they are added, and the
  # largest sum before the cell that has it (docs/steering.md)
  sums = ", ".join(
    f"{row}{each} {_number(llm)} {_number(user)} = {_number(llm + user)}"
    for each, (llm, user) in zip(ACTIONS, pairs_AR, strict=True)
  )
  return f"Sums: {sums}. The largest is {most}, {row}{action}."


def _number(tenths: int) -> str:
  return f"{tenths / 10:+.1f}"


def rounded(utility_UAR: np.ndarray) -> np.ndarray:
  """Utilities in [0, 1] as int tenths of payoff, z = 10 R - 5 to one decimal, within +-4.9."""
  return np.clip(np.round(100 * utility_UAR - 50), -MOST, MOST).astype(int)
