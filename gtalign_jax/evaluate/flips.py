"""At which price asking turns into answering: by concierge's closed form, and for a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gtalign_jax.data import concierge
from gtalign_jax.data.concierge_game import Count
from gtalign_jax.data.records import Record
from gtalign_jax.game import conditions, measures, pricing
from gtalign_jax.game.conditions import Condition
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.types import ACTIONS

WAYS = ("sum", "welfare")  # what the closed form is best by
ANSWER = "DA"
HALVINGS = 20  # of one step of the sweep, until its price is exact


def answers_from(asks: Sequence[bool | None]) -> int | None:
  """The first place from which on nobody asks any more; None unless the first one asks.

  asks: at each price; None where the action cannot be told, which is no answer.
  """
  place = max((k for k, each in enumerate(asks) if each is not False), default=-1) + 1
  return place if asks and asks[0] and place < len(asks) else None


def expecting(policy: Pricing, record: Record, tokens: Count) -> Pricing:
  """The policy with the lengths that a concierge record has, where it states none of its own.

  So an edit takes off what the closed form is charged: the true payoffs are those of a whole
  conversation, whose responses have a tenth of the tokens of the presets.
  """
  if record.data_source != concierge.SOURCE:
    return policy
  lengths, default = concierge.spoken(record, tokens).tolist(), Pricing(name="")
  changes: Any = {
    key: tuple(own)
    for key, own in zip(("tokens", "characters"), lengths, strict=True)
    if getattr(policy, key) == getattr(default, key)
  }
  return dataclasses.replace(policy, **changes)


def closed_form(
  record: Record, base: Pricing, prices: Sequence[float], rewards: RewardConfig, tokens: Count
) -> dict[str, Any]:
  """What is best for a concierge record, by WAYS: {"actions": at each price, "price": of the flip}.

  base: the policy whose price is swept. welfare: the first action with the largest welfare of the
  true payoffs (two turns), in which every response is charged. sum: the rule's choice on the true
  matrix, edited as a chain's is: what a chain would do that writes that matrix and follows it.
  """
  true_UAR: Any = concierge.matrix(record, rewards) / 10
  user_type: Any = int(record.extra_info["lacking"] is not None)

  def chosen(price: float) -> str:
    policy = expecting(pricing.at_price(base, price), record, tokens)
    return ACTIONS[int(pricing.choose(policy, true_UAR, user_type)) % len(ACTIONS)]

  def best(price: float) -> str:
    at = Condition(pricing=pricing.at_price(base, price))
    info = record.extra_info | {conditions.KEY: at.table()}
    return concierge.best_action(record._replace(extra_info=info), rewards, tokens=tokens)

  return {way: _flip(f, prices) for way, f in zip(WAYS, (chosen, best), strict=True)}


def _flip(action: Callable[[float], str], prices: Sequence[float]) -> dict[str, Any]:
  actions = [action(each) for each in prices]
  place = answers_from([each != ANSWER for each in actions])
  if place is None:
    return {"actions": actions, "price": None}
  low, high = prices[place - 1], prices[place]
  for _ in range(HALVINGS):
    middle = (low + high) / 2
    low, high = (low, middle) if action(middle) == ANSWER else (middle, high)
  return {"actions": actions, "price": high}


def found(rows: Sequence[Mapping[str, Any]], prices: Sequence[float]) -> dict[str, Any]:
  """How far the flips of policy and rule lie from those of the closed form, in steps of the sweep.

  By WAYS: records, those whose closed form flips; and of each of `policy` (what the response did)
  and `rule` (the choice on the edited matrix) within_one, the share that flips at most one step
  away (Wilson), n that flip at all, and steps, their mean distance, positive where asking goes on
  for longer.
  """
  return {
    way: _found([row for row in rows if _price(row, way) is not None], prices, way) for way in WAYS
  }


def _price(row: Mapping[str, Any], way: str) -> Any:
  return row["closed_form"][way]["price"] if "closed_form" in row else None


def _found(rows: Sequence[Mapping[str, Any]], prices: Sequence[float], way: str) -> dict[str, Any]:
  out: dict[str, Any] = {"records": len(rows)}
  for name, key in (("policy", "edited_action"), ("rule", "edited_choice")):
    steps = []
    for row in rows:
      place = answers_from([
        None if each[key] is None else not each[key].endswith(ANSWER) for each in row["policies"]
      ])  # fmt: skip
      if place is not None:
        steps.append(place - int(np.searchsorted(prices, _price(row, way))))
    near = sum(abs(each) <= 1 for each in steps) / len(rows) if rows else None
    out[name] = {
      "within_one": near,
      "within_one_interval": None if near is None else list(measures.wilson(near, len(rows))),
      "n": len(steps),
      "steps": float(np.mean(steps)) if steps else None,
    }
  return out
