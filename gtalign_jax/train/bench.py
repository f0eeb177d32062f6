"""Throughput of rollout and update on fixed work: P prompts x G samples, every length given."""

from __future__ import annotations

import resource
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax import models
from gtalign_jax.algorithms.update import update
from gtalign_jax.config import Config, vary
from gtalign_jax.models.flops import matmul_gflops, uniform_flops
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.programs import Executables, abstract
from gtalign_jax.rollout import engine as engines
from gtalign_jax.rollout.engine import QUIET
from gtalign_jax.rollout.generate import DecodeInputs
from gtalign_jax.sections import MeshConfig
from gtalign_jax.train import programs
from gtalign_jax.train import state as states
from gtalign_jax.train.clock import compiling
from gtalign_jax.train.setup import bare, training_engine
from gtalign_jax.types import BLOCKS, Experience, Prompts, Rollout


class Work(NamedTuple):
  """What one step does. prompts: P. micro_prompts: prompts per gradient slice."""

  prompts: int
  group_size: int
  prompt_tokens: int
  new_tokens: int
  micro_prompts: int
  dtype: str
  remat: str


def config_of(spec: str, work: Work) -> Config:
  """The config whose steps do `work`; nothing ends a row but its budget."""
  changes = {
    "policy.dtype": work.dtype,
    "policy.remat": work.remat,
    "rollout.group_size": work.group_size,
    "rollout.max_new_tokens": work.new_tokens,
    "rollout.prompt_buckets": (max(work.prompt_tokens, 256),),
    "rollout.segment": work.new_tokens,
    "rollout.stop": (),
    "grpo.prompts_per_step": work.prompts,
    "grpo.micro_prompts": work.micro_prompts,
    "grpo.length_buckets": (work.new_tokens,),
  }
  return vary(Config(model=spec), changes)


class _Bench:
  """One model on one work: its state, and the programs of a training step."""

  def __init__(self, spec: str, work: Work):
    self.work, self.config = work, config_of(spec, work)
    mesh = meshes.make(MeshConfig(), jax.devices()[:1])
    policy = models.load(spec, dtype="float32", mesh=mesh)
    self.setup = bare(self.config, policy.config, policy.tokenizer, mesh)
    self.optimizers = states.make_optimizers(self.config)
    self.state = states.fresh(self.setup, self.optimizers, policy.params)
    self.key = jax.device_put(jax.random.key(0), sharding.replicated(mesh))
    self.compiled = Executables(mesh)
    self.engine = training_engine(self.setup, self.compiled)
    self.prompts = self._prompts()

  def compile(self) -> None:
    """Compiles the programs of a step."""
    state, bucket = abstract(self.state), self.work.prompt_tokens
    params = states.decodable(self.setup, state.params)
    self.compiled.compile(
      [
        states.decode_table(self.setup, state.params),
        engines.table(self.engine, params, bucket, refilled=False),
        *programs.grpo_tables(self.setup, self.optimizers, state, [bucket], [self.work.new_tokens]),
      ]
    )

  def _prompts(self) -> Prompts:
    rng, work = np.random.default_rng(0), self.work
    shape = (work.prompts, work.prompt_tokens)
    local = Prompts(
      rng.integers(10, self.setup.arch.vocab_size - 10, shape).astype(np.int32),
      np.full(work.prompts, work.prompt_tokens, np.int32),
      np.arange(work.prompts, dtype=np.int32),
    )
    rows = sharding.rows(self.setup.mesh)
    return distributed.to_device(local, Prompts(rows, rows, rows))

  def step(self, number: int) -> dict[str, float]:
    """One rollout and one update; seconds by phase."""
    work, compiled = self.work, self.compiled
    params = states.decode_params(self.setup, compiled, self.state.params)
    alone = sharding.replicated(self.setup.mesh)
    step, enough = distributed.to_device((np.int32(number), np.int32(work.prompts)), (alone, alone))
    inputs = DecodeInputs(params, None, self.setup.stop_table, self.key, step)
    shape = (work.prompts, work.prompt_tokens, work.new_tokens)
    jax.block_until_ready(params)
    began = time.perf_counter()
    context, state = jax.block_until_ready(compiled["prefill", *shape](inputs, self.prompts))
    prefilled = time.perf_counter()
    inputs = inputs._replace(layers=compiled["layers"](params))
    state = jax.block_until_ready(compiled["decode", *shape](inputs, context, state, enough))
    decoded = time.perf_counter()
    experience = self._experience(state.rollout)
    del context, state, params, inputs  # the update needs the room
    began_update = time.perf_counter()
    self.state, metrics = update(self.state, experience, self.setup.recipe, compiled, 0, QUIET)
    jax.block_until_ready((self.state, metrics))
    ended = time.perf_counter()
    return {
      "prefill_s": prefilled - began,
      "decode_s": decoded - prefilled,
      "rollout_s": decoded - began,
      "update_s": ended - began_update,
      "step_s": ended - began,
    }

  def _experience(self, rollout: Rollout) -> Experience:
    """As if rewards had been given: advantages of +1 and -1 in turn, every row trained on."""
    work, rows = self.work, sharding.rows(self.setup.mesh)
    B, shape = work.prompts * work.group_size, (work.prompts, work.group_size)
    advantage_B = np.tile(np.asarray([1.0, -1.0], np.float32), B // 2 + 1)[:B]
    return Experience(
      prompts=self.prompts,
      rollout=rollout,
      rows=[],
      count_PG=np.full(shape, work.new_tokens),
      block_PGK=np.full((*shape, len(BLOCKS)), [work.new_tokens, 0, 0, 0]),
      block_BC=distributed.to_device(np.zeros((B, work.new_tokens), np.int8), rows),
      trained_PG=np.ones(shape, bool),
      valid_PG=np.ones(shape, bool),
      counted_PG=np.ones(shape, bool),
      advantage=distributed.to_device(advantage_B, rows),
      mask_BC=rollout.mask_BC,
    )


def run(spec: str, work: Work, repeats: int) -> dict[str, Any]:
  """Measures `repeats` steps after one warm-up step; medians (INTERFACES: `gtalign bench`)."""
  bench = _Bench(spec, work)
  with compiling() as compile_s, jax.set_mesh(bench.setup.mesh):
    bench.compile()
    bench.step(0)
  with jax.set_mesh(bench.setup.mesh):
    steps = [bench.step(1 + each) for each in range(repeats)]
  median = {name: float(np.median([step[name] for step in steps])) for name in steps[0]}
  tokens = work.prompts * work.group_size * work.new_tokens
  rate = matmul_gflops(work.dtype)
  flops = uniform_flops(bench.setup.arch, *work[:4])
  return {
    "rollout_tokens_per_s": tokens / median["rollout_s"],
    "decode_tokens_per_s": (tokens - tokens // work.new_tokens) / median["decode_s"],
    **median,
    "update_tokens_per_s": tokens / median["update_s"],
    "compile_s": sum(compile_s),
    "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "padding_frac": 0.0,
    "matmul_gflops": rate,
    "update_utilisation": flops / median["update_s"] / 1e9 / rate,
    "work": work._asdict(),
    "repeats": repeats,
    "steps": steps,
  }
