"""The resources of one run, opened once and shared by its phases."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import Any

import jax

from gtalign_jax.algorithms import update
from gtalign_jax.config import Config
from gtalign_jax.data import batches, prompts, sources
from gtalign_jax.evaluate import suites
from gtalign_jax.files import replace
from gtalign_jax.models import decoder, lora
from gtalign_jax.parallel import distributed, mesh, sharding
from gtalign_jax.parallel.programs import Program
from gtalign_jax.progress import progress
from gtalign_jax.rewards import judges
from gtalign_jax.rollout import generate, stop
from gtalign_jax.rollout.sampler import Sampler
from gtalign_jax.train import metrics, state, timing

log = logging.getLogger(__name__)


class Run:
  """A loaded policy with its data, judge, sampler, writer and clock; close it (or use `with`)."""

  def __init__(self, config: Config, workdir: Path, interrupts: distributed.Interrupts):
    self.config, self.workdir, self.interrupts = config, workdir, interrupts
    self.main = distributed.is_main()
    self.clock = timing.Clock(workdir, self.main)
    with self.clock.phase("load"):
      self.mesh = mesh.make(config.mesh)
      self.held = state.hold(config, self.mesh)
      self.train_set = self._encode(config.data.train_split)
      self.test_set = batches.held_out(
        self._encode(config.data.eval_split), config.eval.prompts, config.data.seed
      )
      self.judge = judges.make(config.rewards.judge, workdir)
    self.writer = metrics.Writer(workdir, config.log, main=self.main)
    # one key for training, one for evaluation, so that evaluating more often changes no sample
    alone = sharding.replicated(self.mesh)
    keys = jax.jit(
      lambda: tuple(jax.random.split(jax.random.key(config.seed))), out_shardings=alone
    )
    self.train_key, self.eval_key = keys()
    table = stop.stop_table(self.held.tokenizer, config.rollout.stop, self.held.arch.vocab_size)
    self.stop_table = distributed.to_device(table, alone)

  def _encode(self, split: str) -> prompts.Encoded:
    records = sources.load(self.config.data, split)
    encoded = prompts.encode(records, self.held.tokenizer, self.config.data)
    if encoded.left_out:
      limit = self.config.data.max_prompt_tokens
      log.info("%s: left out %d prompts over %d tokens", split, encoded.left_out, limit)
    return encoded

  def __enter__(self) -> Run:
    return self

  def __exit__(self, *_: object) -> None:
    self.writer.close()
    self.judge.close()
    self.clock.close()

  def actor(self, width: int, **changes: Any) -> suites.Actor:
    """Something that samples and scores `width` prompts at once; `changes` to the sampling."""
    held = self.held
    pad = held.tokenizer.pad_token_id
    plan = generate.sampling_of(
      self.config.rollout,
      held.eos_ids,
      held.eos_ids[0] if pad is None else pad,
      self.config.policy.dtype,
      **changes,
    )
    return suites.Actor(
      held.tokenizer,
      Sampler(held.arch, plan, self.stop_table),
      self.config.rewards,
      self.judge,
      self.config.rollout.prompt_buckets,
      width,
      self.mesh,
    )

  @functools.cached_property
  def evaluator(self) -> suites.Actor:
    """The actor of evaluations; it decodes as many rows at once as training does."""
    shards = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
    rows = lanes(self.config) * self.config.rollout.group_size
    width = max(rows // self.config.eval.group_size, shards)
    width = -(-min(width, self.config.eval.prompts) // shards) * shards
    return self.actor(
      width, group_size=self.config.eval.group_size, temperature=self.config.eval.temperature
    )

  @functools.cached_property
  def decode_params(self):
    """Trainable parameters -> what decoding reads (see `decode_program`)."""
    program = decode_program(self.config, self.held)
    if program is None:
      return lambda trainable: trainable
    return functools.partial(program, self.held.frozen)

  def plan(self) -> update.Plan:
    """The static part of the updates of this run."""
    return update_plan(self.config, self.held.arch)

  def evaluate_once(self, name: str, trainable: Any) -> None:
    """Evaluates a policy from before GRPO, unless an earlier start of this run has."""
    # the decision is the main process's: only it knows the file, and all must take the same path
    if not distributed.agree(self.writer.evaluated(0, name)):
      self.evaluate(name, trainable, 0)

  def evaluate(self, name: str, trainable: Any, step: int) -> dict[str, float]:
    """Evaluates a policy on the held-out prompts; writes `eval/<name>.jsonl` and a metrics line.

    Raises RunFailure, and writes nothing, where too few rows have a verdict.
    """
    with self.clock.phase("evaluation"):
      with progress(f"eval {name}") as advance, jax.set_mesh(self.mesh):
        params = self.decode_params(trainable)
        with self.clock.phase("compile"):
          suites.compile(self.evaluator, params, self.test_set.ids, self.eval_key)
        rows = suites.evaluate(
          self.evaluator,
          params,
          self.test_set.records,
          self.test_set.ids,
          self.eval_key,
          on_batch=advance,
        )
      suites.check_verdicts(rows, self.config.rewards, f"evaluation of {name} at step {step}")
      summary = suites.summary(rows)
      if self.main:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        replace(self.workdir / "eval" / f"{name}.jsonl", lines)
      self.writer.write("eval", step, {"policy": name} | summary)
    return summary


def lanes(config: Config) -> int:
  """Prompts that training decodes at once."""
  return config.rollout.prompts_at_once or config.grpo.prompts_per_step


def decode_program(config: Config, held: state.Held):
  """Program (frozen, trainable) -> what decoding reads: joined, cast, gathered over fsdp once.

  None where the trainable parameters are that already.
  """
  dtype = config.policy.dtype
  if held.mesh.size == 1 and held.frozen is None and dtype == config.policy.param_dtype:
    return None
  names = sharding.without(decoder.logical_axes(held.arch), "fsdp")

  def prepare(frozen, trainable):
    params = trainable
    if frozen is not None:
      params = lora.merge(frozen, trainable, config.policy)
    return jax.tree.map(lambda x: x.astype(dtype), params)

  places = sharding.tree_shardings(held.mesh, names)
  return Program("decode params", prepare, out_shardings=places)


def update_plan(config: Config, arch: Any) -> update.Plan:
  """The static part of the updates of a run."""
  return update.Plan(
    arch=arch,
    dtype=config.policy.dtype,
    remat=config.policy.remat,
    temperature=config.rollout.temperature,
    max_tokens=config.rollout.max_new_tokens,
    join=functools.partial(state.joined, config=config.policy),
  )
