"""Policy and value losses against the float64 reference of tests/golden/losses.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import losses as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.algorithms import loss, sft_loss
from gtalign_jax.errors import BadInput
from gtalign_jax.types import BLOCKS

X = reference.inputs()
COVERING = reference.covering()


def call(logp_BT, x, **options):
  return loss.policy_loss(
    logp_BT,
    x["old_logp"],
    x["advantage"],
    x["mask"],
    ref_logp_BT=x["ref_logp"],
    sampler_logp_BT=x["sampler_logp"],
    entropy_BT=x["entropy"],
    block_BT=x["block"],
    **{"max_tokens": reference.BUDGET, **options},
  )


def test_the_inputs_reach_every_branch():
  """Weights inside and outside of the bounds, an outlier, each block, an empty row, wide ratios."""
  away = np.where(X["mask"], X["old_logp"] - X["sampler_logp"], 0)
  assert (np.exp(away) < 1e-4).any(1).tolist() == [False, False, False, False, True]
  mean = np.exp(away.sum(1) / np.maximum(X["mask"].sum(1), 1))
  assert ((mean > 0.99) & (mean < 1.01)).tolist() == [False, True, True, False, False]
  assert set(X["block"][X["mask"] == 1]) == {-1, 0, 1, 2, 3}


@pytest.mark.parametrize("kind", loss.LOSSES)
def test_numpy_float64_loss_of_every_combination(kind):
  count = 0
  for cell in reference.cells():
    if cell["kind"] == kind:
      value, _ = call(X["logp"], X, **cell)
      expected = reference.policy(X, cell, X["logp"], X["logp"])
      assert abs(value - expected) <= 1e-12 * max(1.0, abs(expected)), reference.name(cell)
      count += 1
  assert count == 4 * 3 * 7 * 11 * 2


@functools.cache
def graded(index):
  """Loss, metrics and gradient of one of COVERING on the device, float64."""
  with jax.enable_x64(True):
    objective = functools.partial(call, x=X, **COVERING[index])
    (value, metrics), grad = jax.value_and_grad(objective, has_aux=True)(jnp.asarray(X["logp"]))
    assert value.dtype == grad.dtype == jnp.float64
    return float(value), {k: float(v) for k, v in metrics.items()}, np.asarray(grad)


@pytest.mark.parametrize("part", range(3))
def test_jax_losses_and_gradients(part):
  """Every two options meet in some cell."""
  for index in range(part, len(COVERING), 3):
    cell, (value, metrics, grad) = COVERING[index], graded(index)
    host, host_metrics = call(X["logp"], X, **cell)
    assert isinstance(host, np.float64)
    np.testing.assert_allclose(value, host, rtol=1e-12, err_msg=reference.name(cell))
    assert metrics.keys() == host_metrics.keys()
    for key, metric in metrics.items():
      np.testing.assert_allclose(metric, host_metrics[key], rtol=1e-12, err_msg=key)
    expected = reference.policy_gradient(X, cell)
    # r = e^20 tokens are huge: central differences are exact to about 1e-9 of the largest entry
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(
      grad / scale, expected / scale, atol=2e-8, err_msg=reference.name(cell)
    )


def test_f32_under_jit_agrees_and_keeps_its_dtype():
  x32 = {
    key: value.astype(np.float32) if value.dtype == float else value for key, value in X.items()
  }
  for cell in COVERING[::13]:
    value, metrics = jax.jit(lambda lp, c=cell: call(lp, x32, **c))(jnp.float32(X["logp"]))
    assert value.dtype == jnp.float32
    assert all(metric.dtype == jnp.float32 for metric in metrics.values())
    expected = reference.policy(X, cell, X["logp"], X["logp"])
    np.testing.assert_allclose(value, expected, rtol=3e-5, atol=1e-6, err_msg=reference.name(cell))


def test_bf16_is_computed_in_f32():
  value, _ = loss.policy_loss(
    jnp.bfloat16(X["logp"]), X["old_logp"], X["advantage"], X["mask"].astype(bool)
  )
  assert value.dtype == jnp.float32


@pytest.mark.parametrize("kind", loss.LOSSES)
@pytest.mark.parametrize("aggregation", loss.AGGREGATIONS)
def test_nothing_counts(kind, aggregation):
  junk = np.full((3, 4), np.nan, np.float32)
  zeros = np.zeros((3, 4), np.float32)

  def objective(lp):
    return loss.policy_loss(
      lp, junk, np.full(3, np.nan, np.float32), zeros, kind=kind, aggregation=aggregation,
      ref_logp_BT=junk, kl_coef=0.1, sampler_logp_BT=junk, mismatch="sequence",
    )  # fmt: skip

  (value, metrics), grad = jax.value_and_grad(objective, has_aux=True)(jnp.asarray(junk))
  assert value == 0 and not np.asarray(grad).any()
  assert all(metric == 0 for metric in metrics.values())


def test_masked_entries_reach_neither_loss_nor_gradient():
  junk = {key: value.copy().astype(float) for key, value in X.items()}
  for key, bad in (("logp", np.nan), ("old_logp", -np.inf), ("ref_logp", np.inf)):
    junk[key][X["mask"] == 0] = bad
  for cell in COVERING[::23]:
    clean = jax.value_and_grad(lambda lp, c=cell: call(lp, X, **c)[0])(jnp.float32(X["logp"]))
    dirty = jax.value_and_grad(lambda lp, c=cell: call(lp, junk, **c)[0])(jnp.float32(junk["logp"]))
    np.testing.assert_array_equal(clean[0], dirty[0])
    np.testing.assert_array_equal(clean[1], dirty[1])
    assert not np.asarray(dirty[1])[X["mask"] == 0].any()


def test_first_epoch_ratio_is_one_and_the_gradient_is_the_policy_gradient():
  lp = jnp.float32(X["logp"])
  for clip in (0.0, 0.2):  # with no room to move, the free branch still has its whole gradient
    (_, metrics), grad = jax.value_and_grad(
      lambda lp, c=clip: loss.policy_loss(
        lp, jax.lax.stop_gradient(lp), X["advantage"], X["mask"], clip_low=c, clip_high=c
      ),
      has_aux=True,
    )(lp)
    expected = -X["advantage"][:, None] * X["mask"] / X["mask"].sum()
    np.testing.assert_allclose(grad, expected, rtol=1e-6)
    assert metrics["ratio/mean"] == metrics["ratio/max"] == 1
    assert metrics["clip_ratio/region_mean"] == 0


def test_log_ratios_beyond_20_are_clamped():
  """A falling advantage leaves the upper side free: the ratio stops at e^20, with no gradient."""
  value, grad = jax.value_and_grad(
    lambda lp: loss.policy_loss(lp, jnp.array([[-90.0]]), np.array([-1.0]), np.ones((1, 1)))[0]
  )(jnp.array([[-3.0]]))
  np.testing.assert_allclose(value, np.exp(20), rtol=1e-6)
  assert grad == 0


def test_clip_metrics_count_tokens_that_the_clip_holds():
  logp = np.log(np.array([[0.5, 2.0, 1.0, 1.3]]))
  for A, low, high in ((1.0, 0, 2), (-1.0, 1, 0)):
    _, metrics = loss.policy_loss(logp, np.zeros((1, 4)), np.array([A]), np.ones((1, 4)))
    assert metrics["clip_ratio/low_mean"] == low / 4
    assert metrics["clip_ratio/high_mean"] == high / 4
    assert metrics["clip_ratio/region_mean"] == (low + high) / 4
  _, metrics = loss.policy_loss(
    logp, np.zeros((1, 4)), np.array([1.0]), np.ones((1, 4)), kind="cispo"
  )
  assert metrics["clip_ratio/region_mean"] == 3 / 4  # the weight is clipped whatever the sign


def test_mismatch_metrics():
  _, metrics = call(X["logp"], X)
  away = np.abs(X["old_logp"] - X["sampler_logp"])[X["mask"] == 1]
  key = "sampling/sampling_logp_difference"
  np.testing.assert_allclose(metrics[f"{key}/mean"], away.mean())
  np.testing.assert_allclose(metrics[f"{key}/max"], away.max())
  assert not any("masked" in each for each in metrics)


@pytest.mark.parametrize("kind", loss.LOSSES)
@pytest.mark.parametrize(
  ("options", "rows"),
  [
    ({"mismatch_veto": (1e-4, 1e2)}, [4]),
    ({"mismatch": "sequence-geometric"}, [0, 3, 4]),
    ({"mismatch": "sequence-geometric", "mismatch_veto": (1e-4, 1e2)}, [0, 3, 4]),
    ({"mismatch": "token", "mismatch_veto": (0.995, 1.001)}, [0, 1, 3, 4]),
  ],
)
def test_masked_rows_leave_the_gradient_and_are_counted(kind, options, rows):
  with jax.enable_x64(True):
    objective = functools.partial(call, x=X, kind=kind, **options)
    (_, metrics), grad = jax.value_and_grad(objective, has_aux=True)(jnp.asarray(X["logp"]))
    assert not np.asarray(grad)[rows].any()
    count = X["mask"].sum(1)
    assert metrics["sampling/masked_row_frac"] == len(rows) / (count > 0).sum()
    masked = count[rows].sum() / count.sum()
    assert float(metrics["sampling/masked_token_frac"]) == pytest.approx(masked, rel=1e-12)


def test_metrics_of_blocks_are_means_over_their_tokens():
  _, metrics = call(X["logp"], X, clip_low=0.05, clip_high=0.05)
  delta = X["logp"] - X["old_logp"]
  up = X["advantage"][:, None] > 0
  clipped = np.where(up, delta > np.log(1.05), delta < np.log(0.95))
  kl = np.exp(X["ref_logp"] - X["logp"]) + X["logp"] - X["ref_logp"] - 1
  tokens = 0
  for index, block in enumerate(BLOCKS):
    inside = (X["block"] == index) & (X["mask"] == 1)
    for name, value in (("entropy", X["entropy"]), ("kl", kl), ("clip_ratio", clipped)):
      np.testing.assert_allclose(
        metrics[f"block/{block}/{name}"], value[inside].mean(), rtol=1e-12, err_msg=block + name
      )
    assert metrics[f"block/{block}/length"] == inside.sum() / 4
    tokens += inside.sum()
  assert tokens == X["mask"].sum() - 2  # two tokens are outside of all
  nowhere = X | {"block": np.full_like(X["block"], -1)}
  _, metrics = call(X["logp"], nowhere)
  assert np.isnan(metrics["block/payoff/entropy"]) and metrics["block/payoff/length"] == 0


def test_a_token_advantage_is_accepted():
  A_BT = np.broadcast_to(X["advantage"][:, None], X["mask"].shape)
  args = (X["logp"], X["old_logp"])
  one = loss.policy_loss(*args, X["advantage"], X["mask"])[0]
  assert loss.policy_loss(*args, A_BT, X["mask"])[0] == one


def cut(x, rows, pad):
  part = {key: value[rows] for key, value in x.items()}
  return {
    key: np.pad(value, ((0, 0), (0, pad))) if value.ndim == 2 else value
    for key, value in part.items()
  }


@settings(max_examples=60)
@given(st.sampled_from(COVERING), st.permutations(range(5)), st.integers(0, 4), st.integers(0, 3))
def test_slices_add_up_to_the_whole(cell, order, first, pad):
  """Any order and any split of the rows, and any padding, leaves loss and metrics where they are."""
  whole, metrics = call(X["logp"], X, **cell)
  whole_totals = loss.totals(X["mask"], X["block"])
  pieces = [cut(X, rows, pad) for rows in (order[: first + 1], order[first + 1 :]) if rows]
  parts = [call(each["logp"], each, totals=whole_totals, **cell) for each in pieces]
  np.testing.assert_allclose(sum(value for value, _ in parts), whole, rtol=1e-11)
  for key, value in metrics.items():
    join = max if key.endswith("/max") else sum
    np.testing.assert_allclose(join(part[1][key] for part in parts), value, rtol=1e-11)


def test_gradients_of_slices_are_those_of_the_whole():
  whole_totals = loss.totals(X["mask"], X["block"])
  for index in range(0, len(COVERING), 26):
    _, _, expected = graded(index)
    with jax.enable_x64(True):
      for rows in ([2], [4, 1]):  # row 2 is empty
        part = cut(X, rows, 0)
        objective = functools.partial(call, x=part, totals=whole_totals, **COVERING[index])
        grad = jax.grad(lambda lp, f=objective: f(lp)[0])(jnp.asarray(part["logp"]))
        np.testing.assert_allclose(grad, expected[rows], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("aggregation", loss.AGGREGATIONS)
def test_value_loss(aggregation):
  value_BT, *others = reference.value_inputs()
  chosen = {"aggregation": aggregation, "max_tokens": reference.BUDGET}

  def expected(v):
    return reference.value(v, *others, X["mask"], aggregation)

  value, metrics = loss.value_loss(value_BT, *others, X["mask"], **chosen)
  np.testing.assert_allclose(value, expected(value_BT), rtol=1e-12)
  assert 0 < metrics["value/clip_frac"] < 1
  with jax.enable_x64(True):
    device, grad = jax.value_and_grad(
      lambda v: loss.value_loss(v, *others, X["mask"], **chosen)[0]
    )(jnp.asarray(value_BT))
  np.testing.assert_allclose(device, expected(value_BT), rtol=1e-12)
  np.testing.assert_allclose(grad, reference.differences(expected, value_BT), atol=1e-8)


def test_value_loss_of_nothing_is_zero_with_zero_gradient():
  junk = jnp.full((2, 3), jnp.nan)
  value, grad = jax.value_and_grad(lambda v: loss.value_loss(v, junk, junk, jnp.zeros((2, 3)))[0])(
    junk
  )
  assert value == 0 and not np.asarray(grad).any()


def test_sft_loss_is_token_mean_and_slices_add_up():
  counted = X["logp"][X["mask"] == 1]
  value, metrics = sft_loss.sft_loss(X["logp"], X["mask"])
  np.testing.assert_allclose(value, -counted.mean(), rtol=1e-12)
  assert metrics["sft/num_tokens"] == counted.size
  parts = [
    sft_loss.sft_loss(X["logp"][rows], X["mask"][rows], denominator=counted.size)[0]
    for rows in (slice(0, 2), slice(2, None))
  ]
  np.testing.assert_allclose(sum(parts), value, rtol=1e-12)
  junk = jnp.full((2, 3), -jnp.inf)
  empty, grad = jax.value_and_grad(lambda lp: sft_loss.sft_loss(lp, jnp.zeros((2, 3)))[0])(junk)
  assert empty == 0 and not np.asarray(grad).any()


@pytest.mark.parametrize(
  ("change", "key"),
  [
    ({"kind": "ppo"}, "grpo.kind='ppo'"),
    ({"aggregation": "mean"}, "grpo.aggregation='mean'"),
    ({"kl_coef": 0.1, "kl_estimator": "k4"}, "grpo.kl_estimator='k4'"),
    ({"mismatch": "row"}, "grpo.mismatch='row'"),
    ({"mismatch": "token", "mismatch_mode": "drop"}, "grpo.mismatch_mode='drop'"),
  ],
)
def test_unknown_names(change, key):
  with pytest.raises(BadInput, match=key):
    call(X["logp"], X, **change)


def test_missing_arrays_are_named():
  args = (X["logp"], X["old_logp"], X["advantage"], X["mask"])
  with pytest.raises(BadInput, match="reference"):
    loss.policy_loss(*args, kl_coef=0.1)
  for options in ({"mismatch": "token"}, {"mismatch_veto": (1e-4, 1e2)}):
    with pytest.raises(BadInput, match="sampler"):
      loss.policy_loss(*args, **options)
  with pytest.raises(BadInput, match="block of each token"):
    loss.policy_loss(*args, block_weights=(1, 1, 1, 2))


@pytest.mark.parametrize("estimator", loss.KL_ESTIMATORS)
@pytest.mark.parametrize("away", [-1e4, -120.0, -20.5, -19.5, 19.5, 120.0, 1e4])
def test_a_token_far_from_the_reference_gives_finite_numbers(estimator, away):
  """exp(-delta) of k3 overflows f32 below -88, and such an update would be skipped for ever."""

  def total(logp):
    value, metrics = loss.policy_loss(
      logp, logp, jnp.zeros(1), jnp.ones((1, 2), bool), ref_logp_BT=jnp.float32([[-1.0, -1.0]]),
      kl_coef=0.1, kl_estimator=estimator,
    )  # fmt: skip
    return value, metrics["kl"]

  logp = jnp.float32([[away - 1.0, -1.5]])
  (value, kl), grad = jax.value_and_grad(total, has_aux=True)(logp)
  assert jnp.isfinite(value) and jnp.isfinite(kl) and jnp.isfinite(grad).all()
  if estimator not in ("k1",):  # k1's gradient is 1 wherever the policy is
    assert grad[0, 0] * away >= 0  # never away from the reference
