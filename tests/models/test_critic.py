"""The critic: says 0 at the start, reads what comes before a token alone, and learns by its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax import models
from gtalign_jax.models import critic, decoder, lora
from gtalign_jax.sections import PolicyConfig
from gtalign_jax.types import Prompts

P, G, T, C = 2, 3, 6, 5
PLAIN, ADAPTERS = PolicyConfig(), PolicyConfig(lora_rank=2)


@functools.cache
def policy():
  return models.load("random:tiny")


def given():
  rng = np.random.default_rng(0)
  tokens_PT = jnp.asarray(rng.integers(1, 200, (P, T)), jnp.int32)
  prompt = Prompts(tokens_PT, jnp.asarray([6, 4], jnp.int32), jnp.arange(P, dtype=jnp.int32))
  return prompt, jnp.asarray(rng.integers(1, 200, (P * G, C)), jnp.int32)


def with_head(made, seed=1):
  kernel = jax.random.normal(jax.random.key(seed), made["head"]["kernel"].shape)
  return made | {"head": {"kernel": kernel, "bias": jnp.float32(0.5)}}


def setting(own, adapters):
  """(config, critic with a head, base) in the four forms."""
  arch, params = policy().config, policy().params
  config, frozen, trained = PLAIN, None, params
  if adapters:
    config, frozen = ADAPTERS, params
    trained = lora.init(arch, jax.random.key(3), config)
  made = critic.init(arch, trained, own)
  return config, made, frozen if own else (frozen, trained)


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("own", [True, False])
def test_a_fresh_critic_says_nothing_and_all_forms_read_alike(own, adapters):
  arch, (prompt, tokens_BC) = policy().config, given()
  config, made, base = setting(own, adapters)
  value_BC = critic.values(arch, config, made, base, prompt, tokens_BC)
  assert value_BC.shape == (P * G, C) and value_BC.dtype == jnp.float32 and not value_BC.any()
  ours_BC = critic.values(arch, config, with_head(made), base, prompt, tokens_BC)
  # adapters change nothing before their first update, and a trunk begins as the policy
  ids, length = jnp.concatenate([prompt.tokens_PT[1, :4], tokens_BC[3]]), 4
  at = jnp.arange(len(ids))[None]
  hidden, _ = decoder.forward(arch, policy().params, ids[None], at, jnp.ones_like(at, bool))
  head = with_head(made)["head"]
  wanted = (hidden @ head["kernel"] + head["bias"])[0, length - 1 : -1]
  np.testing.assert_allclose(ours_BC[3], wanted, atol=2e-5)


def test_values_see_no_token_that_is_still_to_come():
  config, made, base = setting(own=True, adapters=False)
  prompt, tokens_BC = given()
  read = functools.partial(critic.values, policy().config, config, with_head(made), base, prompt)
  changed_BC = tokens_BC.at[:, 2].add(1)
  one, two = read(tokens_BC), read(changed_BC)
  np.testing.assert_array_equal(one[:, :3], two[:, :3])
  assert (np.asarray(one[:, 3:]) != np.asarray(two[:, 3:])).any(1).all()


@pytest.mark.parametrize("own", [True, False])
def test_a_shared_trunk_is_read_and_never_changed(own):
  config, made, base = setting(own, adapters=False)
  prompt, tokens_BC = given()

  def total(critic_params, base):
    return critic.values(policy().config, config, critic_params, base, prompt, tokens_BC).sum()

  grads, of_base = jax.grad(total, argnums=(0, 1))(with_head(made), base)
  assert np.asarray(grads["head"]["kernel"]).any()
  assert ("trunk" in grads) == own and all(
    not np.asarray(x).any() for x in jax.tree.leaves(of_base)
  )
  assert not own or np.asarray(grads["trunk"]["layers"]["q"]["kernel"]).any()
  assert "head" not in made.get("trunk", {})  # the output matrix of a policy is not needed
