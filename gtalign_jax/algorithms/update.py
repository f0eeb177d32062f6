"""The update: gradients of slices of a mini-batch, summed, then one guarded AdamW step.

A slice is a `TrainBatch` of some prompts with their completions. Loss and gradient are those of the
whole mini-batch, however it is sliced: every mean is over `loss.Totals` of the whole.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.algorithms import loss, sft_loss, slices
from gtalign_jax.algorithms.scoring import (
  TURNS,
  Objective,
  Recipe,
  logprobs,
  sizes,
  take,
  train_batch,
  value_base,
  values_only,
)
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.progress import WorkLog
from gtalign_jax.sections import GRPOConfig
from gtalign_jax.types import Experience, TrainBatch, TrainState

Metrics = dict[str, Any]  # scalars, on the device or the host
CRITIC_NAMES = {"loss": "vf_loss", "value/clip_frac": "vf_clipfrac"}  # verl's

# ---------------------------------------------------------------- on the page (train/grpo.py)


def update(
  state: TrainState,
  experience: Experience,
  recipe: Recipe,
  programs: Executables,
  step: int,
  log: WorkLog,
) -> tuple[TrainState, Mapping[str, list[Any]]]:
  """Trains on the trained rows of `experience`: one optimiser step a mini-batch and inner epoch.

  state: donated. step: of the run, from 0; the order of the prompts is drawn from it. Where there
  is a critic, it learns first, and in its warm-up steps alone. Returns the new state, and each
  metric once for every optimiser step.
  """
  config, fixed = recipe.grpo, recipe.fixed
  seen: dict[str, list[Any]] = collections.defaultdict(list)
  order = list(minibatches(len(experience.count_PG), config, recipe.seed, step))
  with log.phase("update"):
    later = experience.later
    batch, turns = train_batch(experience), later and train_batch(later)
    alone = loss.Totals(*[sharding.replicated(programs.mesh)] * 4)
    for number, prompts in enumerate(order, start=1):
      which = f"{number}/{len(order)}, " if len(order) > 1 else ""
      cuts = slices.of(experience, config, prompts)
      parts = [take(programs, batch, each)[0] for each in cuts]
      if turns is not None:
        more_cuts = slices.of_later(experience, config, prompts)
        parts += [take(programs, turns, each, f"{TURNS}take")[0] for each in more_cuts]
      totals = distributed.to_device(sizes_of(experience, prompts), alone)
      metrics = {"perf/padding_frac": slices.padding(experience.count_PG, cuts)}
      if state.critic is not None:
        base = value_base(state, recipe)
        learnt, more = gradient_step(
          state.critic, parts, totals, programs, base, log, "critic_", f"critic {which}"
        )
        state = state._replace(critic=learnt)
        metrics |= {f"critic/{CRITIC_NAMES.get(name, name)}": x for name, x in more.items()}
      if state.critic is None or step >= recipe.critic.warmup_steps:
        actor, more = gradient_step(
          state._replace(critic=None), parts, totals, programs, fixed.frozen, log, "", which
        )
        state = actor._replace(critic=state.critic)
        metrics |= more
      for name, value in (metrics | (experience.statistics or {})).items():
        seen[name].append(value)
  return state, seen


def minibatches(count: int, config: GRPOConfig, seed: int, step: int) -> Iterator[np.ndarray]:
  """The prompts of each optimiser step of a rollout: a permutation of all for each inner epoch."""
  size = config.minibatch_prompts or count
  for epoch in range(config.inner_epochs):
    order = np.random.default_rng((seed, step, epoch)).permutation(count)
    yield from order.reshape(-1, size)


def sizes_of(experience: Experience, prompts: np.ndarray) -> loss.Totals:
  """Sizes of a mini-batch, int32 on the host: of the rows of all turns."""
  found, later = _sizes(experience, prompts), experience.later
  if later is not None:
    mine_P = np.isin(later.parent_P // experience.count_PG.shape[1], prompts)
    more = _sizes(later, np.flatnonzero(mine_P))
    found = loss.Totals(*(one + two for one, two in zip(found, more, strict=True)))
  return found


def _sizes(experience: Experience, prompts: np.ndarray) -> loss.Totals:
  counted_pG = experience.counted_PG[prompts]
  tokens_pG = experience.count_PG[prompts] * counted_pG
  blocks_K = (experience.block_PGK[prompts] * counted_pG[..., None]).sum((0, 1))
  valid = experience.valid_PG[prompts].sum()
  counts = (tokens_pG.sum(), (tokens_pG > 0).sum(), valid, blocks_K)
  return loss.Totals(*(np.asarray(count, np.int32) for count in counts))


def gradient_step(
  state: TrainState,
  parts: Sequence[TrainBatch],
  totals: loss.Totals,
  programs: Executables,
  frozen: Any,
  log: WorkLog,
  prefix: str = "",
  which: str = "",
) -> tuple[TrainState, Metrics]:
  """One optimiser step over slices; `state` is donated.

  totals: of all slices together. log: hears which slice is at work, after the words `which`.
  prefix: of the programs' names ("sft_" in the warm start, "critic_"). Returns the state and
  metrics of the whole batch.
  """
  grads = programs[f"{prefix}zero_gradients"](state.params)
  metrics: Metrics = {}
  done: list[jax.Array] = []
  for number, part in enumerate(parts, start=1):
    # one slice runs and one waits: enough to keep the device busy, and the count is true
    jax.block_until_ready(done[-2:-1])
    log.doing(f"update {which}{number}/{len(parts)}")
    accumulate = programs[(f"{prefix}accumulate", *sizes(part))]
    grads, more = accumulate(grads, state.params, frozen, totals, part)
    metrics = programs[f"{prefix}add_metrics"](metrics, more) if metrics else more
    done.append(more["loss"])
  state, more = programs[f"{prefix}apply"](state, grads)
  return state, metrics | more


# ---------------------------------------------------------------- pure functions


def accumulate(
  objective: Objective,
  grads: Any,
  params: Any,
  frozen: Any,
  totals: loss.Totals,
  batch: TrainBatch,
) -> tuple[Any, Metrics]:
  """Adds the gradients of one slice to `grads`; also its metrics."""

  def objective_of(params: Any) -> tuple[jax.Array, Metrics]:
    logp_BC, entropy_BC = logprobs(objective, params, frozen, batch)
    return _loss(objective, logp_BC, entropy_BC, totals, batch)

  return _added(objective_of, grads, params)


def accumulate_values(
  objective: Objective,
  grads: Any,
  params: Any,
  base: Any,
  totals: loss.Totals,
  batch: TrainBatch,
) -> tuple[Any, Metrics]:
  """`accumulate` of the critic: params are its own, `base` what else it reads."""
  config = objective.grpo
  assert config is not None  # the warm start has no critic

  def objective_of(params: Any) -> tuple[jax.Array, Metrics]:
    return loss.value_loss(
      values_only(objective, params, base, batch),
      batch.value_BC,
      batch.return_BC,
      batch.mask_BC,
      clip=objective.critic.value_clip,
      aggregation=config.aggregation,
      max_tokens=objective.max_tokens,
      totals=totals,
    )

  return _added(objective_of, grads, params)


def _added(
  objective_of: Callable[[Any], tuple[jax.Array, Metrics]], grads: Any, params: Any
) -> tuple[Any, Metrics]:
  (value, metrics), new = jax.value_and_grad(objective_of, has_aux=True)(params)
  return jax.tree.map(jnp.add, grads, new), metrics | {"loss": value}


def _loss(
  objective: Objective,
  logp_BC: jax.Array,
  entropy_BC: jax.Array,
  totals: loss.Totals,
  batch: TrainBatch,
) -> tuple[jax.Array, Metrics]:
  config = objective.grpo
  if config is None:
    return sft_loss.sft_loss(logp_BC, batch.mask_BC, denominator=totals.tokens)
  # one update on fresh samples: the old policy is this one, the ratio exactly 1
  old_BC = batch.old_logp_BC if config.updates > 1 else jax.lax.stop_gradient(logp_BC)
  return loss.policy_loss(
    logp_BC,
    old_BC,
    batch.advantage,
    batch.mask_BC,
    kind=config.kind,
    clip_low=config.clip_low,
    clip_high=config.clip_high,
    dual_clip=config.dual_clip,
    aggregation=config.aggregation,
    max_tokens=objective.max_tokens,
    ref_logp_BT=batch.ref_logp_BC,
    kl_coef=config.kl_coef,
    kl_estimator=config.kl_estimator,
    sampler_logp_BT=batch.sampler_logp_BC,
    mismatch=config.mismatch,
    mismatch_mode=config.mismatch_mode,
    mismatch_bounds=config.mismatch_bounds,
    mismatch_veto=config.mismatch_veto,
    entropy_BT=entropy_BC,
    block_BT=batch.block_BC,
    block_weights=config.block_weights,
    totals=totals,
  )


def add_metrics(one: Metrics, two: Metrics) -> Metrics:
  """Metrics of two slices together: sums of shares of the whole; `…/max` keys take the larger."""
  return {
    key: jnp.maximum(one[key], two[key]) if key.endswith("/max") else one[key] + two[key]
    for key in one
  }


def zeros(params: Any) -> Any:
  """Gradients before the first slice."""
  return jax.tree.map(jnp.zeros_like, params)
