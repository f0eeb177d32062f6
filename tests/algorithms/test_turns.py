"""Later turns of conversations: rows of their own, with the advantage of their conversation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax.algorithms import advantages, loss, slices, update
from gtalign_jax.algorithms.scoring import Recipe
from gtalign_jax.sections import CriticConfig, GRPOConfig
from gtalign_jax.types import Experience, Fixed, Rollout

P, G, C, MOST = 4, 3, 8, 16
PARENTS = np.array([0, 2, 3, 7, 7, 10, 11], np.int32)  # one conversation has two later turns
LATER = np.array([[4], [8], [1], [5], [2], [8], [3]])


def rollout(count_B, rows, stopped=True):
  mask_BC = np.zeros((rows, C), bool)
  mask_BC[: count_B.size] = np.arange(C) < count_B.reshape(-1, 1)
  return Rollout(np.zeros((rows, C), np.int32), mask_BC, mask_BC * 0.0, mask_BC.any(1) & stopped)


def experience(reward_PG, **changes):
  count_PG = np.random.default_rng(0).integers(1, C + 1, (P, G))
  blocks = np.random.default_rng(1).integers(0, 3, (P, G, 4))
  later = Experience(
    prompts=None,
    rollout=rollout(LATER, MOST),
    rows=[],
    count_PG=LATER,
    block_PGK=np.ones((len(LATER), 1, 4), int),
    parent_P=PARENTS,
  )
  one = Experience(None, rollout(count_PG, P * G), [], count_PG, block_PGK=blocks, later=later)
  return one._replace(reward_PG=reward_PG, utility_PGC=np.zeros((P, G, 2)), **changes)


def recipe(**changes):
  return Recipe(GRPOConfig(**changes), CriticConfig(), Fixed(), 0)


def rewards():
  reward_PG = np.random.default_rng(3).normal(size=(P, G))
  reward_PG[2, 1] = np.nan  # conversation 7
  return reward_PG


def test_a_turn_counts_as_its_conversation_does():
  chosen = advantages.select(experience(rewards()), recipe())
  later = chosen.later
  assert later.valid_PG[:, 0].tolist() == [True, True, True, False, False, True, True]
  assert later.trained_PG.all()
  totals = update.sizes_of(chosen, np.arange(P))
  first = chosen.count_PG[chosen.valid_PG].sum()
  assert int(totals.tokens) == first + LATER[later.valid_PG].sum()
  assert int(totals.rows) == int(totals.all_rows) == 11 + 5
  some = update.sizes_of(chosen, np.array([0, 3]))  # conversations 0 to 2 and 9 to 11
  assert int(some.tokens) == chosen.count_PG[[0, 3]].sum() + LATER[[0, 1, 5, 6]].sum()
  in_blocks = np.asarray(totals.blocks) - chosen.block_PGK[chosen.valid_PG].sum(0)
  assert in_blocks.tolist() == [5] * 4


def test_only_the_trained_conversations_turns_are_trained_on():
  chosen = advantages.select(experience(rewards()), recipe(train_samples=2))
  kept = chosen.trained_PG.reshape(-1)[PARENTS]
  assert not kept.all() and kept.any()
  assert chosen.later.trained_PG[:, 0].tolist() == kept.tolist()
  rows = [each.prompt_p for each in slices.of_later(chosen, recipe(train_samples=2).grpo)]
  assert sorted(x for row in rows for x in row if x != MOST - 1) == np.flatnonzero(kept).tolist()


def test_truncated_turns_alone_are_left_out():
  one = experience(np.arange(12.0).reshape(P, G))
  stopped_B = np.ones(MOST, bool)
  stopped_B[1] = False
  one = one._replace(later=one.later._replace(
    rollout=one.later.rollout._replace(stopped_B=stopped_B[: len(LATER)])
  ))  # fmt: skip
  chosen = advantages.select(one, recipe(mask_truncated=True))
  assert chosen.later.counted_PG[:, 0].tolist() == [True, False, *[True] * 5]
  assert chosen.later.valid_PG.all() and chosen.counted_PG.all()


def test_the_longest_turn_is_punished():
  one = experience(np.zeros((P, G)))._replace(count_PG=np.ones((P, G), int))
  chosen = advantages.select(one, recipe(overlong_buffer=4))
  expected = np.zeros(P * G)
  np.minimum.at(expected, PARENTS, np.minimum(-(LATER[:, 0] - (C - 4)) / 4, 0))
  np.testing.assert_allclose(chosen.reward_PG.reshape(-1), expected)


@pytest.mark.parametrize("micro", [(4, 3), (2, 1), (1, 1)])
@pytest.mark.parametrize("prompts", [None, [0, 3], [1]])
def test_slices_hold_every_turn_once(micro, prompts):
  config = GRPOConfig(
    prompts_per_step=P, micro_prompts=micro[0], micro_samples=micro[1], length_buckets=(2, 4)
  )
  chosen = advantages.select(experience(rewards()), recipe())
  found = slices.of_later(chosen, config, None if prompts is None else np.array(prompts))
  rows = np.concatenate([each.prompt_p for each in found] or [np.zeros(0, int)])
  of = range(P) if prompts is None else prompts
  wanted = [i for i, parent in enumerate(PARENTS) if parent // G in of]
  assert sorted(rows[rows != MOST - 1].tolist()) == wanted
  for each in found:
    assert each.prompt_p.shape == (micro[0] * micro[1],) and each.width in (2, 4, C)
    real = each.prompt_p[each.prompt_p != MOST - 1]
    assert LATER[real].max() <= each.width


def test_all_turns_carry_the_advantage_of_their_conversation():
  advantage_B = jnp.asarray(np.random.default_rng(4).normal(size=P * G), jnp.float32)
  mask_RC = jnp.asarray(rollout(LATER, MOST).mask_BC)
  parent_R, counted_R = np.zeros(MOST, np.int32), np.zeros(MOST, bool)
  parent_R[:7], counted_R[:7] = PARENTS, [1, 1, 0, 1, 1, 1, 1]
  found = jax.jit(advantages.handed_down)(advantage_B, parent_R, counted_R, mask_RC)
  expected = np.where(counted_R[:7], np.asarray(advantage_B)[PARENTS], 0)
  np.testing.assert_array_equal(found["advantage"][:7], expected)
  assert not np.asarray(found["advantage"])[7:].any() and not found["mask_BC"][2].any()
  assert (np.asarray(found["mask_BC"]).sum(1)[:7] == LATER[:, 0] * counted_R[:7]).all()


@pytest.mark.parametrize(
  "aggregation", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum-norm"]
)
def test_the_loss_is_that_of_all_turns_as_rows(aggregation):
  """Turns in two batches give the loss and gradient of one batch that holds them all."""
  rng, R = np.random.default_rng(5), len(LATER)
  chosen = advantages.select(experience(rewards()), recipe())
  totals = update.sizes_of(chosen, np.arange(P))
  counts = np.concatenate([chosen.count_PG.reshape(-1), LATER[:, 0]])
  valid = np.concatenate([chosen.valid_PG.reshape(-1), chosen.later.valid_PG[:, 0]])
  mask = (np.arange(C) < counts[:, None]) & valid[:, None]
  logp, old = rng.normal(size=(2, P * G + R, C)).astype(np.float32)
  advantage = rng.normal(size=P * G).astype(np.float32)
  advantage = np.where(valid, np.concatenate([advantage, advantage[PARENTS]]), 0)

  def total(logp, parts, totals):
    given = {"aggregation": aggregation, "max_tokens": C, "totals": totals}
    values = [
      loss.policy_loss(logp[part], old[part], advantage[part], mask[part], **given)[0]
      for part in parts
    ]
    return sum(values)

  split = [slice(0, P * G), slice(P * G, P * G + 3), slice(P * G + 3, None)]
  whole = loss.Totals(*[
    np.int32(x) for x in (mask.sum(), mask.any(1).sum(), valid.sum())
  ], totals.blocks)  # fmt: skip
  ours = jax.value_and_grad(total)(jnp.asarray(logp), split, totals)
  theirs = jax.value_and_grad(total)(jnp.asarray(logp), [slice(None)], whole)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), ours, theirs)
