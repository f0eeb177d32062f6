"""Advantages against the float64 reference, and their invariances."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import losses as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gtalign_jax.algorithms import advantages, update
from gtalign_jax.algorithms.advantages import group_advantages
from gtalign_jax.algorithms.loss import policy_loss
from gtalign_jax.algorithms.scoring import Recipe
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards.reward import reward
from gtalign_jax.sections import AGGREGATIONS, CriticConfig, GRPOConfig
from gtalign_jax.types import Experience, Fixed, Rollout

CASES = reference.reward_cases()
LENIENT = JudgeConfig(max_invalid_frac=1.0)


def case_of(name, kind):
  """(rewards, which rows are valid, the advantages they should have)."""
  reward, pair = CASES[name]
  valid = np.isfinite(reward)
  given = pair if kind == "gdpo" else reward
  return given, valid, reference.advantages(kind, given, valid)


@pytest.mark.parametrize("kind", reference.ADVANTAGES)
@pytest.mark.parametrize("name", CASES)
def test_golden(name, kind):
  given, valid, expected = case_of(name, kind)
  host = group_advantages(given, valid, kind=kind)
  assert host.dtype == np.float64
  np.testing.assert_allclose(host, expected, rtol=1e-12, atol=1e-13)
  device = jax.jit(lambda r, v: group_advantages(r, v, kind=kind))(jnp.float32(given), valid)
  assert device.dtype == jnp.float32
  np.testing.assert_allclose(device, expected, rtol=2e-4, atol=2e-5)


def test_x64_on_the_device():
  with jax.enable_x64(True):
    given, valid, expected = case_of("mixed", "grpo")
    out = group_advantages(jnp.asarray(given), jnp.asarray(valid))
    assert out.dtype == jnp.float64
    np.testing.assert_allclose(out, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", advantages.GROUP_ADVANTAGES)
@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3, 1e4 + 0.1])
def test_equal_rewards_are_exactly_zero_in_f32(kind, value):
  """The f32 mean of equal numbers is often one rounding off; sigma + 1e-6 would magnify it."""
  shape = (3, 7, 2) if kind == "gdpo" else (3, 7)
  out = group_advantages(jnp.full(shape, value, jnp.float32), jnp.ones((3, 7), bool), kind=kind)
  assert not np.asarray(out).any()


def test_a_nan_reward_marked_valid_counts_as_invalid():
  reward = np.array([[1.0, np.nan, 3.0]])
  out = group_advantages(reward, np.ones((1, 3)), kind="dr_grpo")
  np.testing.assert_array_equal(out, [[-1, 0, 1]])


def test_gdpo_weights():
  rng = np.random.default_rng(0)
  pair, valid = rng.normal(size=(4, 5, 2)), np.ones((4, 5))
  user_only = group_advantages(pair, valid, kind="gdpo", weights=(1, 0))
  grpo = group_advantages(pair[..., 0], valid, kind="grpo")
  np.testing.assert_allclose(user_only, grpo / grpo.std(ddof=1), rtol=1e-6)


def test_bad_kind_and_rank():
  with pytest.raises(BadInput, match=r"grpo.advantage='ppo'"):
    group_advantages(np.ones((2, 2)), np.ones((2, 2)), kind="ppo")
  with pytest.raises(BadInput, match="rank 2"):
    group_advantages(np.ones((2, 2)), np.ones((2, 2)), kind="gdpo")


# eighths: rewards of a group are equal or at least 1/8 apart, so that 1e-6 is small beside sigma
groups = hnp.arrays(
  np.float64,
  hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
  elements=st.integers(-24, 24).map(lambda n: n / 8),
)


@settings(max_examples=60)
@given(groups, st.floats(-50, 50), st.floats(0.1, 20), st.randoms(use_true_random=False))
def test_invariances(reward, shift, scale, random):
  """Shift and order change nothing; grpo is free of scale (up to its 1e-6), the others follow it."""
  valid = np.array([[random.random() < 0.8 for _ in row] for row in reward])
  order = random.sample(range(reward.shape[1]), reward.shape[1])
  for kind in ("grpo", "dr_grpo", "rloo"):
    base = group_advantages(reward, valid, kind=kind)
    moved = group_advantages(reward + shift, valid, kind=kind)
    np.testing.assert_allclose(moved, base, atol=1e-6)
    scaled = group_advantages(reward * scale, valid, kind=kind)
    expected = base if kind == "grpo" else base * scale
    np.testing.assert_allclose(scaled, expected, rtol=1e-3, atol=1e-9)
    shuffled = group_advantages(reward[:, order], valid[:, order], kind=kind)
    np.testing.assert_allclose(shuffled, base[:, order], atol=1e-9)
    assert not base[~valid].any()
    np.testing.assert_allclose(base.sum(1), 0, atol=1e-7)


@settings(max_examples=60)
@given(groups, st.randoms(use_true_random=False))
def test_invalid_rows_are_as_if_absent(reward, random):
  valid = np.array([[random.random() < 0.7 for _ in row] for row in reward])
  junk = np.where(valid, reward, np.nan)
  for kind in ("grpo", "dr_grpo", "rloo"):
    out = group_advantages(junk, valid, kind=kind)
    for p, keep in enumerate(valid):
      alone = group_advantages(reward[p : p + 1, keep], np.ones((1, keep.sum())), kind=kind)
      np.testing.assert_allclose(out[p, keep], alone[0], atol=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", ["grpo", "reinforce_baseline", "gdpo"])
def test_a_row_without_verdict_leaves_loss_kl_entropy_and_counts(kind, aggregation):
  """A fourth row without verdict in each group of three: everything is as without it."""
  rng = np.random.default_rng(0)
  config = GRPOConfig(advantage=kind, aggregation=aggregation, kl_coef=0.1, mask_truncated=True)
  P, G, C = 3, 4, 6
  reward = rng.normal(size=(P, G, 2) if kind == "gdpo" else (P, G)).astype(np.float32)
  reward[:, 3] = np.nan
  mask = np.arange(C) < rng.integers(1, C + 1, (P, G, 1))
  logp, old, ref = rng.normal(size=(3, P, G, C)).astype(np.float32)
  block = np.where(mask, rng.integers(-1, 4, (P, G, C)), -1)
  stopped = np.ones((P, G), bool)
  stopped[0, 1] = False

  def numbers(G):
    cut = [x[:, :G].reshape(P * G, -1) for x in (mask, logp, old, ref, block)]
    valid = np.isfinite(reward[:, :G]).reshape(P, G, -1).all(-1)
    counted = valid & stopped[:, :G]
    rated = advantages.rated(
      config, CriticConfig(), jnp.asarray(reward[:, :G]), jnp.asarray(valid), jnp.asarray(counted),
      jnp.asarray(cut[0]), None, None, None,
    )  # fmt: skip
    advantage, mask_BC = rated["advantage"], rated["mask_BC"]
    in_blocks = np.stack([(cut[4] == each).sum(1) for each in range(4)], -1)
    experience = Experience(
      None, None, [], cut[0].sum(1).reshape(P, G), valid_PG=valid, counted_PG=counted,
      block_PGK=in_blocks.reshape(P, G, 4),
    )  # fmt: skip
    totals = update.sizes_of(experience, np.arange(P))
    assert not np.asarray(advantage)[~valid.ravel()].any()
    loss, metrics = policy_loss(
      jnp.asarray(cut[1]), jnp.asarray(cut[2]), advantage, mask_BC, aggregation=aggregation,
      max_tokens=C, ref_logp_BT=jnp.asarray(cut[3]), kl_coef=0.1, totals=totals,
      block_BT=cut[4], block_weights=(0.5, 2.0, 1.0, 1.0),
    )  # fmt: skip
    return {"loss": loss, **metrics, **totals._asdict()}

  with_it, without = numbers(4), numbers(3)
  assert int(with_it["all_rows"]) == 9 and int(with_it["rows"]) == 8
  for name, value in without.items():
    np.testing.assert_allclose(with_it[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("mask", reference.GAE_MASKS)
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.97, 0.9)])
def test_gae(mask, gamma, lam):
  reward, value = np.random.default_rng(5).normal(0, 1, (2, 4, 6))
  mask = np.asarray(reference.GAE_MASKS[mask])
  expected, returned, whitened = reference.gae(reward, value, mask, gamma, lam)
  junk = [np.where(mask, each, np.nan) for each in (reward, value)]
  chosen = {"gamma": gamma, "lam": lam}
  advantage, returns = advantages.gae(*junk, mask, whiten=False, **chosen)
  np.testing.assert_allclose(advantage, expected, atol=1e-12)
  np.testing.assert_allclose(returns, returned, atol=1e-12)
  np.testing.assert_allclose(advantages.gae(*junk, mask, **chosen)[0], whitened, atol=1e-10)
  device = jax.jit(lambda *a: advantages.gae(*a, **chosen))(*map(jnp.float32, (*junk, mask)))
  np.testing.assert_allclose(device[0], whitened, atol=1e-5)
  np.testing.assert_allclose(device[1], returned, atol=1e-5)


def test_signal_mask_is_exact():
  nan = np.nan
  reward = np.array(
    [[0.5, 0.5, 0.5], [0.5, 0.5 + 1e-12, 0.5], [1, nan, 1], [1, nan, nan], [nan] * 3]
  )
  for xp in (np, jnp):
    with jax.enable_x64(True):
      out = advantages.signal_mask(xp.asarray(reward), xp.isfinite(xp.asarray(reward)))
    np.testing.assert_array_equal(out, [False, True, False, False, False])
  pair = np.stack([np.ones((2, 3)), np.array([[1, 1, 1], [1, 2, 1]])], -1)
  np.testing.assert_array_equal(advantages.signal_mask(pair, np.ones((2, 3))), [False, True])


@pytest.mark.parametrize("kind", reference.ADVANTAGES)
def test_sources_are_normalised_and_long_rows_punished_for_every_advantage(kind):
  """What groups compare: zscore by source, then the punishment; for gdpo in U and in L."""
  rng = np.random.default_rng(2)
  P, G, budget, buffer = 4, 5, 50, 20
  columns = {
    name: rng.normal(spread, spread, (P, G))
    for spread, name in enumerate(("score", "user_reward", "llm_reward"), start=1)
  }
  valid = np.ones((P, G), bool)
  valid[1, :4], valid[3, 2] = False, False  # a group of one valid row
  count = rng.integers(1, budget + 1, (P, G))
  rows = [
    {"data_source": "ab"[p % 2], "valid": bool(valid[p, g]), "decision": 0.0}
    | {name: float(x[p, g]) if valid[p, g] else None for name, x in columns.items()}
    for p, g in np.ndindex(P, G)
  ]
  tokens = np.zeros((P * G, budget), np.int32)
  experience = Experience(None, Rollout(tokens, tokens > 0, tokens * 1.0, valid), rows, count)
  scored = reward(experience, RewardConfig(source_norm="zscore", judge=LENIENT), "here")
  config = GRPOConfig(advantage=kind, gdpo_weights=(0.3, 0.7), overlong_buffer=buffer)
  chosen = advantages.select(scored, Recipe(config, CriticConfig(), Fixed(), 0))
  final = chosen.reward_PG
  compared = chosen.utility_PGC if kind == "gdpo" else final

  def wanted(x):
    out = np.full((P, G), np.nan)
    for parity in (0, 1):
      own = x[parity::2][valid[parity::2]]
      out[parity::2] = (x[parity::2] - own.mean()) / (own.std() + 1e-6)
    for place in np.ndindex(P, G):
      out[place] += reference.overlong(count[place], budget, buffer)
    return np.where(valid, out, np.nan)

  score, user, llm = map(wanted, columns.values())
  pair = np.stack([user, llm], -1)
  np.testing.assert_allclose(final, 0.3 * user + 0.7 * llm if kind == "gdpo" else score)
  expected = reference.advantages(kind, pair if kind == "gdpo" else score, valid, (0.3, 0.7))
  ours = group_advantages(compared, valid, kind=kind, weights=(0.3, 0.7))
  np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_overlong_penalty():
  out = advantages.overlong_penalty(np.array([0, 60, 80, 90, 100]), 100, 20)
  np.testing.assert_allclose(out, [0, 0, 0, -0.5, -1])
  assert not advantages.overlong_penalty(np.array([100]), 100, 0).any()
  assert advantages.overlong_penalty(jnp.float32([95]), 100, 20).dtype == jnp.float32


@settings(max_examples=60)
@given(
  hnp.arrays(np.float64, (3, 6), elements=st.one_of(st.just(np.nan), st.integers(0, 5))),
  st.integers(2, 6),
)
def test_the_subset_has_the_largest_variance_of_all_choices(reward_PG, count):
  chosen_PG = advantages.max_variance_subset(reward_PG, count)
  assert (chosen_PG.sum(1) == count).all()
  for reward_G, chosen_G in zip(reward_PG, chosen_PG):
    some = np.flatnonzero(np.isfinite(reward_G))
    if len(some) < count:
      assert chosen_G[some].all()
      continue
    best = max(reward_G[list(each)].var() for each in itertools.combinations(some, count))
    assert reward_G[chosen_G].var() == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo", "reinforce_baseline"])
def test_advantages_of_the_subset_are_those_of_a_group_of_their_own(kind):
  reward_PG = np.random.default_rng(0).normal(size=(5, 8))
  chosen_PG = advantages.max_variance_subset(reward_PG, 4)
  whole_PG = group_advantages(reward_PG, chosen_PG, kind=kind)
  own_PK = group_advantages(reward_PG[chosen_PG].reshape(5, 4), np.ones((5, 4)), kind=kind)
  np.testing.assert_allclose(whole_PG[chosen_PG].reshape(5, 4), own_PK, rtol=1e-12)
  assert (whole_PG[~chosen_PG] == 0).all()
