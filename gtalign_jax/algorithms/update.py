"""The update: gradients of slices of the batch, summed, then one guarded AdamW step.

A slice is a `TrainBatch` of some prompts with their completions. Loss and gradient are those of the
whole batch, however it is sliced: every mean is over `loss.Totals` of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.algorithms import loss, sft_loss, slices
from gtalign_jax.models import decoder, lora, prefix
from gtalign_jax.models.variants import Arch
from gtalign_jax.ops.logprobs import token_logprobs
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.progress import WorkLog
from gtalign_jax.sections import GRPOConfig, PolicyConfig
from gtalign_jax.types import Experience, Fixed, TrainBatch, TrainState

Metrics = dict[str, Any]  # scalars, on the device or the host


class Objective(NamedTuple):
  """What is minimised; hashable, so it is static in jit.

  temperature: of the rollout, so that log-probabilities are those of the distribution that was
  sampled; 1 in the warm start. max_tokens: completion budget. grpo: None for supervised cross
  entropy.
  """

  arch: Arch
  policy: PolicyConfig
  temperature: float
  max_tokens: int
  grpo: GRPOConfig | None


# ---------------------------------------------------------------- on the page (train/grpo.py)


def update(
  state: TrainState,
  experience: Experience,
  programs: Executables,
  config: GRPOConfig,
  fixed: Fixed,
  log: WorkLog,
) -> tuple[TrainState, Metrics]:
  """Trains on the trained rows of `experience`: one optimiser step per inner epoch.

  state: donated. Returns the new state and the metrics of the last step.
  """
  with log.phase("logprob"):
    parts, padding = _slices(experience, programs, config)
    if fixed.reference is not None:
      parts = [part._replace(ref_logp_BC=_reference(programs, fixed, part)) for part in parts]
      jax.block_until_ready([part.ref_logp_BC for part in parts])
  with log.phase("update"):
    for epoch in range(config.inner_epochs):
      state, metrics, logps = gradient_step(
        state, parts, experience.totals, programs, fixed.frozen, log
      )
      if epoch == 0:  # the policy that sampled is the old one of every later epoch
        parts = [x._replace(old_logp_BC=old) for x, old in zip(parts, logps, strict=True)]
  return state, metrics | {"perf/padding_frac": padding}


def gradient_step(
  state: TrainState,
  parts: Sequence[TrainBatch],
  totals: loss.Totals,
  programs: Executables,
  frozen: Any,
  log: WorkLog,
  prefix: str = "",
) -> tuple[TrainState, Metrics, list[jax.Array]]:
  """One optimiser step over slices; `state` is donated.

  totals: of all slices together. log: hears which slice is at work. prefix: of the programs' names
  ("sft_" in the warm start). Returns the state, metrics of the whole batch, and each slice's
  log-probabilities [B, C].
  """
  grads = programs[f"{prefix}zero_gradients"](state.params)
  metrics: Metrics = {}
  logps: list[jax.Array] = []
  for number, part in enumerate(parts, start=1):
    # one slice runs and one waits: enough to keep the device busy, and the count is true
    jax.block_until_ready(logps[-2:-1])
    log.doing(f"update {number}/{len(parts)}")
    accumulate = programs[(f"{prefix}accumulate", *variant(part))]
    grads, more, logp_BC = accumulate(grads, state.params, frozen, totals, part)
    metrics = programs[f"{prefix}add_metrics"](metrics, more) if metrics else more
    logps.append(logp_BC)
  state, more = programs[f"{prefix}apply"](state, grads)
  return state, metrics | more, logps


def _reference(programs: Executables, fixed: Fixed, part: TrainBatch) -> jax.Array:
  """Log-probabilities of a slice's tokens under the reference policy, [B, C]."""
  bucket, width = part.prompt.tokens_PT.shape[1], part.tokens_BC.shape[1]
  return programs["score_reference", bucket, width](fixed.reference, fixed.frozen, part)


