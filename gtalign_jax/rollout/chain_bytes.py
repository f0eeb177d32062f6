"""A chain as a byte automaton: what it accepts parses strictly (rewards/chain.py).

It is narrower than the parser: no white space between blocks or in the payoffs, cells and roles in
order, numbers of one digit and at most two decimals. So the warm start writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from gtalign_jax.ops.grammar import END
from gtalign_jax.rewards.blocks import TAGS
from gtalign_jax.rollout.stop import automaton
from gtalign_jax.types import BLOCKS, CELLS, ROLES

DEAD = 0  # the state from which no chain is reached
DIGITS, SPACES = b"0123456789", b" \t\n\r"
# Bytes that make a block one with something in it: none of them is a part of what Python's
# str.isspace takes for white space, as U+00A0 = C2 A0 or U+3000 = E3 80 80.
_BLANK = {byte for code in range(0x3001) if chr(code).isspace() for byte in chr(code).encode()}
SAYS = frozenset(range(256)) - _BLANK - set(range(0x20)) - {0x7F}
_NUMBER = "#"

Edges = dict[int, int]  # byte -> the state after it


class Chains(NamedTuple):
  """The automaton, END included. Of S states:

  goto_SB: the state after a byte. block_S: index of the block that a state belongs to, from its
  opening tag to its closing one; -1 for DEAD and END. entry: the state before each block, and END.
  """

  goto_SB: np.ndarray
  block_S: np.ndarray
  entry: tuple[int, ...]

  def after(self, text: bytes, state: int) -> int:
    """The state after `text`."""
    for byte in text:
      state = int(self.goto_SB[state, byte])
    return state


def chains(blocks: Sequence[str]) -> Chains:
  """The automaton of chains of these blocks, in their order."""
  edges: list[Edges] = [{}, dict.fromkeys(SPACES, END)]
  block, after, entry = [-1, -1], END, [END]
  for index, name in reversed(list(enumerate(blocks))):  # whatever comes before needs its target
    opening, closing = TAGS[BLOCKS.index(name)]
    inside = _payoffs if name == "payoff" else _text
    after = _literal(edges, opening, inside(edges, closing, after))
    if index == 0:
      # sentencepiece begins a text with a space, which is then no part of it
      after = _state(edges, {ord(" "): after} | edges[after])
    block += [index] * (len(edges) - len(block))
    entry.append(after)
  goto_SB = np.full((len(edges), 256), DEAD, np.int32)
  for state, row in enumerate(edges):
    goto_SB[state, list(row)] = list(row.values())
  return Chains(goto_SB, np.asarray(block), tuple(reversed(entry)))


def _state(edges: list[Edges], new: Edges) -> int:
  edges.append(new)
  return len(edges) - 1


def _literal(edges: list[Edges], text: str, after: int) -> int:
  for byte in reversed(text.encode()):
    after = _state(edges, {byte: after})
  return after


def _payoffs(edges: list[Edges], closing: str, after: int) -> int:
  """The state before the six cells, compact, and the closing tag."""
  pairs = ",".join(f'"{role}":{_NUMBER}' for role in ROLES)
  cells = ",".join(f'"{cell}":{{{pairs}}}' for cell in CELLS)
  *texts, last = ("{" + cells + "}").split(_NUMBER)
  after = _literal(edges, last + closing, after)
  for text in reversed(texts):
    after = _literal(edges, text, _number(edges, after))
  return after


def _number(edges: list[Edges], after: int) -> int:
  """The state before -?D(.D(D)?)?, which ends with whatever `after` waits for."""

  def digit(target: int, more: Iterable[tuple[int, int]] = ()) -> int:
    return _state(edges, dict.fromkeys(DIGITS, target) | dict(more))

  ends = edges[after].items()
  point = digit(digit(after, ends))
  first = digit(_state(edges, {ord("."): point, **edges[after]}))
  return _state(edges, {ord("-"): first, **edges[first]})


def _text(edges: list[Edges], closing: str, after: int) -> int:
  """The state before any text with something in it and no tag of any block, and the closing tag.

  Each state of the tags' automaton is there twice: before and after something has been said.
  """
  tags = [tag.encode() for pair in TAGS for tag in pair]
  goto, whole = automaton(tags)
  opened, base = goto[0, ord("<")], len(edges)
  for said in (False, True):
    for node in range(len(goto)):
      row: Edges = {}
      for byte in range(256):
        new = int(goto[node, byte])
        # a tag that was begun and not gone on with is text, and says something
        broken = node > 0 and new in (0, opened)
        says = said or broken or (new == 0 and byte in SAYS)
        if not whole[new]:
          row[byte] = base + says * len(goto) + new
      _state(edges, row)
  # the last byte of a tag of its own leads on, where something was said
  own = 0
  for byte in closing[:-1].encode():
    own = int(goto[own, byte])
  edges[base + len(goto) + own][ord(closing[-1])] = after
  return base
