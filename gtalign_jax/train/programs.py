"""The program table of training: what a step of GRPO and of the warm start compile.

Each function describes one phase (see parallel/programs.py); those of sampling are in
rollout/engine.py, and the one that makes what decoding reads is in train/state.py. Warm-up and
`gtalign plan` run the same tables. A new program is one more `yield` here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gtalign_jax.algorithms import advantages, loss, scoring, slices, update
from gtalign_jax.algorithms.optimizer import Optimizer, apply
from gtalign_jax.algorithms.scoring import TURNS, Objective
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
from gtalign_jax.train.state import Optimizers
from gtalign_jax.types import BLOCKS, TrainBatch, TrainState


def objective(setup: Setup, grpo: GRPOConfig | None) -> Objective:
  """What the updates of this run minimise; grpo None: cross entropy of the warm start.

  That one is taken at temperature 1: a model trained for another would be exported as if for 1.
  """
  config = setup.config
  temperature = 1.0 if grpo is None else config.rollout.temperature
  budget = config.rollout.max_new_tokens
  return Objective(setup.arch, config.policy, temperature, budget, grpo, config.critic)


def warm_up(
  setup: Setup, compiled: Executables, engine: Engine, optimizers: Optimizers, state: Any
) -> None:
  """Compiles the programs of a GRPO step for all prompt buckets that occur and all widths."""
  config, state = setup.config, abstract(state)
  buckets = sorted({batches.bucket(len(ids), engine.buckets) for ids in setup.train_set.ids})
  widths = slices.widths(config.grpo.length_buckets, config.rollout.max_new_tokens)
  params = states.decodable(setup, state.params)
  refilled = (False, True) if config.grpo.prompts_per_step > engine.slots else (False,)
  openings = engines.opening_tables(engine.opening, params, buckets)
  if openings:  # nobody knows how long they will be
    buckets = [each for each in engine.buckets if each >= buckets[0]]
  tables = [
    states.decode_table(setup, state.params),
    *openings,
    *(engines.table(engine, params, bucket, more) for bucket in buckets for more in refilled),
    *grpo_tables(setup, optimizers, state, buckets, widths),
  ]
  if engine.later is not None:
    tables += engines.turn_tables(engine.later, params)
    tables += turn_tables(setup, optimizers, state, engine.later, widths)
  compiled.compile(tables)


def grpo_tables(
  setup: Setup,
  optimizers: Optimizers,
  state: Any,
  buckets: Iterable[int],
  widths: list[int],
) -> list[Table]:
  """The programs of scoring and of the update, for each prompt bucket and each width of a slice.

  state: a TrainState of arrays or shapes.
  """
  return [
    _grpo_table(setup, optimizers, state, bucket, width) for bucket in buckets for width in widths
  ]


def turn_tables(
  setup: Setup, optimizers: Optimizers, state: TrainState, later: Engine, widths: list[int]
) -> list[Table]:
  """`grpo_tables` of the later turns of conversations; later: the engine that samples them."""
  return [
    _turn_table(setup, optimizers, state, later.most, bucket, width)
    for bucket in later.buckets
    for width in widths
  ]


def _batch(setup: Setup, prompts: int, group_size: int, bucket: int) -> TrainBatch:
  """A batch of completions as shapes, without what is computed of them."""
  mesh, B, C = setup.mesh, prompts * group_size, setup.config.rollout.max_new_tokens
  constraint = setup.constraint
  return TrainBatch(
    prompt=abstract_prompts(mesh, prompts, bucket, constraint is not None),
    tokens_BC=rows(mesh, jnp.int32, B, C),
    mask_BC=rows(mesh, jnp.bool_, B, C),
    sampler_logp_BC=rows(mesh, jnp.float32, B, C),
    block_BC=rows(mesh, jnp.int8, B, C),
    grammar=constraint and abstract(constraint.grammar),
  )


def _grpo_table(
  setup: Setup, optimizers: Optimizers, state: TrainState, bucket: int, width: int
) -> Table:
  config, critic, mesh = setup.config.grpo, setup.config.critic, setup.mesh
  P, G = config.prompts_per_step, setup.config.rollout.group_size
  p, g = slices.size(config, G)
  batch, target, recipe = _batch(setup, P, G, bucket), objective(setup, config), setup.recipe
  flops = uniform_flops(setup.arch, p, g, bucket, width)
  wanted = scoring.jobs(state, recipe)
  scored = {job.field: batch.sampler_logp_BC for job in wanted}
  if wanted:
    yield from _scoring(setup, target, state, wanted, batch, (p, g), width, flops / 3)
  flags_PG = rows(mesh, jnp.bool_, P, G)
  reward = rows(mesh, jnp.float32, P, G, *((2,) if config.advantage == "gdpo" else ()))
  read = scored if config.advantage == "gae" else {}
  rated = yield Program(
    "advantages",
    functools.partial(advantages.rated, config, critic),
    (
      *(reward, flags_PG, flags_PG, batch.mask_BC),
      *(read.get(name) for name in ("old_logp_BC", "ref_logp_BC", "value_BC")),
    ),
  )
  more = {name: each for name, each in rated.items() if name in TrainBatch._fields}
  batch = batch._replace(**scored, **more)
  part = yield _take("take", setup, state, batch, (p, g), width)
  places, reference = states.shardings(setup, optimizers, state.params), setup.fixed.reference
  actor = state._replace(critic=None)
  if optimizers.critic is not None:
    yield from _gradients(
      optimizers.critic,
      functools.partial(update.accumulate_values, target),
      state.critic,
      scoring.value_base(state, recipe),
      _totals(mesh),
      part,
      places.critic,
      (reference, actor),
      flops,
      "critic_",
    )
  yield from _policy_gradients(setup, optimizers, state, part, flops)


def _turn_table(
  setup: Setup, optimizers: Optimizers, state: TrainState, most: int, bucket: int, width: int
) -> Table:
  """most: rows of a step's later turns, the empty ones included."""
  config, mesh = setup.config.grpo, setup.mesh
  B = config.prompts_per_step * setup.config.rollout.group_size
  p, g = slices.size(config, setup.config.rollout.group_size)
  batch, target = _batch(setup, most, 1, bucket), objective(setup, config)
  flops = uniform_flops(setup.arch, p * g, 1, bucket, width)
  wanted = scoring.jobs(state, setup.recipe)
  if wanted:
    yield from _scoring(setup, target, state, wanted, batch, (p * g, 1), width, flops / 3, TURNS)
  rated = yield Program(
    f"{TURNS}advantages",
    advantages.handed_down,
    (
      rows(mesh, jnp.float32, B),
      *(rows(mesh, dtype, most) for dtype in (jnp.int32, jnp.bool_)),
      batch.mask_BC,
    ),
  )
  batch = batch._replace(**{job.field: batch.sampler_logp_BC for job in wanted}, **rated)
  part = yield _take(f"{TURNS}take", setup, state, batch, (p * g, 1), width)
  yield from _policy_gradients(setup, optimizers, state, part, flops)


