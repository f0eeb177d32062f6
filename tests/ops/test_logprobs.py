"""Blocked log-probabilities against the plain log-softmax: values, gradients, memory, sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gtalign_jax.ops.logprobs import Allowed, token_logprobs
from gtalign_jax.parallel import mesh, sharding
from gtalign_jax.sections import MeshConfig

B, T, D, V = 4, 10, 8, 136


def arrays(dtype=np.float64, scale=1.0, V=V):
  rng = np.random.default_rng(0)
  hidden = rng.normal(size=(B, T, D)).astype(dtype)
  head = (rng.normal(size=(D, V)) * scale).astype(dtype)
  return jnp.asarray(hidden), jnp.asarray(head), jnp.asarray(rng.integers(0, V, (B, T)))


def plain(hidden, head, tokens, temperature=1.0, softcap=None):
  logits = (hidden @ head).astype(jnp.promote_types(hidden.dtype, jnp.float32))
  if softcap:
    logits = softcap * jnp.tanh(logits / softcap)
  logq = jax.nn.log_softmax(logits / temperature)
  entropy = -jnp.sum(jnp.exp(logq) * logq, -1)
  return jnp.take_along_axis(logq, tokens[..., None], -1)[..., 0], entropy


@pytest.mark.parametrize("V", [131, 128, 8 * 13])  # a prime; 8 runs of 16; 8 runs of 13
@pytest.mark.parametrize("block", [1, 40, 64, 1000])  # single entries, uneven, even, all at once
@pytest.mark.parametrize(("temperature", "softcap"), [(1.0, None), (0.6, None), (0.6, 3.0)])
def test_values_and_gradients(block, V, temperature, softcap):
  options = {"temperature": temperature, "softcap": softcap}
  with jax.enable_x64(True):
    hidden, head, tokens = arrays(V=V)
    ours, pull = jax.vjp(
      lambda h, w: token_logprobs(h, w, tokens, block=block, **options), hidden, head
    )
    expected, pull_plain = jax.vjp(lambda h, w: plain(h, w, tokens, **options), hidden, head)
    cotangent = tuple(jnp.asarray(np.random.default_rng(1).normal(size=(2, B, T))))
    for one, two in zip((*ours, *pull(cotangent)), (*expected, *pull_plain(cotangent))):
      assert one.dtype == jnp.float64 and one.shape == two.shape
      np.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_entries_that_are_not_allowed_have_no_part(softcap):
  rng = np.random.default_rng(2)
  with jax.enable_x64(True):
    hidden, head, tokens = arrays(V=131)
    class_V, classes_BTC = rng.integers(0, 5, 131), rng.random((B, T, 5)) < 0.4
    np.put_along_axis(classes_BTC, class_V[np.asarray(tokens)][..., None], True, -1)
    allowed = Allowed(jnp.asarray(class_V), jnp.asarray(classes_BTC))

    def masked(h, w):
      logits = softcap * jnp.tanh(h @ w / softcap) if softcap else h @ w
      some = jnp.where(classes_BTC[..., class_V], logits / 0.6, -1e30)
      logq = jax.nn.log_softmax(some)
      entropy = -jnp.sum(jnp.exp(logq) * jnp.maximum(logq, -1e6), -1)
      return jnp.take_along_axis(logq, tokens[..., None], -1)[..., 0], entropy

    options = {"temperature": 0.6, "softcap": softcap, "block": 40, "allowed": allowed}
    ours, pull = jax.vjp(lambda h, w: token_logprobs(h, w, tokens, **options), hidden, head)
    expected, pull_plain = jax.vjp(masked, hidden, head)
    cotangent = tuple(jnp.asarray(rng.normal(size=(2, B, T))))
    for one, two in zip((*ours, *pull(cotangent)), (*expected, *pull_plain(cotangent))):
      np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-11)


def test_against_finite_differences():
  with jax.enable_x64(True):
    hidden, head, tokens = arrays()
    check_grads(
      lambda h, w: token_logprobs(h, w, tokens, block=48, softcap=5.0, temperature=1.3),
      (hidden, head), order=1, modes=["rev"], atol=1e-6, rtol=1e-6,
    )  # fmt: skip


def test_f32_with_large_logits_and_masked_vocabulary():
  hidden, head, tokens = arrays(np.float32, scale=40.0)
  tokens = tokens % 100
  hidden = hidden.at[..., 0].set(1.0)
  for row in range(1, D):
    head = head.at[row, 100:].set(0.0)
  head = head.at[0, 100:].set(-jnp.inf)  # entries 100.. have logit -inf: probability exactly 0
  cut = head[:, :100]
  ours = token_logprobs(hidden, head, tokens, block=48)
  expected = plain(hidden, cut, tokens)
  np.testing.assert_allclose(ours[0], expected[0], rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(ours[1], expected[1], rtol=1e-3, atol=1e-4)
  assert np.isfinite(ours[0]).all() and (np.asarray(ours[0]) <= 0).all()


def test_bf16_matmul_has_f32_results_and_the_head_keeps_its_gradient_dtype():
  hidden, head, tokens = arrays(np.float32)
  (logp, entropy), pull = jax.vjp(
    lambda h, w: token_logprobs(h, w, tokens, block=48), hidden.astype(jnp.bfloat16), head
  )
  assert logp.dtype == entropy.dtype == jnp.float32
  dhidden, dhead = pull((jnp.ones_like(logp), jnp.zeros_like(logp)))
  assert dhidden.dtype == jnp.bfloat16 and dhead.dtype == jnp.float32
  exact = plain(hidden.astype(jnp.bfloat16).astype(jnp.float32), head.astype(jnp.bfloat16), tokens)
  np.testing.assert_allclose(logp, exact[0], atol=0.05)
  reference = jax.grad(lambda w: plain(hidden, w, tokens)[0].sum())(head)
  np.testing.assert_allclose(dhead, reference, atol=0.03 * float(jnp.abs(reference).max()))


def shapes_of(jaxpr):
  for equation in jaxpr.eqns:
    for out in equation.outvars:
      yield out.aval.shape
    for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "jaxpr")):
      if hasattr(value, "jaxpr"):
        yield from shapes_of(value.jaxpr)


def test_full_logits_never_exist():
  hidden, head, tokens = arrays(np.float32)

  def loss(h, w):
    logp, entropy = token_logprobs(h, w, tokens, block=48)
    return logp.sum() + entropy.sum()

  shapes = set(shapes_of(jax.make_jaxpr(jax.grad(loss, (0, 1)))(hidden, head).jaxpr))
  assert (B, T, 8, 6) in shapes  # a block of logits, so the walk sees inside the scans
  assert max(np.prod(shape) for shape in shapes) == B * T * 48  # and nothing is larger


@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)])
def test_sharded_equals_one_device(sizes):
  rng = np.random.default_rng(3)
  hidden = rng.normal(size=(8, 6, 16)).astype(np.float32)
  head = rng.normal(size=(16, 64)).astype(np.float32)
  tokens = rng.integers(0, 64, (8, 6))

  def loss(h, w, t):
    logp, entropy = token_logprobs(h, w, t, block=16)
    return (logp * jnp.cos(h.sum(-1))).sum() + entropy.sum(), (logp, entropy)

  run = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
  expected = run(hidden, head, tokens)
  grid = mesh.make(MeshConfig(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]))
  names = (("batch", None, None), ("embed", "vocab"), ("batch", None))
  placed = [
    jax.device_put(x, sharding.sharding(grid, n)) for x, n in zip((hidden, head, tokens), names)
  ]
  with jax.set_mesh(grid):
    got = run(*placed)
    text = run.lower(*placed).compile().as_text()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), got, expected)
  rows = 8 // (sizes[0] * sizes[1])
  assert f"f32[{rows},6,{8 // sizes[2]},2]" in text  # a block of logits: rows and vocabulary split
  assert "f32[8,6,8,2]" not in text or sizes == (1, 1, 1)
