"""What the requests of a batch say of their own reward: weights and charges (FORMULAS 12)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.game import pricing, reward
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards.games import array
from gtalign_jax.rewards.read import Reading, given

TOKENS = "response_tokens"  # the column that a price per token reads


def policy(config: RewardConfig) -> pricing.Pricing | None:
  """The policy of `rewards.pricing`, None where nothing is charged. Raises BadInput."""
  return pricing.loaded(config.pricing, "rewards.pricing") if config.pricing else None


def of(
  rows: Sequence[dict[str, Any]],
  readings: Sequence[Reading],
  config: RewardConfig,
  places: Sequence[str],
) -> reward.Request:
  """The alpha and the charges of each row (its own condition's, else the config's), and patience.

  Raises BadInput, naming the place, where a price per token meets a row without response_tokens.
  """
  alphas = [each.condition.alpha for each in readings]
  policies = [each.condition.pricing or policy(config) for each in readings]
  alpha_B = charge_BR = patience_BR = (
    None  # where nobody says anything, the kernel is that of any batch
  )
  if any(alpha is not None for alpha in alphas):
    alpha_B = array([config.alpha if alpha is None else alpha for alpha in alphas])
  if any(policies):
    charge_BR = array([_charge(*each) for each in zip(rows, readings, policies, places)])
  if any(each.later or each.attention != 1 for each in readings):
    turns_B, attention_B = array([(each.n_turns, each.attention) for each in readings]).T
    patience_BR = reward.patience(config, turns_B, attention_B)
  return reward.Request(alpha_B, charge_BR, patience_BR)


def columns(reading: Reading) -> dict[str, Any]:
  """What a scored row says of its own weight and its turns; nothing where all is as by default."""
  alpha, ended = reading.condition.alpha, reading.ended
  own = {} if alpha is None else {"alpha": alpha}
  return own if ended is None else own | {"n_turns": reading.n_turns, "ended": ended}


def _charge(
  row: dict[str, Any], reading: Reading, policy: pricing.Pricing | None, place: str
) -> list[float]:
  """Of one row, (LLM, user): the shift of its first action, the prices of all its responses."""
  if policy is None:
    return [0.0, 0.0]
  tokens = _tokens(row, policy, place) if any(policy.price) else 0.0
  return pricing.charge(policy, reading.action, tokens, reading.response_chars)


def _tokens(row: dict[str, Any], policy: pricing.Pricing, place: str) -> float:
  count = given(row, TOKENS, place)
  if count is None or math.isnan(count) or count < 0:
    raise BadInput(
      f"{place}: {TOKENS}={row.get(TOKENS)!r}, but pricing {policy.name!r} has a price per token; "
      "rows of gtalign generate and eval bring the number (pay_per_character needs none)"
    )
  return count
