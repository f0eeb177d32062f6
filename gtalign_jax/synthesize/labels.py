"""SFT chains from labels: type and payoffs follow from the record, all else from the payoffs.

A chain parses strictly and its decision score is 1, whatever the record holds (FORMULAS 3). Forms
other than game keep those of its blocks that they have, so all start from the same responses.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from gtalign_jax.config import Config
from gtalign_jax.data import concierge, concierge_chain, intents
from gtalign_jax.data.records import Record
from gtalign_jax.game import edits
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.synthesize import payoffs, replies
from gtalign_jax.types import ACTIONS, GAME, USER_TYPES
from gtalign_jax.users.role import TEXTS


class Later(NamedTuple):
  """A later turn: what followed the record's own chat, and the chain that goes on from there."""

  said: list[dict[str, str]]
  chain: str


def chain(record: Record, seed: int, config: Config | None = None) -> str:
  """One completion for the record, a pure function of its content, its id and `seed`.

  config: what true payoffs are computed by, `rewards.pricing` and `chain.form`; None: the default
  reward, and two turns.
  """
  if record.data_source == concierge.SOURCE:
    # the honest matrix, and what it decides (FORMULAS 13)
    return concierge.speak(record, None, config or RewardConfig())
  rng = random.Random(f"{seed}/{record.id}")  # not hash(): Python salts that per process
  case = replies.case(record, rng)
  tenths_UAR, u = payoffs.matrix(record, case, config, rng), USER_TYPES.index(case.user_type)
  # the response does what the matrix says, never the other way round
  action = ACTIONS[edits.choice(tenths_UAR / 10, u)]
  return concierge_chain.Chain(
    _thinking(record, case, rng),
    concierge_chain.numbers(tenths_UAR),
    concierge_chain.analysis(tenths_UAR, u, action),
    replies.response(case, action),
  ).text(config.chain.form if config else GAME)


def later(record: Record, seed: int, config: Config | None = None) -> Later | None:
  """The second turn of the conversation that `chain` begins; None where that is over.

  Of concierge alone: other labels do not say how a conversation goes on.
  """
  if record.data_source != concierge.SOURCE:
    return None
  rules = config or RewardConfig()
  action = concierge.choice(record, rules)
  meant = intents.given(record, seed, None, turns=2).extra_info[intents.KEY]
  # whoever answers ends it, unless what was done by default was not meant
  if action == "DA" or (action == "AQ" and meant["meant"]):
    return None
  response = concierge.response(record, action)
  reply = meant["text"] if action == "CQ" else TEXTS["correction"].format(text=meant["text"])
  said = [{"role": "assistant", "content": response}, {"role": "user", "content": reply}]
  return Later(said, concierge.speak(record, "DA", rules, reply))


def _thinking(record: Record, case: replies.Case, rng: random.Random) -> str:
  about, effect = (rng.choice(replies.WORDINGS[case.kind][part]) for part in ("about", "effect"))
  words = replies.topic(record, most=2)
  named = f" ({', '.join(words)})" if words else ""
  return f"{about}{named}; {effect}. So it is {case.user_type}."
