"""Edits of a matrix: the wanted action is the choice, and the numbers are as chains write them."""

import random

import numpy as np
import pytest

from gtalign_jax.game import edits, pricing
from gtalign_jax.types import ACTIONS


def matrix(rng):
  return np.array([rng.randint(-49, 49) for _ in range(12)]).reshape(2, 3, 2) / 10


@pytest.mark.parametrize("user_type", [0, 1])
@pytest.mark.parametrize("action", range(3))
def test_the_wanted_action_is_the_choice(user_type, action):
  rng, policies = random.Random(0), []
  for _ in range(40):
    own = matrix(rng)
    priced, policy = edits.priced(own, user_type, action, rng)
    assert np.array_equal(priced, pricing.apply(policy, own))  # a policy, and nothing else
    policies.append(policy.name)
    for edited in (priced, edits.drawn(user_type, action, rng)):
      assert edits.choice(edited, user_type) == action
      assert np.array_equal(edited, np.round(edited, 1))
      assert not np.signbit(edited[edited == 0]).any()  # no -0.0
    swapped = edits.swapped(own, user_type, action)
    assert edits.choice(swapped, user_type) == action
    assert np.array_equal(swapped[1 - user_type], own[1 - user_type])
    assert np.array_equal(np.sort(swapped, None), np.sort(own, None))
  # a matrix of any kind can be priced to any action, and a lead of 15 points needs a large shift
  assert policies.count("drawn") > len(policies) // 2


def test_presets_are_drawn_where_they_do():
  own = np.full((2, 3, 2), 2.0)
  own[0, ACTIONS.index("DA")] = 2.5  # a price per token makes the short question the best
  names = {edits.priced(own, 0, 1, random.Random(seed))[1].name for seed in range(60)}
  assert names == {*pricing.PRESETS, "drawn"} - {"free"}
