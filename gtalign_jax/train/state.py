"""TrainState: the only owner of parameters. How it begins, and the forms in which it is read."""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gtalign_jax import config as configs
from gtalign_jax.algorithms import optimizer
from gtalign_jax.algorithms.optimizer import Optimizer
from gtalign_jax.config import Config
from gtalign_jax.errors import BadInput
from gtalign_jax.models import critic, decoder, lora
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.programs import Executables, Program, Table, abstract
from gtalign_jax.progress import WorkLog
from gtalign_jax.rollout.engine import QUIET
from gtalign_jax.sections import PolicyConfig
from gtalign_jax.train.checkpoint import Checkpoints, is_finite
from gtalign_jax.train.log import StepLog
from gtalign_jax.train.services import Services
from gtalign_jax.train.setup import Setup, place
from gtalign_jax.types import TrainState

log = logging.getLogger(__name__)


class Optimizers(NamedTuple):
  """What moves the policy's parameters, and what the critic's (None without one)."""

  policy: Optimizer
  critic: Optimizer | None = None


def make_optimizers(config: Config) -> Optimizers:
  """Those of GRPO or PPO; their schedules count optimiser steps."""
  steps, updates = config.grpo.steps, config.grpo.updates
  if not config.has_critic:
    return Optimizers(optimizer.make(config.optim, steps * updates))
  warm = config.critic.warmup_steps
  return Optimizers(
    optimizer.make(config.optim, (steps - warm) * updates),
    optimizer.make(config.critic.optim, steps * updates),
  )


def initial(setup: Setup, optimizers: Optimizers, params: Any) -> TrainState:
  """The state before the first update, as a pure function of the parameters to train."""

  def begun(optimizer: Optimizer, params: Any) -> TrainState:
    return TrainState(jnp.int32(0), params, optimizer.tx.init(params), jnp.int32(0))

  state = begun(optimizers.policy, params)
  if optimizers.critic is None:
    return state
  made = critic.init(setup.arch, params, setup.config.critic.trunk == "own")
  return state._replace(critic=begun(optimizers.critic, made))


def shardings(setup: Setup, optimizers: Optimizers, params: Any) -> TrainState:
  """Shardings of a TrainState: moments lie where their parameters lie. params: arrays or shapes."""
  alone = sharding.replicated(setup.mesh)
  shapes = jax.eval_shape(functools.partial(initial, setup, optimizers), params)

  def places(optimizer: Optimizer, shapes: TrainState, params: Any) -> TrainState:
    moments = optax.tree_map_params(
      optimizer.tx, lambda _, s: s, shapes.opt_state, params, transform_non_params=lambda _: alone
    )
    return TrainState(alone, params, moments, alone)

  found = places(optimizers.policy, shapes, setup.shardings)
  if optimizers.critic is None:
    return found
  values = critic.like(setup.shardings, setup.config.critic.trunk == "own", alone)
  return found._replace(critic=places(optimizers.critic, shapes.critic, values))


def fresh(setup: Setup, optimizers: Optimizers, params: Any) -> TrainState:
  """`initial` on the mesh: made sharded, never on one device. `params` are not copied."""
  places = shardings(setup, optimizers, params)._replace(params=())
  made = jax.jit(lambda p: initial(setup, optimizers, p)._replace(params=()), out_shardings=places)
  return made(params)._replace(params=params)


def begin(
  setup: Setup,
  state: TrainState,
  optimizers: Optimizers,
  checkpoints: Checkpoints,
  anew: bool = False,
) -> TrainState:
  """The state that a phase goes on from: the newest sound checkpoint's, else a fresh one.

  state: the parameters to start with. anew: the phase may begin again where all of its checkpoints
  are damaged. Raises BadInput where they are and it may not: that would throw away what somebody
  may be able to mend. And where the parameters are not finite to begin with.
  """
  begun = fresh(setup, optimizers, state.params)
  # the programs that look at what is saved, all of it or the best parameters, are compiled here:
  # nothing is in the loop
  if not (is_finite(begun.params) and is_finite(stored(begun))):
    raise BadInput(f"model={setup.config.model}: some weights are not finite; use sound ones")
  found = None
  if checkpoints.step:
    found = checkpoints.restore_latest(abstract(stored(begun)), anew)
  # a copy of config.json: a run whose file is damaged is still known
  checkpoints.progress["config"] = configs.as_dict(setup.config)
  if found is None:
    return begun
  log.info("%s: resuming after step %d", checkpoints.directory.name, checkpoints.step)
  if begun.critic is not None:
    found |= {"critic": TrainState(**found["critic"])}
  return TrainState(**found)