def _slices(
  experience: Experience, programs: Executables, config: GRPOConfig
) -> tuple[list[TrainBatch], float]:
  """The trained rows in slices of like length, and the share of padding among their tokens."""
  batch = train_batch(experience)
  widths = slices.widths(config.length_buckets, batch.tokens_BC.shape[1])
  cuts = slices.cut(
    experience.count_PG, config.micro_prompts, config.micro_samples, widths, experience.trained_PG
  )
  alone, bucket = sharding.replicated(programs.mesh), batch.prompt.tokens_PT.shape[1]

  def take(each: slices.Slice) -> TrainBatch:
    index = distributed.to_device((each.prompt_p, each.sample_pg), (alone, alone))
    return programs["take", bucket, each.width](batch, *index)

  return [take(each) for each in cuts], slices.padding(experience.count_PG, cuts)


def train_batch(experience: Experience) -> TrainBatch:
  """All rows of an experience as the update sees them."""
  rollout = experience.rollout
  return TrainBatch(
    prompt=experience.prompts,
    tokens_BC=rollout.tokens_BC,
    mask_BC=experience.mask_BC,
    advantage_B=experience.advantage_B,
    sampler_logp_BC=rollout.logp_BC,
    old_logp_BC=None,
    ref_logp_BC=None,
  )


def variant(part: TrainBatch) -> tuple[int, ...]:
  """What tells the gradient program of one slice from those of others: its padded sizes.

  A later epoch brings old log-probabilities along, which makes it a program of its own.
  """
  rows, width = np.shape(part.tokens_BC)
  return (rows, part.prompt.tokens_PT.shape[1], width, int(part.old_logp_BC is not None))


# ---------------------------------------------------------------- pure functions


def score(
  objective: Objective, params: Any, frozen: Any, batch: TrainBatch
) -> tuple[jax.Array, jax.Array]:
  """Log-probability and entropy of each completion token under the policy, [B, C] f32."""
  arch, policy = objective.arch, objective.policy
  params = params if frozen is None else lora.join(frozen, params, policy)
  last_PD, context = prefix.prompt_context(
    arch, params, batch.prompt, dtype=policy.dtype, remat=policy.remat
  )
  hidden_BCD = prefix.completion_hidden(
    arch,
    params,
    last_PD,
    context,
    batch.prompt.length_P,
    batch.tokens_BC,
    dtype=policy.dtype,
    remat=policy.remat,
  )
  return token_logprobs(
    hidden_BCD,
    decoder.head(arch, params),
    batch.tokens_BC,
    temperature=objective.temperature,
    softcap=arch.softcap,
    blank=arch.blank,
  )


def score_only(objective: Objective, params: Any, frozen: Any, batch: TrainBatch) -> jax.Array:
  """`score` without entropy: the program of the reference policy."""
  return score(objective, params, frozen, batch)[0]


def accumulate(
  objective: Objective,
  grads: Any,
  params: Any,
  frozen: Any,
  totals: loss.Totals,
  batch: TrainBatch,
) -> tuple[Any, Metrics, jax.Array]:
  """Adds the gradients of one slice to `grads`; also its metrics and log-probabilities [B, C]."""

  def objective_of(params: Any) -> tuple[jax.Array, tuple[Metrics, jax.Array]]:
    logp_BC, entropy_BC = score(objective, params, frozen, batch)
    value, metrics = _loss(objective, logp_BC, entropy_BC, totals, batch)
    return value, (metrics, jax.lax.stop_gradient(logp_BC))

  (value, (metrics, logp_BC)), new = jax.value_and_grad(objective_of, has_aux=True)(params)
  return jax.tree.map(jnp.add, grads, new), metrics | {"loss": value}, logp_BC


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
  # one pass over fresh samples: the old policy is this one, the ratio exactly 1
  old_BC = jax.lax.stop_gradient(logp_BC) if batch.old_logp_BC is None else batch.old_logp_BC
  value, metrics = loss.policy_loss(
    logp_BC,
    old_BC,
    batch.advantage_B,
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
    totals=totals,
  )
  mask_BC = batch.mask_BC.astype(logp_BC.dtype)
  metrics["entropy"] = jnp.sum(jax.lax.stop_gradient(entropy_BC) * mask_BC) / totals.tokens
  return value, metrics


def add_metrics(one: Metrics, two: Metrics) -> Metrics:
  """Metrics of two slices together: sums of shares of the whole; `…/max` keys take the larger."""
  return {
    key: jnp.maximum(one[key], two[key]) if key.endswith("/max") else one[key] + two[key]
    for key in one
  }


def zeros(params: Any) -> Any:
  """Gradients before the first slice."""
  return jax.tree.map(jnp.zeros_like, params)
