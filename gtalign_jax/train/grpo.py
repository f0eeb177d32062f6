"""The GRPO phase: rollout, reward, update, step after step."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from gtalign_jax.algorithms import slices, update
from gtalign_jax.algorithms.advantages import group_advantages, overlong_penalty, widest
from gtalign_jax.config import Config
from gtalign_jax.data import batches
from gtalign_jax.evaluate import suites
from gtalign_jax.parallel import distributed, programs, sharding
from gtalign_jax.parallel.programs import Program
from gtalign_jax.rewards import normalize
from gtalign_jax.sections import GRPOConfig
from gtalign_jax.train import bench, checkpoint, numbers
from gtalign_jax.train.phase import Late, Phase
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


def chosen(config: Config, reward_PGC: np.ndarray) -> np.ndarray:
  """The rows that are trained on, bool_PG."""
  if not config.grpo.train_samples:
    return np.ones(reward_PGC.shape[:2], bool)
  return widest(numbers.scalar(config, reward_PGC), config.grpo.train_samples)


def score_program(plan: update.Plan) -> Program:
  """(trainable, frozen, slice) -> log-probability of each completion token, [B, C] f32."""
  return Program("score", lambda *args: update.score(plan, *args)[0])


def _rated(config: GRPOConfig, reward: Any, valid_PG: Any, mask_BC: Any, stopped_B: Any):
  """Advantages [B], and the tokens that the loss counts [B, C]."""
  advantage_PG = group_advantages(
    reward, valid_PG, kind=config.advantage, weights=config.gdpo_weights
  )
  if config.mask_truncated:
    mask_BC = mask_BC & stopped_B[:, None]
  return advantage_PG.reshape(-1), mask_BC


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
    self._rated = Program("advantages", functools.partial(_rated, config.grpo))
    self._widths = slices.widths(config.grpo.length_buckets, config.rollout.max_new_tokens)
    self._take = Program("take", slices.take, static_argnames="width")
    self._gflops = bench.matmul_gflops(config.policy.dtype)
    self._warm = False

  def compile(self, state: TrainState) -> None:
    """Makes all programs of a step: every prompt bucket that occurs, every width of a slice."""
    run, config = self.run, self.run.config
    params = run.decode_params(state.params)
    buckets = {batches.bucket(len(ids), self.actor.buckets) for ids in run.train_set.ids}
    more = config.grpo.prompts_per_step > self.actor.width

    def decoding(bucket: int) -> None:
      for refilled in (False, True) if more else (False,):
        suites.compile_bucket(self.actor, params, bucket, run.train_key, refilled)

    tasks: list[Callable[[], None]] = []
    for bucket in sorted(buckets):
      tasks.append(functools.partial(decoding, bucket))
      tasks += [
        functools.partial(self._compile_slice, state, bucket, width) for width in self._widths
      ]
    programs.together(tasks)

  def _compile_slice(self, state: TrainState, bucket: int, width: int) -> None:
    config, frozen = self.run.config, self.run.held.frozen
    P, G, C = self.config.prompts_per_step, config.rollout.group_size, config.rollout.max_new_tokens
    rows = sharding.sharding(self.run.mesh, ("batch",))

    def zeros(dtype: Any, *shape: int) -> jax.Array:
      return distributed.to_device(np.zeros(shape, dtype), rows)

    roles = (2,) if self.config.advantage == "gdpo" else ()
    tokens_BC, mask_BC, logp_BC = (zeros(dtype, P * G, C) for dtype in (np.int32, bool, np.float32))
    given = zeros(np.float32, P, G, *roles), zeros(bool, P, G)
    advantage_B, mask_BC = self._rated.compile(*given, mask_BC, zeros(bool, P * G))
    prompts = suites.to_device(self.run.mesh, [], [], P, (bucket,))
    batch = TrainBatch(prompts, tokens_BC, mask_BC, advantage_B, logp_BC, None, None)
    p, g = slices.size(self.config, G)
    index_p, index_pg = np.zeros(p, np.int32), np.zeros((p, g), np.int32)
    put = self.actor.sampler.put
    part = self._take.compile(batch, put(index_p), put(index_pg), width=width)
    if self.reference is not None:
      ref_logp_BC = self._score.compile(self.reference, frozen, part)
      part = part._replace(ref_logp_BC=ref_logp_BC)
    old_logp_BC = self.phase.updater.compile(state, frozen, part)
    if self.config.inner_epochs > 1:
      self.phase.updater.compile(state, frozen, part._replace(old_logp_BC=old_logp_BC))

  @contextlib.contextmanager
  def _phase(self, name: str) -> Iterator[None]:
    """Books the time inside; device work is guarded once a step has made what is small."""
    guard = programs.guarded() if self._warm and name != "reward" else contextlib.nullcontext()
    with self.run.clock.phase(name), guard:
      yield

  def batch(
    self, sampled: suites.Sampled, reward_PGC: np.ndarray, chosen_PG: np.ndarray
  ) -> TrainBatch:
    """The sampled rows on the mesh, advantages of the chosen ones computed on the device over [P, G]."""
    valid_PG = np.isfinite(reward_PGC).all(-1) & chosen_PG
    if self.config.advantage != "gdpo":
      reward_PGC = reward_PGC[..., 0]
    rows = sharding.sharding(self.run.mesh, ("batch",))
    given = distributed.to_device((reward_PGC.astype(np.float32), valid_PG), (rows, rows))
    rollout = sampled.rollout
    advantage_B, mask_BC = self._rated(*given, rollout.mask_BC, rollout.stopped_B)
    return TrainBatch(
      sampled.prompts, rollout.tokens_BC, mask_BC, advantage_B, rollout.logp_BC, None, None
    )

  def slices(
    self, sampled: suites.Sampled, reward_PGC: np.ndarray, chosen_PG: np.ndarray
  ) -> tuple[list[TrainBatch], float]:
    """The optimiser batch in slices of like length, with reference log-probabilities where KL is asked for.

    Also the share of padding among the trained completion tokens.
    """
    config, put = self.config, self.actor.sampler.put
    batch = self.batch(sampled, reward_PGC, chosen_PG)
    count_B = np.asarray([row["completion_tokens"] for row in sampled.rows])
    count_PG = count_B.reshape(-1, self.run.config.rollout.group_size)
    cuts = slices.cut(count_PG, config.micro_prompts, config.micro_samples, self._widths, chosen_PG)
    out = [
      self._take(batch, put(each.prompt_p), put(each.sample_pg), width=each.width) for each in cuts
    ]
    if self.reference is not None:
      frozen = self.run.held.frozen
      out = [x._replace(ref_logp_BC=self._score(self.reference, frozen, x)) for x in out]
    return out, slices.padding(count_PG, cuts)

  def step(self, state: TrainState, step: int) -> TrainState:
    """One step of the algorithm, whose metrics are told later; `step` counts from 0."""
    run, epochs = self.run, self.config.inner_epochs
    began = time.perf_counter()
    values = {"lr": self.phase.learning_rate((step + 1) * epochs - 1)}
    records, ids = batches.batch_at(
      run.train_set, run.config.data, self.config.prompts_per_step, step
    )
    with self._phase("rollout"):
      params = run.decode_params(state.params)
    sampled = suites.sample_and_score(
      self.actor,
      params,
      records,
      ids,
      run.train_key,
      step,
      phase=self._phase,
      under_way=self.phase.tell,  # of the step before
    )
    del params  # the update needs the room
    suites.check_verdicts(sampled.rows, run.config.rewards, f"step {step + 1}")
    reward_PGC = rewards(run, sampled)
    run.writer.samples(step + 1, sampled.rows)
    values |= numbers.rewards(run.config, sampled, reward_PGC) | run.judge.statistics()
    cutting = time.perf_counter()
    with self._phase("update"):
      chosen_PG = chosen(run.config, reward_PGC)
      parts, padding = self.slices(sampled, reward_PGC, chosen_PG)
      if self.reference is not None:
        jax.block_until_ready([part.ref_logp_BC for part in parts])
      training = time.perf_counter()
      for epoch in range(epochs):
        state, metrics, logps = self.phase.updater(state, run.held.frozen, parts)
        if epoch == 0:
          parts = [x._replace(old_logp_BC=old) for x, old in zip(parts, logps, strict=True)]

    def finish(found: dict[str, float]) -> dict[str, Any]:
      seconds = {"logprob": training - cutting, "update": time.perf_counter() - training}
      work = numbers.work(run, sampled, chosen_PG, seconds, self._gflops, self.phase.progress)
      return found | values | work | {"perf/padding_frac": padding}

    self.phase.tell_later(Late(step + 1, began, metrics, finish))
    self._warm = True
    return state

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
      if self.phase.resume_step < self.config.steps:
        with run.clock.phase("compile"):
          self.compile(state)
      for step in range(self.phase.resume_step, self.config.steps):
        state = self.step(state, step)
        last = step + 1 == self.config.steps
        if last or (every and (step + 1) % every == 0):
          self.phase.tell()
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
