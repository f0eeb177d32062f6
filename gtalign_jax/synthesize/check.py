"""Is a chain fit to learn from: does it parse strictly, and is its decision score 1?"""

from __future__ import annotations

import numpy as np

from gtalign_jax.game import payoff
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, features
from gtalign_jax.types import GAME, has_payoff


def fault(text: str, limits: RewardConfig | None = None, form: str = GAME) -> str | None:
  """Why the chain must not be learned from, None if it may.

  The strict parser's reason, else "choice" (the named cell is not the welfare choice of the chain's
  own matrix) or "carried_out" (the response does not do what the cell says). Chains of a form
  without a matrix have nothing to be checked by but the parser.
  """
  limits = limits or RewardConfig()
  found = chain.parse(text, form=form)
  if not has_payoff(form):
    return found.error
  # the strict parser gives either an error or a payoff; the second test is for the type checker
  if found.error or found.payoff is None:
    return found.error or "payoff_syntax"
  cell = features.named_cell(found.analyze or "")
  user_type = features.user_type(found.thinking or "")
  # below 1: another cell, even a Pareto-optimal one, teaches a choice that the rule would not make
  scored = payoff.choice_score(found.payoff[None], np.array([cell]), np.array([user_type]))
  if scored[0] < 1:
    return "choice"
  done = features.carried_out(cell, found.response or "", limits.cq_max_words, limits.aq_min_words)
  return None if done else "carried_out"