def stored(state: TrainState) -> dict[str, Any]:
  """A state as checkpoints hold it: without a place for a critic that is not there.

  So those of runs without one read the same before and after critics came to be.
  """
  held = {name: each for name, each in state._asdict().items() if name != "critic"}
  return held if state.critic is None else held | {"critic": stored(state.critic)}


def end(state: TrainState) -> TrainState:
  """What the next phase gets: the parameters, without moments that would only take up memory."""
  return state._replace(opt_state=(), critic=None)


def save(
  services: Services, checkpoints: Checkpoints, log: StepLog, state: TrainState, step: int
) -> None:
  """Stores `state` as step number `step` (from 1), behind the lines that lead up to it."""
  log.flush()  # a checkpoint stands for lines that are written ...
  with log.phase("checkpoint"), distributed.uninterrupted():
    services.writer.sync()  # ... and on the disk: a resumed run finds every line up to it
    checkpoints.save(step, stored(state))
  services.clock.save()


def is_due(step: int, every: int, last: int) -> bool:
  """Whether something done every so many steps (0: never), and after the last, is due now."""
  return step == last or (every > 0 and step % every == 0)


# ---------------------------------------------------------------- parameters as they are read


def decode_table(setup: Setup, params: Any, resident: Any = ()) -> Table:
  """The program that makes what decoding reads; none where the trained parameters are that already.

  Joined with adapters, cast, and gathered over fsdp once per step instead of at every token.
  """
  if is_decodable(setup):
    return
  names = sharding.gathered(decoder.logical_axes(setup.arch))
  yield Program(
    "decode_params",
    functools.partial(_decodable, setup.config.policy),
    (setup.fixed.frozen, params),
    out_shardings=sharding.tree_shardings(setup.mesh, names),
    resident=resident,
  )


def decodable(setup: Setup, params: Any) -> Any:
  """What `decode_params` returns, as shapes. params: of the state, arrays or shapes."""
  if is_decodable(setup):
    return abstract(params)
  names = sharding.gathered(decoder.logical_axes(setup.arch))
  return place(decoder.abstract(setup.arch, setup.config.policy.dtype), setup.mesh, names)


def is_decodable(setup: Setup) -> bool:
  """Whether decoding can read the trained parameters as they are."""
  policy = setup.config.policy
  return setup.mesh.size == 1 and setup.fixed.frozen is None and policy.dtype == policy.param_dtype


def decode_params(setup: Setup, programs: Executables, params: Any, log: WorkLog = QUIET) -> Any:
  """The parameters as decoding reads them."""
  if is_decodable(setup):
    return params
  with log.phase("rollout"):
    return programs["decode_params"](setup.fixed.frozen, params)


def _decodable(policy: PolicyConfig, frozen: Any, params: Any) -> Any:
  whole = params if frozen is None else lora.merge(frozen, params, policy)
  return decoder.cast(whole, policy.dtype)  # rounds what the trainer rounds, and nothing else


def merged(setup: Setup, params: Any) -> Any:
  """The policy's plain parameters, in the dtype and shardings in which they are trained."""
  if setup.fixed.frozen is None:
    return params
  return jax.jit(functools.partial(_merged, setup.config.policy))(setup.fixed.frozen, params)


def _merged(policy: PolicyConfig, frozen: Any, params: Any) -> Any:
  return lora.merge(frozen, params, policy)
