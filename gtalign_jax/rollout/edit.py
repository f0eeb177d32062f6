"""The edit of a chain's payoffs, on ids and text (docs/steering.md).

Sampled ids are never tokenised again: only tokens that touch the payoff object are replaced.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.errors import RunFailure
from gtalign_jax.game import pricing
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.models.vocabulary import control_ids, spell
from gtalign_jax.rewards import chain, features
from gtalign_jax.types import CELLS, ROLES

STOP = "</payoff>"
REST = "<analyze>.</analyze><response>.</response>"  # makes a whole chain of a sound opening
_NUMBER = re.compile(r"(:\s*)-?\d[-+.\deE]*")  # keys are cells and roles, so a colon tells numbers


class Opening(NamedTuple):
  """A chain up to `</payoff>`.

  ids: as sampled. text: what they spell. offsets: characters of each id. span: characters of the
  payoff object. payoff_UAR: float64. user_type: 0 DQ, 1 VQ, -1 undeclared.
  """

  ids: list[int]
  text: str
  offsets: list[tuple[int, int]]
  span: tuple[int, int]
  payoff_UAR: Any
  user_type: int


class Head(NamedTuple):
  """The beginning that all completions of a prompt share; to the engine it is a part of the prompt.

  ids: none where completions are whole chains. edited: the cell that the rule takes on its matrix,
  where that is another one than the policy wrote. charge: what the edit has added to each action;
  what follows is charged by it.
  """

  ids: Sequence[int] = ()
  edited: str | None = None
  charge: Pricing = pricing.PRESETS["free"]


def opening_of(tokenizer: Any, ids: Sequence[int]) -> list[int]:
  """Sampled ids up to the token that completes `</payoff>`; all of them where none does."""
  offsets = _offsets(tokenizer, ids)
  end = spell(tokenizer, ids).find(STOP) + len(STOP)
  if end < len(STOP):
    return list(ids)
  return list(ids[: bisect_left([each[1] for each in offsets], end) + 1])


def _offsets(tokenizer: Any, ids: Sequence[int]) -> list[tuple[int, int]]:
  return chain.token_offsets(ids, lambda part: spell(tokenizer, part))


def read(tokenizer: Any, ids: Sequence[int]) -> Opening | str:
  """The opening that `ids` spell, or the reason (one of `chain.ERRORS`) why it cannot be edited."""
  text = spell(tokenizer, ids)
  if not control_ids(tokenizer).isdisjoint(ids):
    return "stray_text"
  end = text.find(STOP) + len(STOP)
  if end < len(STOP):
    return chain.parse(text).error or "missing_block"
  found = chain.parse(text[:end] + REST)
  if found.error or found.payoff is None or found.spans[1] is None:
    return found.error or "payoff_syntax"
  if np.abs(found.payoff).max() > pricing.LARGEST:
    return "payoff_value"
  first, last = found.spans[1]
  block = text[first:last]
  start = first + len(block) - len(block.lstrip())
  span = (start, start + len(block.strip()))
  offsets, declared = _offsets(tokenizer, ids), features.user_type(found.thinking or "")
  return Opening(list(ids), text, offsets, span, found.payoff, declared)


def rewrite(written: str, payoff_UAR: Any) -> str:
  """The payoff object `written` with other numbers, one decimal each; all else stays as it is.

  written: JSON that the strict reading accepts, cells and roles in any order.
  """
  values = payoff_UAR.reshape(len(CELLS), len(ROLES))
  order = [(cell, role) for cell, roles in json.loads(written).items() for role in roles]
  numbers = (f"{values[CELLS.index(cell), ROLES.index(role)]:.1f}" for cell, role in order)
  return _NUMBER.sub(lambda match: match[1] + next(numbers), written)


def splice(tokenizer: Any, opening: Opening, new: str) -> list[int]:
  """Ids of the opening with `new` in place of its payoff object.

  Tokens that lie outside the object stay; those that touch it are replaced by tokens of `new` and
  of what else they held. Raises RunFailure where the tokenizer cannot spell that.
  """
  (start, end), ids, text = opening.span, opening.ids, opening.text
  begins, ends = [each[0] for each in opening.offsets], [each[1] for each in opening.offsets]
  first = bisect_right(ends, start)
  last = bisect_left(begins, end, lo=first)
  kept, resumed = [0, *ends][first], [*begins, len(text)][last]
  middle, wanted = text[kept:start] + new + text[end:resumed], text[:start] + new + text[end:]
  # sentencepiece writes a space before the first word; a line break in front takes it
  for anchor in ("", "\n"):
    head = tokenizer.encode(anchor, add_special_tokens=False)
    made = tokenizer.encode(anchor + middle, add_special_tokens=False)
    out = [*ids[:first], *made[len(head) :], *ids[last:]]
    if made[: len(head)] == head and spell(tokenizer, out) == wanted:
      return out
  raise RunFailure("the model's tokenizer cannot spell the edited payoffs inside the chain")
