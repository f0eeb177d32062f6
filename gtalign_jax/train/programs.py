"""The program table of training: what a step of GRPO and of the warm start compile.

Each function describes one phase (see parallel/programs.py); those of sampling are in
rollout/engine.py, and the one that makes what decoding reads is in train/state.py. Warm-up and
`gtalign plan` run the same tables. A new program is one more `yield` here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gtalign_jax.algorithms import loss, optimizer, slices, update
from gtalign_jax.algorithms.advantages import rated
from gtalign_jax.data import batches
from gtalign_jax.models.flops import uniform_flops
from gtalign_jax.parallel import sharding
from gtalign_jax.parallel.mesh import row_shards
from gtalign_jax.parallel.programs import Executables, Program, Table, abstract
from gtalign_jax.rollout import engine as engines
from gtalign_jax.rollout.engine import Engine, abstract_prompts
from gtalign_jax.sections import GRPOConfig
from gtalign_jax.train import state as states
from gtalign_jax.train.setup import Setup
from gtalign_jax.types import TrainBatch, TrainState


def objective(setup: Setup, grpo: GRPOConfig | None) -> update.Objective:
  """What the updates of this run minimise; grpo None: cross entropy of the warm start.

  That one is taken at temperature 1: a model trained for another would be exported as if for 1.
  """
  rollout = setup.config.rollout
  temperature = 1.0 if grpo is None else rollout.temperature
  return update.Objective(
    setup.arch, setup.config.policy, temperature, rollout.max_new_tokens, grpo
  )


def warm_up(
  setup: Setup, compiled: Executables, engine: Engine, tx: optax.GradientTransformation, state: Any
) -> None:
  """Compiles the programs of a GRPO step for all prompt buckets that occur and all widths."""
  config, state = setup.config, abstract(state)
  buckets = sorted({batches.bucket(len(ids), engine.buckets) for ids in setup.train_set.ids})
  widths = slices.widths(config.grpo.length_buckets, config.rollout.max_new_tokens)
  params = states.decodable(setup, state.params)
  refilled = (False, True) if config.grpo.prompts_per_step > engine.slots else (False,)
  compiled.compile(
    [
      states.decode_table(setup, state.params),
      *(engines.table(engine, params, bucket, more) for bucket in buckets for more in refilled),
      *grpo_tables(setup, tx, state, buckets, widths),
    ]
  )


def grpo_tables(
  setup: Setup,
  tx: optax.GradientTransformation,
  state: Any,
  buckets: Iterable[int],
  widths: list[int],
) -> list[Table]:
  """The programs of the GRPO update for each prompt bucket and each width of a slice.

  state: a TrainState of arrays or shapes.
  """
  return [_grpo_table(setup, tx, state, bucket, width) for bucket in buckets for width in widths]


def _grpo_table(
  setup: Setup, tx: optax.GradientTransformation, state: TrainState, bucket: int, width: int
) -> Table:
  config, mesh = setup.config.grpo, setup.mesh
  P, G = config.prompts_per_step, setup.config.rollout.group_size
  C = setup.config.rollout.max_new_tokens
  target = objective(setup, config)
  reward = rows(mesh, jnp.float32, P, G, *((2,) if config.advantage == "gdpo" else ()))
  valid_PG = rows(mesh, jnp.bool_, P, G)
  mask_BC, logp_BC = rows(mesh, jnp.bool_, P * G, C), rows(mesh, jnp.float32, P * G, C)
  advantage_B, mask_BC, totals = yield Program(
    "advantages",
    functools.partial(rated, config),
    (reward, valid_PG, mask_BC, rows(mesh, jnp.bool_, P * G)),
  )
  batch = TrainBatch(
    prompt=abstract_prompts(mesh, P, bucket),
    tokens_BC=rows(mesh, jnp.int32, P * G, C),
    mask_BC=mask_BC,
    advantage_B=advantage_B,
    sampler_logp_BC=logp_BC,
    old_logp_BC=None,
    ref_logp_BC=None,
  )
  p, g = slices.size(config, G)
  part = yield Program(
    "take",
    functools.partial(slices.take, width),
    (batch, whole(mesh, jnp.int32, p), whole(mesh, jnp.int32, p, g)),
    variant=(bucket, width),
    resident=(state, setup.fixed),
  )
  flops = uniform_flops(setup.arch, p, g, bucket, width)
  if setup.fixed.reference is not None:
    ref_logp_BC = yield Program(
      "score_reference",
      functools.partial(update.score_only, target),
      (setup.fixed.reference, setup.fixed.frozen, part),
      variant=(bucket, width),
      resident=state,
      flops=flops / 3,
    )
    part = part._replace(ref_logp_BC=ref_logp_BC)
  old_logp_BC = yield from _gradients(setup, target, tx, state, part, totals, flops)
  if config.inner_epochs > 1:
    part = part._replace(old_logp_BC=old_logp_BC)
    yield from _gradients(setup, target, tx, state, part, totals, flops)


def sft_table(
  setup: Setup,
  tx: optax.GradientTransformation,
  state: TrainState,
  prefix_tokens: int,
  count: int,
  width: int,
) -> Table:
  """The programs of a warm-start update whose slices hold `count` examples of `width` tokens.

  prefix_tokens: the instructions that all prompts begin with, computed once per device.
  """
  mesh, shards = setup.mesh, row_shards(setup.mesh)
  totals = loss.Totals(*[whole(mesh, jnp.int32)] * 3)
  part = TrainBatch(
    prompt=abstract_prompts(mesh, shards, prefix_tokens),
    tokens_BC=rows(mesh, jnp.int32, count, width),
    mask_BC=rows(mesh, jnp.bool_, count, width),
    advantage_B=rows(mesh, jnp.float32, count),
    sampler_logp_BC=None,
    old_logp_BC=None,
    ref_logp_BC=None,
  )
  flops = uniform_flops(setup.arch, shards, count // shards, prefix_tokens, width)
  yield from _gradients(setup, objective(setup, None), tx, state, part, totals, flops, "sft_")


def _gradients(
  setup: Setup,
  target: update.Objective,
  tx: optax.GradientTransformation,
  state: TrainState,
  part: TrainBatch,
  totals: loss.Totals,
  flops: float,
  prefix: str = "",
) -> Table:
  """The programs of `update.gradient_step` for slices like `part`; returns their log-probs."""
  places = states.shardings(setup, tx, state.params)
  reference = None if target.grpo is None else setup.fixed.reference
  grads = yield Program(
    f"{prefix}zero_gradients", update.zeros, (state.params,), out_shardings=places.params
  )
  grads, metrics, logp_BC = yield Program(
    f"{prefix}accumulate",
    functools.partial(update.accumulate, target),
    (grads, state.params, setup.fixed.frozen, totals, part),
    variant=update.variant(part),
    donated=(0,),
    out_shardings=(places.params, None, None),
    resident=(state.opt_state, reference),
    flops=flops,
  )
  yield Program(f"{prefix}add_metrics", update.add_metrics, (metrics, metrics))
  yield Program(
    f"{prefix}apply",
    functools.partial(optimizer.apply, tx),
    (state, grads),
    donated=(0,),
    out_shardings=(places, None),
    resident=(reference, setup.fixed.frozen),
  )
  return logp_BC


def rows(mesh: Mesh, dtype: Any, *shape: int) -> Any:
  """A shape whose first axis is split over the mesh."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.rows(mesh))


def whole(mesh: Mesh, dtype: Any, *shape: int) -> Any:
  """A shape that every device holds whole."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.replicated(mesh))
