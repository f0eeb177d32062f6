"""The policy on the mesh: parameters, optimizer state and their shardings."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gtalign_jax import models
from gtalign_jax.config import Config
from gtalign_jax.models import decoder, lora
from gtalign_jax.models.variants import mesh_dimensions
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import sharding
from gtalign_jax.sections import PolicyConfig
from gtalign_jax.types import TrainState


class Held(NamedTuple):
  """A loaded policy and where its parts live.

  frozen: parameters that no update touches (None unless LoRA). trainable: what the optimizer sees.
  shardings: of `trainable`.
  """

  arch: Any
  tokenizer: Any
  eos_ids: tuple[int, ...]
  frozen: Any
  trainable: Any
  shardings: Any
  mesh: Mesh


def check_mesh(config: Config, arch: Any, mesh: Mesh) -> None:
  """Raises BadInput where a mesh axis does not divide what it splits."""
  sizes = tuple(mesh.shape[axis] for axis in meshes.AXES)
  meshes.check_model(sizes, mesh_dimensions(arch), config.model)
  rows = mesh.shape["data"] * mesh.shape["fsdp"]
  meshes.check_rows("grpo.prompts_per_step", config.grpo.prompts_per_step, rows)
  meshes.check_rows("rollout.prompts_at_once", config.rollout.prompts_at_once, rows)
  if config.sft.steps:
    meshes.check_rows("sft.batch_size", config.sft.batch_size, rows)
    meshes.check_rows("sft.micro_batch", config.sft.micro_batch, rows)


def hold(config: Config, mesh: Mesh) -> Held:
  """Loads `config.model` straight onto the mesh, with LoRA adapters where configured."""
  policy = models.load(config.model, dtype=config.policy.param_dtype, mesh=mesh)
  check_mesh(config, policy.config, mesh)
  names = decoder.logical_axes(policy.config)
  frozen, trainable = None, policy.params
  if config.policy.lora_rank:
    frozen = policy.params
    trainable = lora.init(policy.config, jax.random.key(config.seed), config.policy)
    names = lora.logical_axes(policy.config, config.policy)
    trainable = jax.device_put(trainable, sharding.tree_shardings(mesh, names))
  return Held(
    policy.config,
    policy.tokenizer,
    policy.eos_ids,
    frozen,
    trainable,
    sharding.tree_shardings(mesh, names),
    mesh,
  )


def joined(frozen: Any, trainable: Any, *, config: PolicyConfig) -> Any:
  """The parameter tree that the decoder reads in training: base weights with adapters, if any."""
  return trainable if frozen is None else lora.join(frozen, trainable, config)


def merged(held: Held, trainable: Any, config: PolicyConfig) -> Any:
  """The policy's plain parameters, in the dtype and shardings in which they are trained."""
  if held.frozen is None:
    return trainable
  return jax.jit(lambda frozen, own: lora.merge(frozen, own, config))(held.frozen, trainable)


def state_shardings(held: Held, optimizer: optax.GradientTransformation) -> TrainState:
  """Shardings of a TrainState: moments lie where their parameters lie."""
  alone = sharding.replicated(held.mesh)
  abstract = jax.eval_shape(optimizer.init, held.trainable)
  opt = optax.tree_map_params(
    optimizer, lambda _, s: s, abstract, held.shardings, transform_non_params=lambda _: alone
  )
  return TrainState(alone, held.shardings, opt, alone)


def create(
  held: Held, optimizer: optax.GradientTransformation, shardings: TrainState
) -> TrainState:
  """The state before the first update; the optimizer state is made sharded, never on one device."""
  opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(held.trainable)
  zero = jax.device_put(jnp.int32(0), shardings.step)
  return TrainState(
    zero, held.trainable, opt_state, jax.device_put(jnp.int32(0), shardings.skipped)
  )
