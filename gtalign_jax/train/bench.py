"""Throughput of rollout and update on fixed work: P prompts x G samples, every length given."""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax import models
from gtalign_jax.algorithms import optimizer, slices, update
from gtalign_jax.config import GRPOConfig, OptimConfig, RolloutConfig
from gtalign_jax.rollout import generate, stop
from gtalign_jax.rollout.sampler import Sampler
from gtalign_jax.train import timing
from gtalign_jax.types import Prompts, Rollout, TrainBatch, TrainState


class Work(NamedTuple):
  """What one step does. prompts: P. micro_prompts: prompts per gradient slice."""

  prompts: int
  group_size: int
  prompt_tokens: int
  new_tokens: int
  micro_prompts: int
  dtype: str
  remat: str


def matmul_gflops(dtype: str, tries: int = 5) -> float:
  """Best rate of a square matmul in this process, summed in f32, 1e9 FLOP/s."""
  # 2048 keeps a CPU busy for 0.1 s; an H100 is through in the time that a call takes (134 TFLOP/s, bf16)
  size = 2048 if jax.default_backend() == "cpu" else 8192
  x = jnp.ones((size, size), dtype)
  product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
  product(x, x).block_until_ready()
  best = min(_seconds(lambda: product(x, x)) for _ in range(tries))
  return 2 * size**3 / best / 1e9


def model_flops(arch: Any, params: Any, length_P: np.ndarray, count_PG: np.ndarray) -> float:
  """Model FLOPs of one update: 6 per weight and token it meets, and 12 per attended pair and width.

  length_P: prompt tokens. count_PG: completion tokens, at least 1. Prompts meet the layers once,
  completions the layers and the head; recomputation is not counted.
  """
  layers = sum(x.size for x in jax.tree.leaves(params["layers"]) if x.ndim > 2)
  head = arch.vocab_size * arch.width
  fed_PG, length_P1 = np.asarray(count_PG, float) - 1, np.asarray(length_P, float)[:, None]
  pairs = (length_P1 * (length_P1 + 1) / 2).sum() + (fed_PG * (length_P1 + (fed_PG + 1) / 2)).sum()
  attention = 12 * arch.num_layers * arch.num_heads * arch.head_dim * pairs
  tokens = length_P1.sum() + fed_PG.sum()
  return float(6 * layers * tokens + 6 * head * np.sum(count_PG) + attention)


def update_flops(arch: Any, params: Any, work: Work) -> float:
  """`model_flops` of one update of `work`."""
  length_P = np.full(work.prompts, work.prompt_tokens)
  count_PG = np.full((work.prompts, work.group_size), work.new_tokens)
  return model_flops(arch, params, length_P, count_PG)


def _seconds(call: Callable[[], Any]) -> float:
  began = time.perf_counter()
  jax.block_until_ready(call())
  return time.perf_counter() - began


def _prompts(arch: Any, work: Work) -> Prompts:
  rng = np.random.default_rng(0)
  shape = (work.prompts, work.prompt_tokens)
  return Prompts(
    jnp.asarray(rng.integers(10, arch.vocab_size - 10, shape), jnp.int32),
    jnp.full(work.prompts, work.prompt_tokens, jnp.int32),
    jnp.arange(work.prompts, dtype=jnp.int32),
  )


def _slices(work: Work, prompts: Prompts, rollout: Rollout) -> list[TrainBatch]:
  rows = work.prompts * work.group_size
  advantage_B = jnp.tile(jnp.asarray([1.0, -1.0]), rows // 2 + 1)[:rows]
  batch = TrainBatch(
    prompts, rollout.tokens_BC, rollout.mask_BC, advantage_B, rollout.logp_BC, None, None
  )
  count_PG = np.full((work.prompts, work.group_size), work.new_tokens)
  cuts = slices.cut(count_PG, work.micro_prompts, 0, [work.new_tokens])
  take = jax.jit(slices.take, static_argnames="width")
  return [take(batch, each.prompt_p, each.sample_pg, width=each.width) for each in cuts]


class _Programs:
  """Sampler and updater of one model on one work."""

  def __init__(self, spec: str, work: Work):
    policy = models.load(spec, dtype="float32")
    self.arch, self.work = policy.config, work
    config = RolloutConfig(
      group_size=work.group_size, max_new_tokens=work.new_tokens, segment=work.new_tokens
    )
    plan = generate.sampling_of(config, (), policy.eos_ids[0], work.dtype)  # no EOS: fixed work
    table = stop.stop_table(policy.tokenizer, (), self.arch.vocab_size)
    self.sampler = Sampler(self.arch, plan, table)
    tx = optimizer.make(OptimConfig(lr=1e-6), 100)
    self.updater = update.Updater(
      update.Plan(self.arch, work.dtype, work.remat, 1.0, work.new_tokens, lambda _, own: own),
      GRPOConfig(),
      tx,
    )
    self.state = TrainState(jnp.int32(0), policy.params, tx.init(policy.params), jnp.int32(0))
    self.prompts, self.key = _prompts(self.arch, work), jax.random.key(0)

  def step(self, number: int) -> dict[str, float]:
    """One rollout and one update; seconds by phase."""
    params, step = self.state.params, jnp.int32(number)
    if self.work.dtype != "float32":
      params = jax.tree.map(lambda x: x.astype(self.work.dtype), params)
    began = time.perf_counter()
    context, state = jax.block_until_ready(
      self.sampler.prefill(params, self.prompts, self.key, step)
    )
    prefilled = time.perf_counter()
    rollout = jax.block_until_ready(self.sampler.decode(params, self.key, step, context, state))
    decoded = time.perf_counter()
    del context, state, params
    parts = _slices(self.work, self.prompts, rollout)
    self.state, metrics, _ = self.updater(self.state, None, parts)
    jax.block_until_ready((self.state, metrics))
    ended = time.perf_counter()
    return {
      "prefill_s": prefilled - began,
      "decode_s": decoded - prefilled,
      "rollout_s": decoded - began,
      "update_s": ended - decoded,
      "step_s": ended - began,
    }


def run(spec: str, work: Work, repeats: int) -> dict[str, Any]:
  """Measures `repeats` steps after one warm-up step; medians (INTERFACES: `gtalign bench`)."""
  programs = _Programs(spec, work)
  with timing.compiling() as compile_s:
    programs.step(0)
  steps = [programs.step(1 + each) for each in range(repeats)]
  median = {name: float(np.median([step[name] for step in steps])) for name in steps[0]}
  tokens = work.prompts * work.group_size * work.new_tokens
  rate = matmul_gflops(work.dtype)
  flops = update_flops(programs.arch, programs.state.params, work)
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
