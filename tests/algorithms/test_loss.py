"""Policy and value losses against the float64 reference of tests/golden/make_losses.py."""

import json
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.algorithms import loss, sft_loss
from gtalign_jax.errors import BadInput

GOLDEN = Path(__file__).parent.parent / "golden"
DATA = json.loads((GOLDEN / "losses.json").read_text(encoding="utf-8"))
X = {key: np.asarray(value) for key, value in DATA["inputs"].items()}
OPTIONS = (
  "kind", "aggregation", "clip_low", "clip_high", "dual_clip", "kl_coef", "kl_estimator",
  "mismatch", "mismatch_mode", "mismatch_bounds",
)  # fmt: skip


def options(cell):
  chosen = {key: cell[key] for key in OPTIONS}
  chosen["mismatch_bounds"] = tuple(chosen["mismatch_bounds"])
  return chosen | {"max_tokens": DATA["max_tokens"]}


def call(logp_BT, x, **options):
  return loss.policy_loss(
    logp_BT,
    x["old_logp"],
    x["advantage"],
    x["mask"],
    ref_logp_BT=x["ref_logp"],
    sampler_logp_BT=x["sampler_logp"],
    **options,
  )


def name(cell):
  marks = [cell["kind"], cell["aggregation"], cell["kl_estimator"] if cell["kl_coef"] else "nokl"]
  return "-".join([*marks, cell["mismatch"], cell["mismatch_mode"], str(cell["dual_clip"])])


def test_the_golden_file_is_what_the_script_writes():
  script = runpy.run_path(str(GOLDEN / "make_losses.py"))
  made = script["make"]()
  for key in DATA:
    np.testing.assert_equal(made[key], DATA[key], err_msg=key)


@pytest.mark.parametrize("cell", DATA["policy"], ids=name)
def test_numpy_float64_loss(cell):
  value, metrics = call(X["logp"], X, **options(cell))
  assert isinstance(value, np.float64)
  assert all(isinstance(metric, np.float64) for metric in metrics.values())
  np.testing.assert_allclose(value, cell["loss"], rtol=1e-12)


@pytest.mark.parametrize("kind", loss.LOSSES)
def test_jax_losses_and_gradients(kind):
  cells = [cell for cell in DATA["policy"] if cell["kind"] == kind]
  with jax.enable_x64(True):
    lp = jnp.asarray(X["logp"])
    for cell in cells:
      value, grad = jax.value_and_grad(lambda lp, c=cell: call(lp, X, **options(c))[0])(lp)
      assert value.dtype == grad.dtype == jnp.float64
      np.testing.assert_allclose(value, cell["loss"], rtol=1e-12, err_msg=name(cell))
      # r = e^20 tokens are huge: central differences are exact to about 1e-9 of the largest entry
      scale = max(1.0, float(np.abs(cell["gradient"]).max()))
      np.testing.assert_allclose(
        grad / scale, np.asarray(cell["gradient"]) / scale, atol=2e-8, err_msg=name(cell)
      )


def test_f32_under_jit_agrees_and_keeps_its_dtype():
  x32 = {key: value.astype(np.float32) for key, value in X.items()}
  for cell in DATA["policy"][::13]:
    value, metrics = jax.jit(lambda lp, c=cell: call(lp, x32, **options(c)))(jnp.float32(X["logp"]))
    assert value.dtype == jnp.float32
    assert all(metric.dtype == jnp.float32 for metric in metrics.values())
    np.testing.assert_allclose(value, cell["loss"], rtol=3e-5, atol=1e-6, err_msg=name(cell))


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
  for cell in DATA["policy"][::23]:
    chosen = options(cell)
    clean = jax.value_and_grad(lambda lp, c=chosen: call(lp, X, **c)[0])(jnp.float32(X["logp"]))
    dirty = jax.value_and_grad(lambda lp, c=chosen: call(lp, junk, **c)[0])(
      jnp.float32(junk["logp"])
    )
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


def test_a_token_advantage_is_accepted():
  A_BT = np.broadcast_to(X["advantage"][:, None], X["mask"].shape)
  args = (X["logp"], X["old_logp"])
  one = loss.policy_loss(*args, X["advantage"], X["mask"])[0]
  assert loss.policy_loss(*args, A_BT, X["mask"])[0] == one


@pytest.mark.parametrize("aggregation", loss.AGGREGATIONS)
@settings(max_examples=8)
@given(data=st.data())
def test_slices_add_up_to_the_whole(aggregation, data):
  """Any split of the rows, and any padding, leaves loss and metrics where they are."""
  cut = data.draw(st.integers(1, 4))
  pad = data.draw(st.integers(0, 3))
  kind = data.draw(st.sampled_from(loss.LOSSES))
  chosen = {
    "kind": kind, "aggregation": aggregation, "max_tokens": 9, "kl_coef": 0.1, "mismatch": "token",
  }  # fmt: skip
  whole, metrics = call(X["logp"], X, **chosen)
  whole_totals = loss.totals(X["mask"])
  parts = []
  for rows in (slice(0, cut), slice(cut, None)):
    part = {key: value[rows] for key, value in X.items()}
    part = {
      key: np.pad(value, ((0, 0), (0, pad)), constant_values=0) if value.ndim == 2 else value
      for key, value in part.items()
    }
    parts.append(call(part["logp"], part, totals=whole_totals, **chosen))
  np.testing.assert_allclose(sum(value for value, _ in parts), whole, rtol=1e-12)
  for key, value in metrics.items():
    join = max if key.endswith("/max") else sum
    np.testing.assert_allclose(join(part[1][key] for part in parts), value, rtol=1e-12)


@pytest.mark.parametrize("cell", DATA["value"]["cells"], ids=lambda cell: cell["aggregation"])
def test_value_loss(cell):
  arrays = [np.asarray(DATA["value"][key]) for key in ("value", "old_value", "return")]
  settings = {"aggregation": cell["aggregation"], "max_tokens": DATA["max_tokens"]}
  value, metrics = loss.value_loss(*arrays, X["mask"], **settings)
  np.testing.assert_allclose(value, cell["loss"], rtol=1e-12)
  assert 0 < metrics["value/clip_frac"] < 1
  with jax.enable_x64(True):
    device, _ = jax.jit(lambda *a: loss.value_loss(*a, **settings))(
      *map(jnp.asarray, (*arrays, X["mask"]))
    )
  np.testing.assert_allclose(device, cell["loss"], rtol=1e-12)


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
  with pytest.raises(BadInput, match="sampler"):
    loss.policy_loss(*args, mismatch="token")


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