def _policy_gradients(
  setup: Setup, optimizers: Optimizers, state: TrainState, part: TrainBatch, flops: float
) -> Table:
  """The programs of the policy's own update."""
  return _gradients(
    optimizers.policy,
    functools.partial(update.accumulate, objective(setup, setup.config.grpo)),
    state._replace(critic=None),
    setup.fixed.frozen,
    _totals(setup.mesh),
    part,
    states.shardings(setup, optimizers, state.params)._replace(critic=None),
    (setup.fixed.reference, state.critic),
    flops,
  )


def _totals(mesh: Mesh) -> loss.Totals:
  one = whole(mesh, jnp.int32)
  return loss.Totals(one, one, one, whole(mesh, jnp.int32, len(BLOCKS)))


def _scoring(
  setup: Setup,
  target: Objective,
  state: TrainState,
  wanted: Iterable[scoring.Job],
  batch: TrainBatch,
  size: tuple[int, int],
  width: int,
  flops: float,
  prefix: str = "",
) -> Table:
  """The programs of `scoring.score` for slices of one width; the scores have the mask's shape.

  size: prompts of a slice, and completions of each.
  """
  mesh, (p, g) = setup.mesh, size
  part = yield _take(f"{prefix}take_to_score", setup, state, batch, size, width)
  scores_BC = rows(mesh, jnp.float32, *batch.mask_BC.shape)
  yield Program(
    f"{prefix}no_scores",
    functools.partial(jnp.zeros, batch.mask_BC.shape, jnp.float32),
    (),
    out_shardings=scores_BC.sharding,
  )
  for job in wanted:
    kind = scoring.values_only if job.field == "value_BC" else scoring.logprobs_only
    part_BC = yield Program(
      job.program,
      functools.partial(kind, target),
      (job.params, job.frozen, part),
      variant=scoring.sizes(part),
      resident=(state.opt_state, state.critic, setup.fixed),
      flops=flops,
    )
  yield Program(
    f"{prefix}put",
    functools.partial(slices.put, batch.prompt.length_P.shape[0]),
    (scores_BC, part_BC, whole(mesh, jnp.int32, p), whole(mesh, jnp.int32, p, g)),
    variant=(width,),
    donated=(0,),
    out_shardings=scores_BC.sharding,
  )


