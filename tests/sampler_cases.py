"""An engine on the tiny model: what tests of rollout/ share."""

import functools

import jax
import numpy as np

from gtalign_jax import models
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.rollout import constrain, generate, stop
from gtalign_jax.rollout.engine import Engine, stream
from gtalign_jax.sections import MeshConfig, RolloutConfig
from gtalign_jax.types import Rollout

CONFIG = RolloutConfig(group_size=4, max_new_tokens=12, segment=5, prompt_buckets=(32,), stop=())
LENGTHS = (7, 12, 3, 9)


@functools.cache
def policy():
  return models.load("random:tiny")


def prompts(lengths=LENGTHS):
  """Token ids of prompts; one of the same position and length is the same in every call."""
  rng = np.random.default_rng(1)
  tokens_PT = rng.integers(10, 250, (len(lengths), 16)).astype(np.int32)
  return [row[:length] for row, length in zip(tokens_PT, lengths)]


def engine(
  stops=(), eos=(), dtype="float32", slots=4, buckets=(16,), mesh=None, budgets=None, **changes
):
  """mesh: default one device. budgets: block -> tokens, of constrained chains."""
  arch = policy().config
  sampling = generate.sampling_of(CONFIG, arch, tuple(eos), 0, dtype, **changes)
  mesh = mesh or meshes.make(MeshConfig(), jax.devices()[:1])
  table = stop.stop_table(policy().tokenizer, stops, arch.vocab_size)
  alone = sharding.replicated(mesh)
  placed, tokenizer = distributed.to_device(table, alone), policy().tokenizer
  constraint = constrain.constraint(tokenizer, arch.vocab_size, budgets or {}, alone)
  compiled = Executables(mesh)
  return Engine(sampling, placed, tokenizer, slots, buckets, compiled, constraint=constraint)


def streamed(made, ids, step=0, params=None, **options):
  """What `stream` hands over, list by list."""
  params = policy().params if params is None else params
  key = jax.device_put(jax.random.key(3), sharding.replicated(made.programs.mesh))
  with jax.set_mesh(made.programs.mesh):
    return list(stream(made, params, ids, key, step, **options))


def run(made, ids, **options):
  """The rollout of all prompts in their order, on the host."""
  ended = [each for part in streamed(made, ids, **options) for each in part]
  ended.sort(key=lambda each: each.prompt)
  assert [each.prompt for each in ended] == list(range(len(ids)))
  return Rollout(*map(np.concatenate, zip(*(each.rollout for each in ended))))
