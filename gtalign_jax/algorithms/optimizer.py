"""AdamW with a schedule and global-norm clipping (optax), and the guarded update."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gtalign_jax.sections import OptimConfig
from gtalign_jax.types import TrainState


class Optimizer(NamedTuple):
  """AdamW and its learning rate by number of the update, from 0."""

  tx: optax.GradientTransformation
  rates: optax.Schedule


def schedule(config: OptimConfig, steps: int) -> optax.Schedule:
  """Learning rate at an update count: linear warm-up from 0, then constant, linear or cosine."""
  rest = max(steps - config.warmup, 1)
  final = config.lr * config.final_lr_frac
  after = {
    "constant": optax.constant_schedule(config.lr),
    "linear": optax.linear_schedule(config.lr, final, rest),
    "cosine": optax.cosine_decay_schedule(config.lr, rest, config.final_lr_frac),
  }[config.decay]
  if not config.warmup:
    return after
  # the first update already moves: warm-up runs over 1/warmup, 2/warmup, ...
  ramp = optax.linear_schedule(config.lr / config.warmup, config.lr, config.warmup - 1)
  return optax.join_schedules([ramp, after], [config.warmup])


def make(config: OptimConfig, steps: int) -> Optimizer:
  """AdamW in f32 for so many updates in all.

  Weight decay spares norms and biases (leaves named `scale` and `bias`).
  """
  rates = schedule(config, steps)

  def decayed(params: Any) -> Any:
    return jax.tree.map_with_path(lambda path, _: path[-1].key not in ("scale", "bias"), params)

  tx = optax.chain(
    optax.clip_by_global_norm(config.max_grad_norm),
    optax.adamw(
      rates,
      b1=config.b1,
      b2=config.b2,
      eps=config.eps,
      weight_decay=config.weight_decay,
      mask=decayed,
    ),
  )
  return Optimizer(tx, rates)


def apply(
  optimizer: Optimizer, state: TrainState, grads: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One optimiser update; a non-finite gradient leaves parameters and moments as they are.

  Returns the new state (`step` always advances, `skipped` counts left-out updates) and metrics
  `grad_norm` (before clipping), `skipped_updates` (of all so far) and `lr`.
  """
  norm = optax.global_norm(grads)
  finite = jnp.isfinite(norm)

  def update(_):
    updates, opt_state = optimizer.tx.update(grads, state.opt_state, state.params)
    return optax.apply_updates(state.params, updates), opt_state

  params, opt_state = jax.lax.cond(
    finite, update, lambda _: (state.params, state.opt_state), operand=None
  )
  skipped = state.skipped + jnp.where(finite, 0, 1).astype(state.skipped.dtype)
  metrics = {
    "grad_norm": norm,
    "skipped_updates": skipped.astype(jnp.float32),
    "lr": jnp.asarray(optimizer.rates(state.step), jnp.float32),
  }
  return TrainState(state.step + 1, params, opt_state, skipped), metrics
