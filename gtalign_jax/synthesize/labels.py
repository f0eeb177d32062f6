"""SFT chains from labels: type, payoffs, analysis and response all follow from the ground truth.

A chain parses strictly and its decision score is 1, whatever the record holds (FORMULAS 3).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gtalign_jax.config import Config
from gtalign_jax.data import concierge, intents
from gtalign_jax.data.records import Record
from gtalign_jax.game import payoff
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.synthesize import replies
from gtalign_jax.types import CELLS
from gtalign_jax.users.role import TEXTS

Pair = tuple[int, int]

# Tenths of payoff (LLM, user) around which each cell varies: rows DQ and VQ, columns DA, CQ, AQ.
# Whole tenths, because a sum of floats could print as 3.9000000000000004 in the analysis.
# Definite: answering is best, a question costs the user a turn. Vague: answering is a gamble.
DEFINITE = ((38, 40), (16, 8), (25, 26))
VAGUE = ((10, 4), (30, 31), (24, 27))
REFUSED = ((34, 18), (8, 2), (28, 19))  # definite, but the user does not get what was asked for
SPREAD = 7  # tenths that a payoff may lie off its base
MOST = 50  # end of the scale that the templates name
LIFT = 12  # tenths by which the sum of the chosen cell leads its row at most


class Later(NamedTuple):
  """A later turn: what followed the record's own chat, and the chain that goes on from there."""

  said: list[dict[str, str]]
  chain: str


def chain(record: Record, seed: int, config: Config | None = None) -> str:
  """One completion for the record, a pure function of its content, its id and `seed`.

  config: what true payoffs are computed by; None: the default reward, and two turns.
  """
  if record.data_source == concierge.SOURCE:
    # the honest matrix, and what it decides (FORMULAS 13)
    return concierge.speak(record, None, config or RewardConfig())
  rng = random.Random(f"{seed}/{record.id}")  # not hash(): Python salts that per process
  case = replies.case(record, rng)
  chosen = CELLS.index(f"{case.user_type}_{case.leans}")
  definite = REFUSED if case.kind == "refuse" else DEFINITE
  tenths = _payoffs((*definite, *VAGUE), chosen, rng)
  payoffs = {cell: {"LLM": llm / 10, "user": user / 10} for cell, (llm, user) in zip(CELLS, tenths)}
  return (
    f"<thinking>{_thinking(record, case, rng)}</thinking>"
    # no spaces: a payoff object is half of a chain's tokens
    f"<payoff>{json.dumps(payoffs, separators=(',', ':'))}</payoff>"
    f"<analyze>{_analysis(tenths, chosen, rng)}</analyze>"
    f"<response>{replies.response(case, case.leans)}</response>"
  )


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


def _payoffs(base: Sequence[Pair], chosen: int, rng: random.Random) -> list[Pair]:
  """Six (LLM, user) payoffs in tenths; `chosen` has the largest sum of its row by 3 or more."""
  first = 3 * (chosen // 3)
  row = range(first, first + 3)
  best = max(row, key=lambda cell: sum(base[cell]))
  base = list(base)  # swap, so that the numbers of the row stay the same whatever is chosen
  base[chosen], base[best] = base[best], base[chosen]
  cells = [
    (llm + rng.randint(-SPREAD, SPREAD), user + rng.randint(-SPREAD, SPREAD)) for llm, user in base
  ]
  rival = max(sum(cells[cell]) for cell in row if cell != chosen)
  llm, user = cells[chosen]
  # 3 tenths at least: the choice is plain, and no matter of rounding
  lack = rival + rng.randint(3, LIFT) - llm - user
  if lack > 0:  # both roles gain, up to the end of the scale
    gain = min(rng.randint(lack // 3, lack - lack // 3), MOST - llm)
    cells[chosen] = (llm + gain, user + lack - gain)
  return cells


def _thinking(record: Record, case: replies.Case, rng: random.Random) -> str:
  about, effect = (rng.choice(replies.WORDINGS[case.kind][part]) for part in ("about", "effect"))
  words = replies.topic(record, most=2)
  named = f" ({', '.join(words)})" if words else ""
  return f"{about}{named}; {effect}. So it is {case.user_type}."


def _analysis(tenths: list[Pair], chosen: int, rng: random.Random) -> str:
  """Names the Pareto-optimal cells of the row with their sums, then the choice as the last cell."""
  row = chosen // 3
  matrix_BUAR = np.asarray(tenths, float).reshape(1, 2, 3, 2)
  optimal = payoff.front(matrix_BUAR, np.array([row])).optimal
  front = [cell for cell in range(6) if optimal[cell][0]]
  sums = {cell: f"{CELLS[cell]} {sum(tenths[cell]) / 10}" for cell in front}
  if len(front) == 1:
    reason = f"{sums[chosen]} dominates its row"
  else:
    reason = f"Pareto cells by sum: {', '.join(sums.values())}"
  # the cell goes last: the reward takes the last cell key of the analysis for the one named
  return f"{reason}. {rng.choice(replies.WORDINGS['verdict'])} {CELLS[chosen]}."
