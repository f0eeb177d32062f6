"""What both readings of a completion, the strict and the paper's, give back: blocks and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gtalign_jax.types import CELLS, FORMS, GAME, ROLES

ERRORS = (
  "missing_block",  # a block is absent, or has nothing in it
  "block_order",  # all are there, but not one after the other in order
  "repeated_block",  # a tag occurs more than once
  "stray_text",  # text outside the blocks, a special token; in a bare response, a tag
  "payoff_syntax",  # the payoff block is no JSON object
  "payoff_keys",  # … has other keys than the six cells and two roles, or a key twice
  "payoff_value",  # … holds something that is not a finite number
  "truncated",  # the text breaks off inside a block, or a bare response at the end of the budget
)
TAGS_OF = {form: tuple((f"<{b}>", f"</{b}>") for b in names) for form, names in FORMS.items()}
TAGS = TAGS_OF[GAME]

Span = tuple[int, int]
# twelve, cell by cell in the order of `types.CELLS`, LLM before user. Floats in the strict reading;
# in the paper's also booleans and integers of any size, which no float type holds
Numbers = tuple[Any, ...]

_KEYS = frozenset(CELLS)
_ROLES = frozenset(ROLES)


class Refused(Exception):
  """A payoff block that is none. The first argument is one of ERRORS."""


class Blocks(NamedTuple):
  """One completion, read, before any text is copied.

  spans: characters between the tags of each of BLOCKS, None where absent. numbers: None where the
  payoff block is refused. format: 1 if the reading's format test passes. error: None, or one of
  ERRORS.
  """

  spans: tuple[Span | None, ...]
  numbers: Numbers | None
  format: int
  error: str | None


def contents(text: str, span: Span | None) -> str | None:
  """The text of a block without surrounding white space; None where it is absent."""
  return None if span is None else text[span[0] : span[1]].strip()


def cells(table: object) -> Iterator[tuple[Any, Any]]:
  """(LLM, user) of each cell of a payoff table, unchecked, in order.

  Raises Refused at the first thing that has other keys or no values: a reader that checks each pair
  before it takes the next one reports the first fault of the text.
  """
  if not isinstance(table, dict):
    raise Refused("payoff_syntax")
  if table.keys() != _KEYS:
    raise Refused("payoff_keys")
  for key in CELLS:
    cell = table[key]
    if not isinstance(cell, dict):
      raise Refused("payoff_value")
    if cell.keys() != _ROLES:
      raise Refused("payoff_keys")
    yield cell["LLM"], cell["user"]
