"""A bandit that every algorithm must solve, by the functions of train/grpo.py: a token is worth 1.

No text and no judge: the reward of a completion is the share of its tokens that are the one wanted,
of 16. A completion is one token, or with a critic up to three. The same steps show that neither
mesh nor slices nor the order of prompts changes what is learned.
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

P, G, ARMS, WANTED, END, STEPS = 8, 8, 16, 11, 3, 24
ONE = MeshConfig(data=1)
ALGORITHMS = {
  "grpo": {},
  "rloo": {"advantage": "rloo"},
  "gspo": {"kind": "gspo"},
  "cispo": {"kind": "cispo"},
  "ppo": {"advantage": "gae", "tokens": 3, "inner_epochs": 2, "minibatch_prompts": 0},
}


class Bandit:
  """One algorithm with its programs; `play` trains a policy from a seed."""

  def __init__(self, lr=3e-3, tokens=1, mesh=ONE, **changes):
    grpo = GRPOConfig(**{"prompts_per_step": P, "minibatch_prompts": 4, **changes})
    self.config = Config(
      model="random:tiny",
      data=DataConfig(max_prompt_tokens=8),
      rollout=RolloutConfig(group_size=G, max_new_tokens=tokens, prompt_buckets=(8,), segment=tokens, stop=()),
      grpo=dataclasses.replace(grpo, steps=STEPS, length_buckets=(tokens,)),
      optim=OptimConfig(lr=lr),
      critic=CriticConfig(optim=OptimConfig(lr=lr)),
    )  # fmt: skip
    mesh = meshes.make(mesh, jax.devices()[: mesh.data * mesh.fsdp * mesh.tensor])
    policy = models.load("random:tiny", mesh=mesh)
    # all ids but the first few are left out of every distribution
    self.arch = dataclasses.replace(policy.config, blank=((ARMS, policy.config.vocab_size),))
    self.setup = bare(self.config, self.arch, policy.tokenizer, mesh)._replace(eos_ids=(END,))
    self.optimizers = states.make_optimizers(self.config)
    self.compiled = Executables(mesh)
    self.engine = training_engine(self.setup, self.compiled)
    rng = np.random.default_rng(0)
    self.ids = [rng.integers(1, ARMS, 5).astype(np.int32) for _ in range(P)]

  def begin(self, seed):
    params = decoder.init(self.arch, jax.random.key(seed))
    params = jax.device_put(params, self.setup.shardings)
    return states.fresh(self.setup, self.optimizers, params)

  def play(self, seed, steps=STEPS, order=range(P)):
    """The share of wanted tokens of each step; order: of the prompts when they are trained on."""
    state, setup, compiled, shares = self.begin(seed), self.setup, self.compiled, []
    key = jax.device_put(jax.random.key(seed), sharding.replicated(setup.mesh))
    recipe = setup.recipe._replace(seed=seed)
    with jax.set_mesh(setup.mesh):
      widths = list(self.config.grpo.length_buckets)
      tables = programs.grpo_tables(setup, self.optimizers, abstract(state), [8], widths)
      compiled.compile([engines.table(self.engine, abstract(state).params, 8, False), *tables])
      for step in range(steps):
        experience = self.collect(state.params, key, step, order)
        shares.append(float(experience.reward_PG.mean()))
        experience = on_mesh(select(experience, recipe), self.engine)
        experience = score(state, experience, recipe, compiled, Quiet())
        experience = advantages(experience, recipe, compiled)
        state, metrics = update(state, experience, recipe, compiled, step, Quiet())
    self.metrics = {name: np.asarray(jax.device_get(each)) for name, each in metrics.items()}
    self.state = state
    return shares

  def collect(self, params, key, step, order):
    """As rollout/collect.py does it, without reading."""
    found = {}
    for ended in engines.stream(self.engine, params, self.ids, key, step):
      found |= dict(ended)
    rollout = Rollout(*map(np.concatenate, zip(*(found[p] for p in order))))
    hit_B = (rollout.tokens_BC == WANTED).sum(1, where=rollout.mask_BC) / rollout.mask_BC.sum(1)
    hit_PG = hit_B.reshape(P, G)
    return Experience(
      prompts=[self.ids[p] for p in order],
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


# ---------------------------------------------------------------- whatever the devices and the cuts

SPLIT = {
  "mesh 2x2x2": {"mesh": MeshConfig(data=2, fsdp=2, tensor=2)},
  "mesh 4x2x1, in slices": {
    "mesh": MeshConfig(data=4, fsdp=2), "micro_prompts": 8, "micro_samples": 4,
  },
}  # fmt: skip


def learned(bandit, **options):
  """Metrics of two steps, and the gradients that Adam has seen in them."""
  shares = bandit.play(0, steps=2, **options)
  moments = [each.opt_state[1][0].mu for each in (bandit.state, bandit.state.critic)]
  return bandit.metrics | {"shares": shares}, jax.device_get(moments)


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["another order", *SPLIT])
def test_a_step_with_a_critic_is_the_same_however_it_is_cut(cut):
  """Loss, value loss, gradients and metrics of each update; each mesh samples for itself."""
  wanted, gradients = learned(bandit("ppo"))
  if cut in SPLIT:
    found, others = learned(Bandit(**ALGORITHMS["ppo"], **SPLIT[cut]))
  else:
    found, others = learned(bandit("ppo"), order=(5, 2, 7, 0, 1, 6, 3, 4))
  assert found.keys() == wanted.keys() and {"loss", "critic/vf_loss", "grad_norm"} <= found.keys()
  for key in found.keys() - {"perf/padding_frac"}:
    np.testing.assert_allclose(found[key], wanted[key], rtol=1e-4, atol=1e-5, err_msg=key)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), others, gradients)
