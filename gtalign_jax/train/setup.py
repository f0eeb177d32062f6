"""What stays the same during a run: mesh, model without its trained parameters, data, keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gtalign_jax import models
from gtalign_jax.algorithms.scoring import Recipe
from gtalign_jax.config import Config
from gtalign_jax.data import batches, prompts, sources
from gtalign_jax.data.records import Record
from gtalign_jax.models import decoder, decoding, lora
from gtalign_jax.models.variants import Arch, split_dimensions
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.rollout import constrain, edit, generate, intervene, stop
from gtalign_jax.rollout.constrain import Constraint
from gtalign_jax.rollout.engine import Engine, with_openings, with_turns
from gtalign_jax.train import preflight
from gtalign_jax.types import Fixed, TrainState

NO_PROMPTS = prompts.Encoded([], [], 0)


class Setup(NamedTuple):
  """The passive half of a run; TrainState is the half that changes.

  fixed: parameters that no update touches. shardings: of TrainState.params. train_set, test_set:
  encoded prompts (none where a run is only planned). opening_table: stop table of openings that are
  edited, None without. constraint: of all engines, None without. train_key, eval_key: two keys, so
  that evaluating more often changes no training sample.
  """

  config: Config
  mesh: Mesh
  arch: Arch
  tokenizer: Any
  eos_ids: tuple[int, ...]
  fixed: Fixed
  shardings: Any
  stop_table: Any
  opening_table: Any = None
  constraint: Constraint | None = None
  train_set: prompts.Encoded = NO_PROMPTS
  test_set: prompts.Encoded = NO_PROMPTS
  train_key: Any = None
  eval_key: Any = None

  @property
  def recipe(self) -> Recipe:
    """How the run learns."""
    config = self.config
    return Recipe(config.grpo, config.critic, self.fixed, config.seed)


def records(config: Config) -> dict[str, list[Record]]:
  """The prompt records of the training and the evaluation split."""
  splits = (config.data.train_split, config.data.eval_split)
  return {split: sources.load(config.data, split) for split in splits}


def load(
  config: Config, mesh: Mesh, found: Mapping[str, Sequence[Record]]
) -> tuple[Setup, TrainState]:
  """Loads the model, straight onto the mesh, with LoRA adapters where configured; encodes prompts.

  found: of `records`. Returns the setup and a state that holds the parameters to train and no
  optimizer state yet. Raises BadInput where model, data, mesh and batch sizes do not go together.
  """
  policy = models.load(config.model, dtype=config.policy.param_dtype, mesh=mesh)
  check_mesh(config, policy.config, mesh)
  frozen, params = None, policy.params
  names = decoder.logical_axes(policy.config)
  if config.policy.lora_rank:
    frozen, names = policy.params, lora.logical_axes(policy.config, config.policy)
    params = lora.init(policy.config, jax.random.key(config.seed), config.policy)
    params = jax.device_put(params, sharding.tree_shardings(mesh, names))
  train = config.data.train_split
  encoded = {
    split: prompts.encode(part, policy.tokenizer, config.data, split == train, config.chain.form)
    for split, part in found.items()
  }
  preflight.check_prompts(encoded, config.data)
  if config.grpo.steps:  # weights of sources without prompts: now, not at the first step
    batches.shares(encoded[train], config.data)
  held_out = batches.held_out(
    encoded[config.data.eval_split], config.eval.prompts, config.data.seed
  )
  alone = sharding.replicated(mesh)
  split = jax.jit(lambda: tuple(jax.random.split(jax.random.key(config.seed))), out_shardings=alone)
  train_key, eval_key = split()

  def stopping(stops: Sequence[str]) -> Any:
    table = stop.stop_table(policy.tokenizer, stops, policy.config.vocab_size)
    return distributed.to_device(table, alone)

  setup = Setup(
    config=config,
    mesh=mesh,
    arch=policy.config,
    tokenizer=policy.tokenizer,
    eos_ids=policy.eos_ids,
    fixed=Fixed(frozen),
    shardings=sharding.tree_shardings(mesh, names),
    stop_table=stopping(config.rollout.stop),
    opening_table=stopping(_opening_stops(config)) if config.intervenes else None,
    constraint=constrain.constraint(
      policy.tokenizer, policy.config.vocab_size, config.budgets, alone
    ),
    train_set=encoded[train],
    test_set=held_out,
    train_key=train_key,
    eval_key=eval_key,
  )
  zero = jax.device_put(jnp.int32(0), alone)
  return setup, TrainState(zero, params, (), zero)


def bare(config: Config, arch: Arch, tokenizer: Any, mesh: Mesh) -> Setup:
  """A setup without prompts and adapters, whose rows end at their budget alone."""
  table = stop.stop_table(tokenizer, (), arch.vocab_size)
  return Setup(
    config=config,
    mesh=mesh,
    arch=arch,
    tokenizer=tokenizer,
    eos_ids=(),
    fixed=Fixed(),
    shardings=sharding.tree_shardings(mesh, decoder.logical_axes(arch)),
    stop_table=distributed.to_device(table, sharding.replicated(mesh)),
  )


def abstract(config: Config, arch: Arch, mesh: Mesh) -> tuple[Setup, Any]:
  """`load` without weights and data: (setup, trained parameters), both as shapes.

  Raises BadInput as `load` would.
  """
  check_mesh(config, arch, mesh)
  names = decoder.logical_axes(arch)
  frozen, params = None, place(decoder.abstract(arch, config.policy.param_dtype), mesh, names)
  if config.policy.lora_rank:
    frozen, names = params, lora.logical_axes(arch, config.policy)
    fresh = jax.eval_shape(lambda: lora.init(arch, jax.random.key(0), config.policy))
    params = place(fresh, mesh, names)
  stop_table, opening_table = (
    np.zeros((stop.states(stops), arch.vocab_size), np.int16)
    for stops in (config.rollout.stop, _opening_stops(config))
  )
  shardings = sharding.tree_shardings(mesh, names)
  # the ids that end a row change no shape and no memory
  fixed = Fixed(frozen)
  constraint = constrain.abstract(arch.vocab_size, config.budgets, sharding.replicated(mesh))
  tables = (stop_table, opening_table, constraint)
  return Setup(config, mesh, arch, None, (0,), fixed, shardings, *tables), params


def _opening_stops(config: Config) -> tuple[str, ...]:
  return (edit.STOP, *config.rollout.stop)


def place(tree: Any, mesh: Mesh, names: Any) -> Any:
  """Shapes with shardings, by the logical names of their axes."""
  places = sharding.tree_shardings(mesh, names)
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, places)


def check_mesh(config: Config, arch: Arch, mesh: Mesh) -> None:
  """Raises BadInput where a mesh axis does not divide what it splits."""
  meshes.check_model(mesh, split_dimensions(arch), config.model)
  shards = meshes.row_shards(mesh)
  rows = {
    "rollout.prompts_at_once": config.rollout.prompts_at_once,
    "conversation.rows_at_once": config.conversation.rows_at_once,
  }
  if config.grpo.steps:
    rows |= {
      "grpo.prompts_per_step": config.grpo.prompts_per_step,
      # a slice of fewer prompts than shards would be computed whole by each of them
      "grpo.minibatch_prompts": config.grpo.minibatch_prompts,
      "grpo.micro_prompts": config.grpo.micro_prompts,
    }
  if config.sft.steps:
    rows |= {
      "sft.batch_size": config.sft.batch_size,
      "sft.micro_batch": config.sft.micro_batch,
    }
  for key, count in rows.items():
    meshes.check_rows(key, count, shards)


# ---------------------------------------------------------------- engines of a run


def training_engine(setup: Setup, programs: Executables, layout: str = "") -> Engine:
  """Samples the rollouts of training."""
  config = setup.config
  slots = config.rollout.prompts_at_once or config.grpo.prompts_per_step
  prompts = config.grpo.prompts_per_step
  engine = _engine(setup, programs, slots, layout, prompts=prompts)
  share = config.rollout.intervene if config.intervenes else 0.0
  return with_openings(engine, share, prompts, setup.opening_table, _buckets(config))


def _buckets(config: Config) -> tuple[int, ...]:
  """Padded lengths of prompts without an opening."""
  buckets = config.rollout.prompt_buckets
  largest = batches.bucket(config.data.max_prompt_tokens, buckets)
  return tuple(each for each in buckets if each <= largest)


def evaluation_engine(setup: Setup, programs: Executables, layout: str = "") -> Engine:
  """Samples evaluations; it decodes as many rows at once as training does."""
  config, shards = setup.config, meshes.row_shards(setup.mesh)
  rows = training_engine(setup, programs).slots * config.rollout.group_size
  slots = min(max(rows // config.eval.group_size, shards), config.eval.prompts)
  slots = -(-slots // shards) * shards
  changes = {"group_size": config.eval.group_size, "temperature": config.eval.temperature}
  prompts = config.eval.prompts
  made = _engine(setup, programs, slots, layout, prefix="eval_", prompts=prompts, **changes)
  return made._replace(buckets=_buckets(config))


def heads_engine(setup: Setup, programs: Executables, layout: str = "") -> Engine:
  """Goes on from edited openings of the evaluation's first chains; see `heads`."""
  evaluator, edited = evaluation_engine(setup, programs, layout), setup.test_set.ids
  edited = edited[: setup.config.eval.intervene_prompts]
  lengths = {batches.bucket(len(ids), evaluator.buckets) for ids in edited}
  made = intervene.continuing(evaluator, lengths or evaluator.buckets[-1:], heads(setup.config))
  return made._replace(later=None)


def heads(config: Config) -> int:
  """Edited openings of an evaluation at most."""
  if not config.has_payoff:
    return 0
  return intervene.HEADS * config.eval.intervene_prompts * config.eval.group_size


def _engine(
  setup: Setup,
  programs: Executables,
  slots: int,
  layout: str,
  prompts: int,
  prefix: str = "",
  **changes: Any,
) -> Engine:
  """layout: of decoding (default: that of this machine). changes: to the sampling.

  prompts: of a step or an evaluation.
  """
  config = setup.config
  pad = None if setup.tokenizer is None else setup.tokenizer.pad_token_id
  if pad is None:
    pad = setup.eos_ids[0] if setup.eos_ids else 0  # never read: masked
  sampling = generate.sampling_of(
    config.rollout,
    setup.arch,
    setup.eos_ids,
    pad,
    config.policy.dtype,
    **changes,
    layout=layout or decoding.native(),
  )
  engine = Engine(
    sampling, setup.stop_table, setup.tokenizer, slots, config.rollout.prompt_buckets, programs,
    prefix, constraint=setup.constraint,
  )  # fmt: skip
  return with_turns(engine, config.conversation, prompts)
