"""The draw: exact truncated sets, frequencies, edge cases of the uniform, independence of rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.ops import sampling
from gtalign_jax.parallel import mesh, sharding
from gtalign_jax.sections import MeshConfig

OPTIONS = [
  {},
  {"temperature": 0.6},
  {"temperature": 1.7, "top_k": 5},
  {"top_p": 0.8},
  {"min_p": 0.2},
  {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
]


def logits(B=6, V=300, seed=0, scale=2.0):
  return np.random.default_rng(seed).normal(size=(B, V)).astype(np.float32) * scale


@functools.cache
def jitted(items):
  return jax.jit(lambda z, u: sampling.sample(z, u, **dict(items)))


def draw(z, u, **options):
  return jitted(tuple(options.items()))(jnp.asarray(z), jnp.asarray(u, jnp.float32))


def reference(z_V, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
  """(full, truncated) distribution of one row by sorting, float64."""
  z = np.asarray(z_V, np.float64) / temperature
  full = np.exp(z - z.max())
  full /= full.sum()
  p = full.copy()
  if 0 < top_k < len(p):
    p[p < np.sort(p)[-top_k]] = 0
  if top_p < 1:
    values = np.unique(p)[::-1]
    share = [p[p > value].sum() / p.sum() for value in values]
    p[p < min(v for v, s in zip(values, share) if s < top_p or v == values[0])] = 0
  p[p < min_p * p.max()] = 0
  return full, p / p.sum()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_truncated_sets_are_exact(options):
  z = logits()
  away = z / np.float32(options.get("temperature", 1.0))
  weight = np.exp(away - away.max(1, keepdims=True))
  chosen = {
    key: options.get(key, off) for key, off in (("top_k", 0), ("top_p", 1.0), ("min_p", 0.0))
  }
  kept = jax.jit(lambda w: sampling.truncate(w, w.sum(1), **chosen))(jnp.asarray(weight))
  for row in range(len(z)):
    _, p = reference(z[row], **options)
    np.testing.assert_array_equal(np.asarray(kept[row]) > 0, p > 0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_frequencies_and_log_probabilities(options):
  """An even grid of uniforms must hit each token in proportion: the error is below two grid steps a
  token, far tighter than a chi-square over random draws."""
  n, z = 4096, logits(B=1, V=70)
  uniform = (np.arange(n) + 0.5) / n
  token, logp = map(np.asarray, draw(np.repeat(z, n, 0), uniform, **options))
  full, p = reference(z[0], **options)
  counts = np.bincount(token, minlength=70)
  assert np.abs(counts - n * p).max() <= 2.1
  np.testing.assert_allclose(logp, np.log(full[token]), atol=3e-6)


def test_random_frequencies_chi_square():
  n, z = 20000, logits(B=1, V=40, scale=1.0)
  uniform = sampling.row_uniforms(jax.random.key(7), 0, jnp.arange(n), 0)
  counts = np.bincount(np.asarray(draw(np.repeat(z, n, 0), uniform)[0]), minlength=40)
  _, p = reference(z[0])
  statistic = ((counts - n * p) ** 2 / (n * p)).sum()
  assert statistic < 39 + 5 * np.sqrt(2 * 39)  # 5 standard deviations of chi-square with 39 degrees


def test_uniforms_at_the_edges_never_leave_the_set():
  """0, the largest f32 below 1, and values at the borders between tokens."""
  edges = np.float32(
    [0, 1e-45, 2**-24, 0.25, 0.5, 0.75, 1 - 2**-23, np.nextafter(1, 0, dtype="f4")]
  )
  spiky = np.full((len(edges), 5000), -np.inf, np.float32)
  spiky[:, [17, 4000, 4999]] = [0.0, 1.0, 0.5]
  token, logp = draw(spiky, edges)
  assert set(np.asarray(token).tolist()) <= {17, 4000, 4999}
  assert np.isfinite(logp).all()
  flat = np.zeros((len(edges), 5000), np.float32)
  token = np.asarray(draw(flat, edges)[0])
  assert (token >= 0).all() and (token < 5000).all()
  lone = np.full((len(edges), 129), -200.0, np.float32)  # exp underflows: probability exactly 0
  lone[:, 128] = 0
  assert (np.asarray(draw(lone, edges)[0]) == 128).all()
  for options in OPTIONS[2:]:
    z = np.repeat(logits(B=1, V=4099, seed=4), len(edges), 0)
    token, logp = draw(z, edges, **options)
    _, p = reference(z[0], **options)
    assert (p[np.asarray(token)] > 0).all() and np.isfinite(logp).all()


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.floats(0, 1, exclude_max=True, width=32), st.integers(1, 40))
def test_zero_weights_are_never_drawn(seed, uniform, holes):
  rng = np.random.default_rng(seed)
  weight = rng.exponential(size=(1, 200)).astype(np.float32) ** 8  # spans many magnitudes
  weight[0, rng.integers(0, 200, 5 * holes)] = 0
  weight[0, rng.integers(0, 200)] = 1.0
  token = jax.jit(sampling.invert)(jnp.asarray(weight), jnp.float32([uniform]))
  assert weight[0, int(token[0])] > 0


def test_a_target_below_zero_by_rounding_skips_zero_weights():
  """The remainder within a lane is a difference of f32 sums and may fall just below 0."""
  index, before = sampling._first_beyond(jnp.array([[0.0, 0.0, 1.0, 2.0]]), jnp.array([-1e-7]))
  assert index[0] == 2 and before[0] == 0


@pytest.mark.parametrize("tied", [(7, 250), (5, 130), (127, 128, 256), (2, 129, 131)])
def test_greedy_takes_the_lowest_of_the_largest(tied):
  """Whatever lanes (id modulo 128) the tied ids lie in: 130 is in an earlier one than 5."""
  z = logits()
  z[2, list(tied)] = z[2].max() + 1
  token, logp = draw(z, np.full(6, 0.99), temperature=0.0)
  np.testing.assert_array_equal(token, z.argmax(1))
  assert token[2] == min(tied)
  expected = [np.log(reference(row)[0].max()) for row in z]
  np.testing.assert_allclose(logp, expected, atol=3e-6)  # of the policy at temperature 1


def test_ties_at_the_threshold_are_kept_whatever_their_order():
  z = np.log(np.array([[0.3, 0.2, 0.2, 0.2, 0.1]], np.float32))
  for order in (range(5), reversed(range(5))):
    column = list(order)
    weight = jnp.exp(z[:, column] - z.max())
    kept = sampling.truncate(weight, weight.sum(1), top_k=2, top_p=1.0, min_p=0.0)
    np.testing.assert_array_equal(np.asarray(kept[0] > 0), np.arange(5)[column] < 4)
  nothing_less = sampling.truncate(jnp.ones((1, 9)), jnp.full(1, 9.0), top_k=1, top_p=0.1, min_p=1)
  assert (np.asarray(nothing_less) == 1).all()


def test_top_p_zero_and_large_top_k():
  weight = jnp.asarray([[0.5, 1.0, 0.0, 0.25]])
  only = sampling.truncate(weight, weight.sum(1), top_k=0, top_p=0.0, min_p=0.0)
  np.testing.assert_array_equal(only, [[0, 1, 0, 0]])
  everything = sampling.truncate(weight, weight.sum(1), top_k=3, top_p=1.0, min_p=0.0)
  np.testing.assert_array_equal(everything, weight)
  assert sampling.truncate(weight, weight.sum(1), top_k=4, top_p=1.0, min_p=0.0) is weight


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_row_does_not_depend_on_its_neighbours(options):
  z, uniform = logits(B=6), np.random.default_rng(1).random(6)
  together = draw(z, uniform, **options)
  other = draw(np.concatenate([z[3:4], logits(B=5, seed=9)]), [uniform[3], *uniform[:5]], **options)
  for one, two in zip(together, other):
    np.testing.assert_array_equal(one[3], two[0])


def test_uniforms_depend_on_seed_step_row_and_t_alone():
  key = jax.random.key(3)
  rows = jnp.array([5, 0, 9])
  base = sampling.row_uniforms(key, 2, rows, 7)
  folded = [
    jax.random.uniform(functools.reduce(jax.random.fold_in, (2, row, 7), key)) for row in (5, 0, 9)
  ]
  np.testing.assert_array_equal(base, folded)
  np.testing.assert_array_equal(base[2], sampling.row_uniforms(key, 2, rows[2:], 7)[0])
  for changed in (
    sampling.row_uniforms(jax.random.key(4), 2, rows, 7),
    sampling.row_uniforms(key, 3, rows, 7),
    sampling.row_uniforms(key, 2, rows, 8),
  ):
    assert (np.asarray(changed) != np.asarray(base)).all()
  assert base.dtype == jnp.float32 and ((base >= 0) & (base < 1)).all()


def test_sharded_equals_one_device():
  z, uniform = logits(B=8, V=512), np.random.default_rng(2).random(8).astype(np.float32)
  run = jax.jit(lambda z, u: sampling.sample(z, u, top_k=40, top_p=0.9))
  expected = run(z, uniform)
  grid = mesh.make(MeshConfig(data=2, fsdp=2, tensor=2))
  placed = jax.device_put(z, sharding.sharding(grid, ("batch", "vocab")))
  got = run(placed, jax.device_put(uniform, sharding.sharding(grid, ("batch",))))
  np.testing.assert_array_equal(got[0], expected[0])
  np.testing.assert_allclose(got[1], expected[1], atol=2e-6)


def test_float64_stays_float64():
  with jax.enable_x64(True):
    z = jnp.asarray(logits(), jnp.float64)
    token, logp = sampling.sample(z, jnp.full(6, 0.4), top_p=0.7)
    assert logp.dtype == jnp.float64 and token.dtype == jnp.int32
    for row in range(6):
      full, p = reference(z[row], top_p=0.7)
      np.testing.assert_allclose(logp[row], np.log(full[token[row]]), rtol=1e-12)
      assert p[token[row]] > 0


def test_options_of_each_row_draw_as_options_of_all():
  """Every option in one batch, a row each; greedy too."""
  options = [*OPTIONS, {"temperature": 0.0}]
  z = logits(B=1)
  for u in (0.03, 0.4, 0.97):
    alone = [draw(z, [u], **each) for each in options]
    full = [{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | each for each in options]
    kinds = {"temperature": np.float32, "top_k": np.int32, "top_p": np.float32, "min_p": np.float32}
    columns = [np.asarray([each[name] for each in full], kind) for name, kind in kinds.items()]
    rows = np.repeat(z, len(options), axis=0)
    token_B, logp_B = sampling.sample_each(
      jnp.asarray(rows), jnp.full(len(options), u, jnp.float32), sampling.Options(*columns)
    )
    assert token_B.tolist() == [int(token[0]) for token, _ in alone]
    np.testing.assert_allclose(logp_B, [float(logp[0]) for _, logp in alone], rtol=1e-6)
