"""What the supervised and the GRPO phase share: state, checkpoints and exact resumption."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.algorithms import optimizer, update
from gtalign_jax.sections import GRPOConfig, OptimConfig
from gtalign_jax.train import checkpoint, state
from gtalign_jax.train.run import Run
from gtalign_jax.types import TrainState

log = logging.getLogger(__name__)
WAITING = {"sft": "sft", "grpo": "update"}  # what the clock calls waiting for a step to end


class Late(NamedTuple):
  """Metrics of a step that the device may still be computing. began: perf_counter at its start."""

  step: int
  began: float
  metrics: dict[str, jax.Array]
  finish: Callable[[dict[str, float]], dict[str, Any]]


class Phase:
  """One phase of a run: its train state, where it resumes, and its checkpoints.

  name: "sft" or "grpo". steps: its optimiser batches. updates: optimiser updates in all (inner
  epochs counted), for the schedule. config: GRPO section, or None for supervised.
  """

  def __init__(
    self,
    run: Run,
    name: str,
    steps: int,
    optim: OptimConfig,
    config: GRPOConfig | None,
    every: int,
    updates: int,
  ):
    self.run, self.name, self.steps, self.every = run, name, steps, every
    self._rates = optimizer.schedule(optim, updates)
    tx = optimizer.make(optim, updates)
    self._shardings = state.state_shardings(run.held, tx)
    self.updater = update.Updater(run.plan(), config, tx, self._shardings)
    self.checkpoints = checkpoint.Checkpoints(
      run.workdir / "checkpoints" / name, run.config.checkpoint.keep
    )
    self._fresh: Callable[[Any], TrainState] = lambda trainable: state.create(
      run.held._replace(trainable=trainable), tx, self._shardings
    )
    self.progress: dict[str, Any] = {}
    self._late: Late | None = None
    self._told = 0.0  # when metrics last arrived
    self._saving = 0.0  # seconds spent on checkpoints since then

  @property
  def resume_step(self) -> int:
    """Steps that the newest complete checkpoint holds."""
    return self.checkpoints.latest() or 0

  def begin(self, trainable: Any) -> TrainState:
    """The state to go on from: the newest checkpoint's, else a fresh one around `trainable`."""
    step = self.checkpoints.latest()
    fresh = self._fresh(trainable)
    if step is None:
      return fresh
    log.info("%s: resuming after step %d of %d", self.name, step, self.steps)
    self.progress = self.checkpoints.progress(step)
    return self.checkpoints.restore(step, checkpoint.abstract(fresh, self._shardings))

  def learning_rate(self, count: int) -> float:
    """Learning rate of update number `count` (from 0)."""
    return float(jax.device_get(self._rates(jnp.int32(count))))

  def tell_later(self, late: Late) -> None:
    """Keeps the metrics of a step until `tell`: meanwhile the host prepares the next one."""
    self._late = late

  def tell(self) -> None:
    """Waits for the metrics that are due, if any, and writes their line."""
    if self._late is None:
      return
    step, began, metrics, finish = self._late
    self._late = None
    with self.run.clock.phase(WAITING[self.name]):
      values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    now = time.perf_counter()
    values = finish(values) | {"step_time": now - max(began, self._told)}
    values["timing_s/checkpoint"], self._saving = self._saving, 0.0
    self._told = now
    self.run.writer.write(self.name, step, values)

  def end_step(self, step: int, train_state: TrainState) -> None:
    """Ends step number `step` (from 1): saves every `every` steps and after the last one.

    Raises KeyboardInterrupt where the run was told to stop and several processes had to agree.
    """
    if step % self.every == 0 or step == self.steps:
      self.tell()  # a checkpoint stands for lines that are written
      self._save(step, train_state)
    self.run.interrupts.check()

  def _save(self, step: int, train_state: TrainState) -> None:
    began = time.perf_counter()
    with self.run.clock.phase("checkpoint"):
      # lines are on disk before the step commits: a resumed run finds every line up to it
      self.run.writer.sync()
      self.checkpoints.save(step, train_state, self.progress)
    self._saving += time.perf_counter() - began
    self.run.clock.save()

  def close(self) -> None:
    """Finishes the save under way."""
    with self.run.clock.phase("checkpoint"):
      self.checkpoints.close()