def _take(
  name: str,
  setup: Setup,
  state: TrainState,
  batch: TrainBatch,
  size: tuple[int, int],
  width: int,
) -> Program:
  return Program(
    name,
    functools.partial(slices.take, width),
    (batch, whole(setup.mesh, jnp.int32, size[0]), whole(setup.mesh, jnp.int32, *size)),
    variant=(batch.prompt.tokens_PT.shape[1], width),
    resident=(state, setup.fixed),
  )


def sft_table(
  setup: Setup,
  optimizers: Optimizers,
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
  )
  flops = uniform_flops(setup.arch, shards, count // shards, prefix_tokens, width)
  yield from _gradients(
    optimizers.policy,
    functools.partial(update.accumulate, objective(setup, None)),
    state,
    setup.fixed.frozen,
    totals,
    part,
    states.shardings(setup, optimizers, state.params),
    None,
    flops,
    "sft_",
  )


def _gradients(
  optimizer: Optimizer,
  accumulate: Callable[..., Any],
  state: TrainState,
  frozen: Any,
  totals: loss.Totals,
  part: TrainBatch,
  places: TrainState,
  resident: Any,
  flops: float,
  prefix: str = "",
) -> Table:
  """The programs of `update.gradient_step` for slices like `part`.

  state: of the policy or of the critic, and places its shardings. resident: what else lies on the
  devices.
  """
  grads = yield Program(
    f"{prefix}zero_gradients", update.zeros, (state.params,), out_shardings=places.params
  )
  grads, metrics = yield Program(
    f"{prefix}accumulate",
    accumulate,
    (grads, state.params, frozen, totals, part),
    variant=scoring.sizes(part),
    donated=(0,),
    out_shardings=(places.params, None),
    resident=(state.opt_state, resident),
    flops=flops,
  )
  yield Program(f"{prefix}add_metrics", update.add_metrics, (metrics, metrics))
  yield Program(
    f"{prefix}apply",
    functools.partial(apply, optimizer),
    (state, grads),
    donated=(0,),
    out_shardings=(places, None),
    resident=(resident, frozen),
  )


def rows(mesh: Mesh, dtype: Any, *shape: int) -> Any:
  """A shape whose first axis is split over the mesh."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.rows(mesh))


def whole(mesh: Mesh, dtype: Any, *shape: int) -> Any:
  """A shape that every device holds whole."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.replicated(mesh))
