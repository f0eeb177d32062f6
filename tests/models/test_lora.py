"""Low-rank adapters: neutral at the start, the only thing trained, merged exactly."""

import jax
import jax.numpy as jnp
import model_cases
import numpy as np
import pytest

from gtalign_jax.errors import BadInput
from gtalign_jax.models import decode, decoder, lora
from gtalign_jax.sections import PolicyConfig

ALL = PolicyConfig(lora_rank=3, lora_alpha=12.0)


@pytest.fixture(scope="module")
def model():
  return model_cases.build("qwen3_bias_window")


def filled(adapters):
  """Adapters as after training: B is no longer zero."""
  leaves, tree = jax.tree.flatten(adapters)
  keys = jax.random.split(jax.random.key(5), len(leaves))
  new = [0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves)]
  return jax.tree.unflatten(tree, new)


def hidden(arch, params):
  return model_cases.forward(arch, params, *model_cases.inputs())[0]


def test_fresh_adapters_change_nothing(model):
  arch, params = model
  adapters = lora.init(arch, jax.random.key(0), ALL)
  assert set(adapters["layers"]) == set(ALL.lora_targets)
  joined = lora.join(params, adapters, ALL)
  assert np.array_equal(hidden(arch, joined), hidden(arch, params))
  merged = lora.merge(params, adapters, ALL)
  jax.tree.map(np.testing.assert_array_equal, merged, params)


def test_joined_equals_merged_in_forward_and_decode(model):
  arch, params = model
  config = PolicyConfig(lora_rank=4, lora_alpha=8.0)
  adapters = filled(lora.init(arch, jax.random.key(0), config))
  joined, merged = lora.join(params, adapters, config), lora.merge(params, adapters, config)
  assert model_cases.relative_gap(hidden(arch, joined), hidden(arch, merged)) < 1e-4
  assert model_cases.relative_gap(hidden(arch, joined), hidden(arch, params)) > 0.1
  assert jax.tree.structure(merged) == jax.tree.structure(params)
  inputs = model_cases.inputs()
  steps = model_cases.through_cache(arch, merged, *inputs, prefill=40)
  whole = decoder.unembed(arch, merged, hidden(arch, merged))[:, 40:]
  assert model_cases.relative_gap(steps, whole, inputs[2][:, 40:]) < 1e-4
  with pytest.raises(ValueError, match="merge"):  # decoding would leave the adapters out
    decode.prepare(joined)


def test_scale(model):
  arch, params = model
  config = PolicyConfig(lora_rank=4, lora_alpha=8.0, lora_targets=("o",))
  stable = PolicyConfig(lora_rank=4, lora_alpha=8.0, lora_targets=("o",), lora_rank_stabilised=True)
  assert lora.scale(config) == 2.0 and lora.scale(stable) == 4.0
  pair = filled(lora.init(arch, jax.random.key(0), config))["layers"]["o"]
  merged = lora.merge(params, {"layers": {"o": pair}}, config)["layers"]["o"]["kernel"]
  update = np.einsum("lnhr,lrd->lnhd", pair["lora_a"], pair["lora_b"])
  np.testing.assert_allclose(
    merged, params["layers"]["o"]["kernel"] + 2.0 * update, rtol=1e-5, atol=1e-5
  )


def test_only_named_targets_and_only_adapters_get_gradients(model):
  arch, params = model
  config = PolicyConfig(lora_rank=2, lora_targets=("q", "down"))
  adapters = lora.init(arch, jax.random.key(1), config)
  assert set(adapters["layers"]) == {"q", "down"}
  assert sum(x.size for x in jax.tree.leaves(adapters)) == 2 * 3 * (48 + 64 + 64 + 48)

  def total(adapters, params):
    return jnp.sum(hidden(arch, lora.join(params, adapters, config)) ** 2)

  grads, base = jax.jit(jax.grad(total, argnums=(0, 1)))(adapters, params)
  assert all(jnp.any(pair["lora_b"] != 0) for pair in grads["layers"].values())
  assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(base))


def test_training_adapters_lowers_the_loss(model):
  arch, params = model
  adapters = lora.init(arch, jax.random.key(2), ALL)
  target = hidden(arch, params) + 0.5

  @jax.jit
  def step(adapters):
    def loss(a):
      return jnp.mean((hidden(arch, lora.join(params, a, ALL)) - target) ** 2)

    value, grads = jax.value_and_grad(loss)(adapters)
    return value, jax.tree.map(lambda a, g: a - 0.02 * g, adapters, grads)

  losses = []
  for _ in range(12):
    value, adapters = step(adapters)
    losses.append(float(value))
  assert losses[-1] < 0.97 * losses[0]


def test_axes_fit_the_adapters(model):
  arch, _ = model
  adapters, axes = lora.init(arch, jax.random.key(0), ALL), lora.logical_axes(arch, ALL)
  jax.tree.map(
    lambda x, names: None if len(names) == x.ndim else pytest.fail(names), adapters, axes
  )
  assert axes["layers"]["o"]["lora_a"] == ("layers", "heads", "head_dim", "lora_rank")


def test_rank_zero_is_refused(model):
  with pytest.raises(BadInput, match=r"policy\.lora_rank=0"):
    lora.init(model[0], jax.random.key(0), PolicyConfig())
