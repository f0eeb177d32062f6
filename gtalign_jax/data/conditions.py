"""Requests that say what counts in them: a weight or prices, drawn for each prompt (FORMULAS 12).

A condition sits in `extra_info` of its record (game/conditions.py), and its words in the prompt, so
all samples of the prompt share it, and so does whoever reads the record later.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from gtalign_jax.data.records import Record
from gtalign_jax.game import conditions, pricing
from gtalign_jax.game.conditions import NONE, Condition
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.sections import DataConfig
from gtalign_jax.types import ACTIONS


def grid(data_config: DataConfig) -> list[Condition]:
  """The conditions that `data.condition` draws from, in the order of its keys; NONE alone for none.

  Raises BadInput where a policy cannot be read.
  """
  if data_config.condition == "alpha":
    return [Condition(alpha=alpha) for alpha in data_config.condition_alphas]
  if data_config.condition == "pricing":
    names, key = data_config.condition_policies, "data.condition_policies"
    return [Condition(pricing=pricing.loaded(name, key)) for name in names]
  return [NONE]


def draw(data_config: DataConfig, record_id: str, size: int, step: int | None = None) -> int:
  """Which of `size` conditions a prompt gets, a function of (data.seed, step, id) alone.

  step: of training; None: the one that the prompt has in evaluations and in the warm start.
  """
  at = "" if step is None else step
  # not hash(), which Python salts per process: all processes must write the same prompt
  return random.Random(f"{data_config.seed}/condition/{at}/{record_id}").randrange(size)


def conditioned(record: Record, condition: Condition) -> Record:
  """The record with `condition`; one that brings its own keeps it."""
  if condition == NONE or conditions.of(record.extra_info, record.id) != NONE:
    return record
  return record._replace(extra_info=record.extra_info | {conditions.KEY: condition.table()})


def given(records: Sequence[Record], data_config: DataConfig) -> list[Record]:
  """Each record with the condition that it has in evaluations."""
  choices = grid(data_config)
  drawn = [choices[draw(data_config, record.id, len(choices))] for record in records]
  return [conditioned(*each) for each in zip(records, drawn)]


def sentence(record: Record) -> str:
  """What the prompt says of the record's condition; "" where it has none."""
  found = conditions.of(record.extra_info, record.id)
  said = []
  if found.alpha is not None:
    rest = round(1 - found.alpha, 6)  # 0.3, where 1 - 0.7 is 0.30000000000000004
    said.append(f"In this exchange the user's payoff weighs {found.alpha:g} and yours {rest:g}.")
  if found.pricing is not None:
    said.append(_prices(found.pricing))
  return " ".join(said)


def _prices(policy: Pricing) -> str:
  """The policy's name and numbers, as points of payoff; what is 0 is not said."""
  charged = [
    *_gains("a token of the response", _negative(policy.price)),
    *_gains("a character of the response", _negative(policy.price_per_character)),
    *(said for action, shift in zip(ACTIONS, policy.shift) for said in _gains(action, shift)),
  ]
  return f"Pricing {policy.name!r}: {'; '.join(charged) or 'nothing is charged'}."


def _negative(pair: tuple[float, float]) -> tuple[float, float]:
  return -pair[0], -pair[1]


def _gains(what: str, points_R: tuple[float, float]) -> Iterable[str]:
  """`a token of the response costs the user 0.01 and brings you 0.002`, or nothing at all."""
  llm, user = points_R
  parts = [
    f"{'brings' if points > 0 else 'costs'} {who} {abs(points):g}"
    for who, points in (("the user", user), ("you", llm))
    if points
  ]
  return [f"{what} {' and '.join(parts)}"] if parts else []
