"""The sampler on the tiny model: what tests of rollout/ share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax import models
from gtalign_jax.rollout import generate, stop
from gtalign_jax.rollout.sampler import Sampler
from gtalign_jax.sections import RolloutConfig
from gtalign_jax.types import Prompts

CONFIG = RolloutConfig(group_size=4, max_new_tokens=12, segment=5, prompt_buckets=(32,), stop=())


@functools.cache
def policy():
  return models.load("random:tiny")


def prompts(lengths=(7, 12, 3, 9), first_row=0):
  rng = np.random.default_rng(1)
  tokens_PT = rng.integers(10, 250, (len(lengths), 16)).astype(np.int32)
  row_P = np.arange(first_row, first_row + len(lengths), dtype=np.int32)
  return Prompts(jnp.asarray(tokens_PT), jnp.asarray(lengths, jnp.int32), jnp.asarray(row_P))


def sampler(stops=(), eos=(), dtype="float32", **changes):
  plan = generate.sampling_of(CONFIG, tuple(eos), 0, dtype, **changes)
  table = stop.stop_table(policy().tokenizer, stops, policy().config.vocab_size)
  return Sampler(policy().config, plan, table)


def run(sampler, batch, step=0):
  out = sampler(policy().params, batch, jax.random.key(3), np.int32(step))
  return jax.tree.map(np.asarray, out)
