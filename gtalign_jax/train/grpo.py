"""GRPO, step after step: the page to read first.

`Experience` (types.py) flows through the loop and is filled in on the way: completions and what
they are worth, rewards, log-probabilities to compare with, advantages; then it is trained on.
`TrainState` alone owns parameters. What is compiled stands in train/programs.py, and
docs/life_of_a_step.md follows one prompt through.
"""

from __future__ import annotations

import jax

from gtalign_jax.algorithms.advantages import advantages, select
from gtalign_jax.algorithms.scoring import score
from gtalign_jax.algorithms.update import update
from gtalign_jax.data.batches import batch_at
from gtalign_jax.progress import progress
from gtalign_jax.rewards.reward import reward
from gtalign_jax.rollout.collect import collect
from gtalign_jax.rollout.engine import Engine
from gtalign_jax.rollout.openings import edited_openings
from gtalign_jax.rollout.placement import on_mesh
from gtalign_jax.train import programs
from gtalign_jax.train.checkpoint import Checkpoints, position
from gtalign_jax.train.evaluation import evaluate_and_keep_best
from gtalign_jax.train.log import StepLog
from gtalign_jax.train.resample import resample
from gtalign_jax.train.services import Services
from gtalign_jax.train.setup import Setup, training_engine
from gtalign_jax.train.state import begin, decode_params, end, is_due, make_optimizers, save
from gtalign_jax.types import TrainState


def steps(
  setup: Setup,
  services: Services,
  checkpoints: Checkpoints,
  engine: Engine,
  log: StepLog,
  state: TrainState,
) -> TrainState:
  """The algorithm: every step from the newest checkpoint to the last."""
  config, recipe = setup.config, setup.recipe
  environment, compiled = services.environment, services.programs
  for step in range(checkpoints.step, config.grpo.steps):
    log.start()
    batch = batch_at(setup.train_set, config.data, config.grpo.prompts_per_step, step)
    params = decode_params(setup, compiled, state.params, log)
    given = (engine, params, batch, setup.train_key, step, environment, log)
    experience = collect(*given, heads=edited_openings(*given))
    experience = reward(experience, config.rewards, f"step {step + 1}")
    experience = resample(experience, setup, services, engine, params, step, log)
    del params  # the update needs the room
    experience = on_mesh(select(experience, recipe), engine, config.chain.form)
    experience = score(state, experience, recipe, compiled, log)
    experience = advantages(experience, recipe, compiled)
    state, metrics = update(state, experience, recipe, compiled, step, log)
    log.step(step + 1, metrics, experience)  # its line is written once the next step is under way
    if is_due(step + 1, config.eval.every, config.grpo.steps):
      log.flush()
      evaluate_and_keep_best(setup, services, checkpoints, state, step + 1)
    if is_due(step + 1, config.checkpoint.every, config.grpo.steps):
      save(services, checkpoints, log, state, step + 1)
    services.interrupts.check()
  return state


def train(setup: Setup, services: Services, state: TrainState) -> TrainState:
  """Trains the parameters of `state` to the last step, or goes on from the newest checkpoint."""
  config, folder = setup.config, services.workdir / "checkpoints" / "grpo"
  optimizers = make_optimizers(config)
  if config.has_reference:  # a copy, because updates donate the parameters that they change
    reference = jax.tree.map(lambda x: x.copy(), state.params)
    setup = setup._replace(fixed=setup.fixed._replace(reference=reference))
  with Checkpoints(folder, config.checkpoint.keep) as checkpoints, jax.set_mesh(setup.mesh):
    state = begin(setup, state, optimizers, checkpoints)
    services.writer.resume(position(services.workdir, config.sft.steps), back=True)
    engine = training_engine(setup, services.programs)
    if checkpoints.step < config.grpo.steps:
      with services.clock.phase("compile"), progress("grpo: compiling"):
        programs.warm_up(setup, services.programs, engine, optimizers, state)
    with progress("grpo", first=checkpoints.step) as shown:
      log = StepLog(setup, services, "grpo", checkpoints.progress, shown)
      return end(steps(setup, services, checkpoints, engine, log, state))
