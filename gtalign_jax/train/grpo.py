"""The GRPO phase: rollout, reward, update, step after step."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import jax
import numpy as np

from gtalign_jax.algorithms import slices, update
from gtalign_jax.algorithms.advantages import group_advantages, overlong_penalty
from gtalign_jax.data import batches
from gtalign_jax.evaluate import suites
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.rewards import normalize
from gtalign_jax.train import checkpoint, numbers
from gtalign_jax.train.phase import Phase
from gtalign_jax.train.run import Run, lanes
from gtalign_jax.types import TrainBatch, TrainState

log = logging.getLogger(__name__)


def rewards(run: Run, sampled: suites.Sampled) -> np.ndarray:
  """Rewards [P, G, 1], or [P, G, 2] = (U, L) for gdpo; NaN where a row has no verdict."""
  config, G = run.config, run.config.rollout.group_size

  def column(name: str) -> np.ndarray:
    return np.asarray([np.nan if s[name] is None else s[name] for s in sampled.rows], np.float64)

  if config.grpo.advantage == "gdpo":
    return np.stack([column("user_reward"), column("llm_reward")], axis=-1).reshape(-1, G, 2)
  reward_B = column("score")
  if config.rewards.source_norm != "none":
    names = [row["data_source"] for row in sampled.rows]
    reward_B = normalize.normalize(reward_B, names, config.rewards.source_norm)
  if config.grpo.overlong_buffer:
    length_B = np.asarray([row["completion_tokens"] for row in sampled.rows])
    reward_B = reward_B + overlong_penalty(
      length_B, config.rollout.max_new_tokens, config.grpo.overlong_buffer
    )
  return reward_B.reshape(-1, G, 1)


def score_program(plan: update.Plan):
  """Jitted (trainable, frozen, slice) -> log-probability of each completion token, [B, C] f32."""
  return jax.jit(lambda *args: update.score(plan, *args)[0])


class Learner:
  """The GRPO phase of a run; host code around the sampler and the updater."""

  def __init__(self, run: Run, start: Any):
    config = run.config
    self.run, self.config = run, config.grpo
    updates = config.grpo.steps * config.grpo.inner_epochs
    self.phase = Phase(
      run, "grpo", config.grpo.steps, config.optim, config.grpo, config.checkpoint.every, updates
    )
    self.actor = run.actor(lanes(config))
    # the update donates its state, so the policy that KL is measured against is a copy
    self.reference = jax.tree.map(lambda x: x.copy(), start) if config.grpo.kl_coef else None
    self._score = score_program(self.phase.updater.plan)
    self._advantages = jax.jit(
      lambda reward, valid: group_advantages(
        reward if config.grpo.advantage == "gdpo" else reward[..., 0],
        valid,
        kind=config.grpo.advantage,
        weights=config.grpo.gdpo_weights,
      ).reshape(-1)
    )

  def batch(self, sampled: suites.Sampled) -> TrainBatch:
    """The optimiser batch on the mesh, advantages computed on the device over [P, G]."""
    run, mesh = self.run, self.run.mesh
    reward_PGC = rewards(run, sampled)
    valid_PG = np.isfinite(reward_PGC).all(-1)
    rows = sharding.sharding(mesh, ("batch",))
    reward, valid = distributed.to_device((reward_PGC.astype(np.float32), valid_PG), (rows, rows))
    rollout = sampled.rollout
    mask_BC = rollout.mask_BC
    if self.config.mask_truncated:
      mask_BC = mask_BC & rollout.stopped_B[:, None]
    batch = TrainBatch(
      sampled.prompts,
      rollout.tokens_BC,
      mask_BC,
      self._advantages(reward, valid),
      rollout.logp_BC,
      None,
      None,
    )
    return batch

  def slices(self, sampled: suites.Sampled) -> tuple[list[TrainBatch], float]:
    """The batch in slices of like length, with reference log-probabilities where KL is asked for.

    Also the share of padding among the trained completion tokens.
    """
    config, batch = self.config, self.batch(sampled)
    count_B = np.asarray([row["completion_tokens"] for row in sampled.rows])
    count_PG = count_B.reshape(-1, self.run.config.rollout.group_size)
    cuts = slices.cut(
      count_PG,
      config.micro_prompts,
      config.micro_samples,
      config.length_bucket,
      self.run.config.rollout.max_new_tokens,
    )
    out = [slices.take(batch, each.prompt_p, each.sample_pg, each.width) for each in cuts]
    if self.reference is not None:
      frozen = self.run.held.frozen
      out = [x._replace(ref_logp_BC=self._score(self.reference, frozen, x)) for x in out]
    return out, slices.padding(count_PG, cuts)

  def step(self, state: TrainState, step: int) -> tuple[TrainState, dict[str, float]]:
    """One step of the algorithm; `step` counts from 0."""
    run, clock = self.run, self.run.clock
    began = time.perf_counter()
    records, ids = batches.batch_at(
      run.train_set, run.config.data, run.config.grpo.prompts_per_step, step
    )
    with clock.phase("rollout"):
      params = run.decode_params(state.params)
    sampled = suites.sample_and_score(
      self.actor, params, records, ids, run.train_key, np.int32(step), phase=clock.phase
    )
    del params  # the update needs the room
    suites.check_verdicts(sampled.rows, run.config.rewards, f"step {step + 1}")
    with clock.phase("update"):
      update_began = time.perf_counter()
      parts, padding = self.slices(sampled)
      for epoch in range(self.config.inner_epochs):
        state, metrics, logps = self.phase.updater(state, run.held.frozen, parts)
        if epoch == 0:
          parts = [x._replace(old_logp_BC=old) for x, old in zip(parts, logps, strict=True)]
      values = {name: float(value) for name, value in jax.device_get(metrics).items()}
      update_s = time.perf_counter() - update_began
    values["lr"] = self.phase.learning_rate((step + 1) * self.config.inner_epochs - 1)
    run.writer.samples(step + 1, sampled.rows)
    values |= numbers.rewards(run.config, sampled, rewards(run, sampled))
    values |= numbers.work(sampled, update_s, self.phase.progress)
    values |= run.judge.statistics() | {"perf/padding_frac": padding}
    values["step_time"] = time.perf_counter() - began
    return state, values

  def evaluate(self, state: TrainState, step: int) -> None:
    """Evaluates, and keeps the parameters if their welfare is the best so far."""
    welfare = self.run.evaluate("grpo", state.params, step)["rewards/welfare/mean"]
    best = self.phase.progress.get("best_welfare", -math.inf)
    if welfare > best:  # never where no row has a verdict: that is NaN
      self.phase.progress |= {"best_welfare": welfare, "best_step": step}
      with self.run.clock.phase("checkpoint"):
        folder = self.run.workdir / "checkpoints" / "best"
        checkpoint.save_params(folder, step, state.params, dict(self.phase.progress))

  def train(self, state: TrainState) -> TrainState:
    """Runs from `state` to the last step."""
    run, every = self.run, self.run.config.eval.every
    with jax.set_mesh(run.mesh):
      for step in range(self.phase.resume_step, self.config.steps):
        state, values = self.step(state, step)
        run.writer.write("grpo", step + 1, values)
        last = step + 1 == self.config.steps
        if last or (every and (step + 1) % every == 0):
          self.evaluate(state, step + 1)
        self.phase.end_step(step + 1, state)
    return state


def train(run: Run, start: Any) -> Any:
  """Runs GRPO from the trainable parameters `start` (resuming where it stopped)."""
  learner = Learner(run, start)
  try:
    state = learner.phase.begin(start)
    return learner.train(state).params
  finally:
    learner.phase.close()
