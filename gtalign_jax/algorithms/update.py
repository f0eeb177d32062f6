"""The optimiser step: gradients of slices of the batch, summed, then one guarded AdamW update.

A slice is a `TrainBatch` of some prompts with their completions. Loss and gradient are those of the
whole batch, however it is sliced: every mean is over `loss.Totals` of the whole batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gtalign_jax.algorithms import loss, optimizer, sft_loss
from gtalign_jax.models import decoder, prefix
from gtalign_jax.ops.logprobs import token_logprobs
from gtalign_jax.parallel.programs import Program
from gtalign_jax.sections import GRPOConfig
from gtalign_jax.types import TrainBatch, TrainState


class Plan(NamedTuple):
  """Static part of an update; hashable.

  join: (frozen, trainable) -> parameters that the decoder reads. temperature: of the rollout, so
  that log-probabilities are those of the distribution that was sampled.
  """

  arch: Any
  dtype: str
  remat: str
  temperature: float
  max_tokens: int
  join: Callable[[Any, Any], Any]


def score(
  plan: Plan, trainable: Any, frozen: Any, batch: TrainBatch
) -> tuple[jax.Array, jax.Array]:
  """Log-probability and entropy of each completion token under the policy, [B, C] f32."""
  params = plan.join(frozen, trainable)
  last_PD, context = prefix.prompt_context(
    plan.arch, params, batch.prompt, dtype=plan.dtype, remat=plan.remat
  )
  hidden_BCD = prefix.completion_hidden(
    plan.arch,
    params,
    last_PD,
    context,
    batch.prompt.length_P,
    batch.tokens_BC,
    dtype=plan.dtype,
    remat=plan.remat,
  )
  head_DV, softcap = decoder.head(plan.arch, params)
  return token_logprobs(
    hidden_BCD, head_DV, batch.tokens_BC, temperature=plan.temperature or 1.0, softcap=softcap
  )


def _grpo_loss(plan: Plan, config: GRPOConfig, whole: loss.Totals, frozen, batch, trainable):
  logp_BC, entropy_BC = score(plan, trainable, frozen, batch)
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
    max_tokens=plan.max_tokens,
    ref_logp_BT=batch.ref_logp_BC,
    kl_coef=config.kl_coef,
    kl_estimator=config.kl_estimator,
    sampler_logp_BT=batch.sampler_logp_BC,
    mismatch=config.mismatch,
    mismatch_mode=config.mismatch_mode,
    mismatch_bounds=config.mismatch_bounds,
    totals=whole,
  )
  mask_BC = batch.mask_BC.astype(logp_BC.dtype)
  metrics["entropy"] = jnp.sum(jax.lax.stop_gradient(entropy_BC) * mask_BC) / whole.tokens
  return value, (metrics, jax.lax.stop_gradient(logp_BC))


def _sft_loss(plan: Plan, whole: loss.Totals, frozen, batch, trainable):
  logp_BC, _ = score(plan, trainable, frozen, batch)
  value, metrics = sft_loss.sft_loss(logp_BC, batch.mask_BC, denominator=whole.tokens)
  return value, (metrics, jax.lax.stop_gradient(logp_BC))


class Updater:
  """Host handle of the jitted programs of an update: `accumulate` (a slice's gradients) and `apply`.

  config: the GRPO section, or None for supervised cross entropy.
  """

  def __init__(
    self,
    plan: Plan,
    config: GRPOConfig | None,
    tx: optax.GradientTransformation,
    shardings: TrainState | None = None,
  ):
    self.plan = plan
    pick = _sft_loss if config is None else functools.partial(_grpo_loss, config=config)

    def accumulate(grads, trainable, frozen, whole, batch):
      def objective(trainable):
        return pick(plan, whole=whole, frozen=frozen, batch=batch, trainable=trainable)

      (value, (metrics, logp_BC)), new = jax.value_and_grad(objective, has_aux=True)(trainable)
      return jax.tree.map(jnp.add, grads, new), metrics | {"loss": value}, logp_BC

    def apply(state, grads):
      return optimizer.apply(tx, state, grads)

    own = None if shardings is None else (shardings, None)
    spec = None if shardings is None else (shardings.params, None, None)
    self._zeros = Program(
      "zero gradients",
      lambda t: jax.tree.map(jnp.zeros_like, t),
      out_shardings=None if shardings is None else shardings.params,
    )
    name = "sft gradients" if config is None else "grpo gradients"
    self.accumulate = Program(name, accumulate, donate_argnums=0, out_shardings=spec)
    self.apply = Program("optimizer", apply, donate_argnums=0, out_shardings=own)
    self._totals = Program("totals", loss.totals)
    self._add = Program("add totals", lambda one, two: jax.tree.map(jnp.add, one, two))

  def compile(self, state: TrainState, frozen: Any, batch: TrainBatch) -> jax.ShapeDtypeStruct:
    """Makes all programs for slices like `batch`; arguments are arrays or shapes.

    Returns the slice's log-probabilities as a shape.
    """
    whole = self._totals.compile(batch.mask_BC)
    self._add.compile(whole, whole)
    grads = self._zeros.compile(state.params)
    grads, _, logp_BC = self.accumulate.compile(grads, state.params, frozen, whole, batch)
    self.apply.compile(state, grads)
    return logp_BC

  def __call__(
    self, state: TrainState, frozen: Any, slices: Sequence[TrainBatch]
  ) -> tuple[TrainState, dict[str, jax.Array], list[jax.Array]]:
    """One optimiser step over `slices`.

    Returns the state (donated in), metrics (device scalars, those of the whole batch) and each
    slice's log-probabilities [B, C], which are the old ones of a further epoch.
    """
    whole = functools.reduce(self._add, [self._totals(batch.mask_BC) for batch in slices])
    grads = self._zeros(state.params)
    metrics: dict[str, jax.Array] = {}
    logps = []
    for batch in slices:
      grads, part, logp_BC = self.accumulate(grads, state.params, frozen, whole, batch)
      metrics = part if not metrics else combine(metrics, part)
      logps.append(logp_BC)
    state, more = self.apply(state, grads)
    return state, metrics | more, logps


@jax.jit
def combine(one: dict[str, jax.Array], two: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Metrics of two slices together: sums of shares of the whole; `…/max` keys take the larger."""
  return {
    key: jnp.maximum(one[key], two[key]) if key.endswith("/max") else one[key] + two[key]
    for key in one
  }
