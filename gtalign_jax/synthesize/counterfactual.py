"""Counterfactual chains: another matrix for the same prompt and thinking (FORMULAS section 13).

Analysis and response follow that matrix. It is given to the policy, which learns only what comes
after `</payoff>`: that the written matrix decides, whatever it was.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.data import concierge, concierge_chain
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.game import edits
from gtalign_jax.rewards import chain, features
from gtalign_jax.rollout.edit import rewrite
from gtalign_jax.synthesize import replies
from gtalign_jax.types import ACTIONS


class Edited(NamedTuple):
  """of: index of the chain that was edited. text: the whole chain."""

  of: int
  text: str


def chains(records: Sequence[Record], texts: Sequence[str], count: int, seed: int) -> list[Edited]:
  """`count` edited chains, in turns over those that can be edited.

  texts: a chain of each record. Each action is the choice of an equal part of them. Half of the
  matrices come from pricing policies, the others are swapped or drawn. Raises BadInput where no
  chain can be edited.
  """
  rng, order = random.Random(f"{seed}/counterfactual"), usable(texts)
  # drawn and not in turns: kinds of request may stand in turns themselves
  turns = [(a, n % 2 == 0) for n in range(-(-count // len(ACTIONS))) for a in ACTIONS]
  rng.shuffle(turns)
  rng.shuffle(order)
  found = []
  for number, (action, priced) in enumerate(turns[:count]):
    at = order[number % len(order)]
    found.append(Edited(at, edit(records[at], texts[at], action, priced, rng)))
  return found


def usable(texts: Sequence[str]) -> list[int]:
  """Which chains can be edited: those that parse strictly and declare a type. BadInput if none."""
  read = ((index, chain.parse(text)) for index, text in enumerate(texts))
  found = [i for i, c in read if not c.error and features.user_type(c.thinking or "") >= 0]
  if not found:
    raise BadInput(
      f"sft.counterfactual has no effect: none of {len(texts)} chains of sft.data parses strictly "
      "and declares DQ or VQ in thinking; give it such chains, or set sft.counterfactual=0.0"
    )
  return found


def edit(record: Record, text: str, action: str, priced: bool, rng: random.Random) -> str:
  """The chain with a matrix whose choice is `action`, and what follows from it.

  text: one that parses strictly and declares its type. White space, and all before the matrix,
  stays.
  """
  found = chain.parse(text)
  # one decimal, without -0.0, as all edited payoffs are written
  own_UAR, u = np.round(np.asarray(found.payoff), 1) + 0.0, features.user_type(found.thinking or "")
  other_UAR = _matrix(own_UAR, u, ACTIONS.index(action), priced, rng)
  said = found.response or ""
  if features.named_cell(found.analyze or "") % len(ACTIONS) != ACTIONS.index(action):
    said = _response(record, action, rng)
  _, payoffs, analyze, response = (slice(*span) for span in found.spans if span)
  analysis = concierge_chain.analysis(np.rint(10 * other_UAR).astype(int), u, action)
  return (
    text[: payoffs.start]
    + rewrite(text[payoffs], other_UAR)
    + text[payoffs.stop : analyze.start]
    + analysis
    + text[analyze.stop : response.start]
    + said
    + text[response.stop :]
  )


def _matrix(own_UAR: Any, user_type: int, action: int, priced: bool, rng: random.Random) -> Any:
  if priced:
    return edits.priced(own_UAR, user_type, action, rng)[0]
  other_UAR = edits.swapped(own_UAR, user_type, action)
  told = (other_UAR != own_UAR).any() and edits.choice(other_UAR, user_type) == action
  return other_UAR if told and rng.random() < 0.5 else edits.drawn(user_type, action, rng)


def _response(record: Record, action: str, rng: random.Random) -> str:
  if record.data_source == concierge.SOURCE:
    return concierge.response(record, action)
  return replies.response(replies.case(record, rng), action)
