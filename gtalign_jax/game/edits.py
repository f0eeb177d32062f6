"""Edits of a matrix after which a wanted action is the choice of the declared row.

What chains of another matrix show (synthesize/counterfactual.py), and what tells whether the
written matrix decides (FORMULAS sections 10 and 13). Matrices are float64 [U, A, R] with one
decimal, as chains write them; all draws are of a `random.Random`.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from gtalign_jax.game import payoff, pricing
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.types import ACTIONS

LARGEST = 9.9  # of an edited number: one digit before the point, as in chains of one's own
CANDIDATES = 12  # policies drawn before one is made to measure
MOST = 49  # tenths: drawn payoffs lie on the templates' scale, and their sums have one digit
SHIFT = 3.0  # points that a drawn policy moves an action by, at most
LEAD = (0.2, 2.0)  # points by which a policy made to measure lets the wanted action win


def choice(payoff_UAR: Any, user_type: int) -> int:
  """Index of ACTIONS that the rule chooses in the row of `user_type` (0 or 1)."""
  declared: Any = np.asarray(user_type)
  return int(payoff.choose(payoff_UAR, declared)) % len(ACTIONS)


def swapped(payoff_UAR: Any, user_type: int, action: int) -> Any:
  """The pairs of the choice and of `action` in exchange: `action` is now the choice.

  But for ties: that of the lower index stays.
  """
  edited, own = payoff_UAR.copy(), choice(payoff_UAR, user_type)
  edited[user_type, [own, action]] = edited[user_type, [action, own]]
  return edited


def drawn(user_type: int, action: int, rng: random.Random) -> Any:
  """Twelve numbers drawn evenly from -4.9 to 4.9 in which `action` is the choice."""
  while True:
    tenths = [rng.randint(-MOST, MOST) for _ in range(12)]
    edited = swapped(np.array(tenths).reshape(2, 3, 2) / 10, user_type, action)
    if choice(edited, user_type) == action:  # a tie, one in a few hundred, is drawn again
      return edited


def priced(payoff_UAR: Any, user_type: int, action: int, rng: random.Random) -> tuple[Any, Pricing]:
  """The matrix under a pricing policy by which `action` is the choice, and the policy.

  One of the presets or of drawn prices; where none of these does it, a shift of the action alone.
  """
  policies = [each for each in pricing.PRESETS.values() if each.name != "free"]
  rng.shuffle(policies)
  # either may go first: presets alone would do for most matrices, and be all that is seen
  at = len(policies) * rng.choice((0, 1))
  policies[at:at] = [_policy(rng) for _ in range(CANDIDATES)]
  edited_KUAR: Any = np.stack([pricing.apply(each, payoff_UAR) for each in policies])
  type_K: Any = np.full(len(policies), user_type)
  found_K = payoff.choose(edited_KUAR, type_K) % len(ACTIONS)
  fits_K = (found_K == action) & (abs(edited_KUAR).max((1, 2, 3)) <= LARGEST)
  if fits_K.any():
    at = int(fits_K.argmax())
    return edited_KUAR[at], policies[at]
  row_A = payoff_UAR[user_type].sum(-1)
  each = float(row_A.max() - row_A[action]) / 2 + rng.uniform(*LEAD) / 2
  shift = tuple((each, each) if a == action else (0.0, 0.0) for a in range(len(ACTIONS)))
  policy = Pricing(name="drawn", shift=shift)
  return pricing.apply(policy, payoff_UAR), policy


def _policy(rng: random.Random) -> Pricing:
  """Prices per token about those of the presets, either way, and often a shift of each action."""
  reach = SHIFT * rng.choice((0, 1))
  return Pricing(
    name="drawn",
    scale=(rng.uniform(0.6, 1.2), rng.uniform(0.6, 1.2)),
    price=(rng.uniform(-0.008, 0.008), rng.uniform(-0.01, 0.015)),
    shift=tuple((rng.uniform(-reach, reach), rng.uniform(-reach, reach)) for _ in ACTIONS),
  )
