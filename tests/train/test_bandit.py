"""A bandit that every algorithm must solve, by the functions of train/grpo.py: a token is worth 1.

No text and no judge: the reward of a completion is whether its only token is the one wanted, of 16.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from gtalign_jax import models
from gtalign_jax.algorithms.advantages import advantages, select
from gtalign_jax.algorithms.scoring import score
from gtalign_jax.algorithms.update import update
from gtalign_jax.config import (
  Config,
  CriticConfig,
  DataConfig,
  GRPOConfig,
  OptimConfig,
  RolloutConfig,
)
from gtalign_jax.models import decoder
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import sharding
from gtalign_jax.parallel.programs import Executables, abstract
from gtalign_jax.progress import Quiet
from gtalign_jax.rollout import engine as engines
from gtalign_jax.rollout.placement import on_mesh
from gtalign_jax.sections import MeshConfig
from gtalign_jax.train import programs
from gtalign_jax.train import state as states
from gtalign_jax.train.setup import bare, training_engine
from gtalign_jax.types import Experience, Rollout

P, G, ARMS, WANTED, STEPS = 4, 16, 16, 11, 24
ALGORITHMS = {
  "grpo": {},
  "rloo": {"advantage": "rloo"},
  "gspo": {"kind": "gspo"},
  "cispo": {"kind": "cispo"},
  "ppo": {"advantage": "gae"},
}


class Bandit:
  """One algorithm with its programs; `play` trains a policy from a seed."""

  def __init__(self, lr=3e-3, **changes):
    grpo = GRPOConfig(**{"prompts_per_step": P, "minibatch_prompts": 2, **changes})
    self.config = Config(
      model="random:tiny",
      data=DataConfig(max_prompt_tokens=8),
      rollout=RolloutConfig(group_size=G, max_new_tokens=1, prompt_buckets=(8,), segment=1, stop=()),
      grpo=dataclasses.replace(grpo, steps=STEPS, length_buckets=(1,)),
      optim=OptimConfig(lr=lr),
      critic=CriticConfig(optim=OptimConfig(lr=lr)),
    )  # fmt: skip
    mesh = meshes.make(MeshConfig(), jax.devices()[:1])
    policy = models.load("random:tiny", mesh=mesh)
    # all ids but the first few are left out of every distribution
    self.arch = dataclasses.replace(policy.config, blank=((ARMS, policy.config.vocab_size),))
    self.setup = bare(self.config, self.arch, policy.tokenizer, mesh)
    self.optimizers = states.make_optimizers(self.config)
    self.compiled = Executables(mesh)
    self.engine = training_engine(self.setup, self.compiled)
    rng = np.random.default_rng(0)
    self.ids = [rng.integers(1, ARMS, 5).astype(np.int32) for _ in range(P)]

  def begin(self, seed):
    params = decoder.init(self.arch, jax.random.key(seed))
    params = jax.device_put(params, self.setup.shardings)
    return states.fresh(self.setup, self.optimizers, params)

  def play(self, seed, steps=STEPS):
    """The share of wanted tokens of each step."""
    state, setup, compiled, shares = self.begin(seed), self.setup, self.compiled, []
    key = jax.device_put(jax.random.key(seed), sharding.replicated(setup.mesh))
    recipe = setup.recipe._replace(seed=seed)
    with jax.set_mesh(setup.mesh):
      tables = programs.grpo_tables(setup, self.optimizers, abstract(state), [8], [1])
      compiled.compile([engines.table(self.engine, abstract(state).params, 8, False), *tables])
      for step in range(steps):
        experience = self.collect(state.params, key, step)
        shares.append(float(experience.reward_PG.mean()))
        experience = on_mesh(select(experience, recipe), self.engine)
        experience = score(state, experience, recipe, compiled, Quiet())
        experience = advantages(experience, recipe, compiled)
        state, metrics = update(state, experience, recipe, compiled, step, Quiet())
    self.metrics = {name: np.asarray(jax.device_get(each)) for name, each in metrics.items()}
    return shares

  def collect(self, params, key, step):
    """As rollout/collect.py does it, without reading."""
    found = {}
    for ended in engines.stream(self.engine, params, self.ids, key, step):
      found |= dict(ended)
    rollout = Rollout(*map(np.concatenate, zip(*(found[p] for p in range(P)))))
    hit_PG = (rollout.tokens_BC[:, 0] == WANTED).astype(float).reshape(P, G)
    return Experience(
      prompts=self.ids,
      rollout=rollout,
      rows=[],
      count_PG=rollout.mask_BC.sum(1).reshape(P, G),
      reward_PG=hit_PG,
      utility_PGC=np.stack([hit_PG] * 2, -1),
    )


@functools.cache
def bandit(name):
  return Bandit(**ALGORITHMS[name])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_wanted_token_is_learned(name, seed):
  shares = bandit(name).play(seed)
  assert np.mean(shares[:2]) < 0.3  # about 1 in 16 at the start
  assert np.mean(shares[-3:]) >= 0.95


@pytest.mark.parametrize("clip, free", [(0.0, False), (0.2, True)])
def test_the_clip_ends_what_a_rollout_can_move(clip, free):
  """Of three inner epochs with bounds of [1, 1], the first moves the policy and the others do not.

  At this rate ratios stay within 0.8 to 1.2, where nothing else would stop them. What is left with
  closed bounds pulls tokens back that the first epoch moved against their advantage.
  """
  bandit = Bandit(lr=1e-4, inner_epochs=3, minibatch_prompts=0, clip_low=clip, clip_high=clip)
  bandit.play(0, steps=1)
  first, *others = bandit.metrics["grad_norm"]
  clipped = bandit.metrics["clip_ratio/region_mean"][1:]
  if free:
    assert min(others) > 0.9 * first and not clipped.any()
  else:
    assert max(others) < 0.25 * first and (clipped > 0.2).all()
