"""Compiles every program of a run for a slice of devices that need not exist, and adds up its memory.

Nothing is loaded or allocated: parameters, optimizer state and batches are shapes with shardings, and
the programs are those that training itself builds (train/run.py, rollout/generate.py,
algorithms/update.py). Longest prompt bucket, full decode budget and full slices throughout.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from gtalign_jax.algorithms import optimizer, slices, update
from gtalign_jax.algorithms.loss import totals
from gtalign_jax.config import Config
from gtalign_jax.evaluate import suites
from gtalign_jax.models import decoder, lora
from gtalign_jax.parallel import collectives, programs, sharding
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.topology import Topology
from gtalign_jax.rollout import generate
from gtalign_jax.rollout.sampler import Sampler
from gtalign_jax.train import bench, grpo, run, state
from gtalign_jax.types import Prompts, TrainBatch, TrainState

log = logging.getLogger(__name__)
GIB = 1 << 30
# "Used 24.1G of 15.75G hbm" or "required for HLO temporaries (24.1G) exceeds available HBM (15.75G)"
_OVERRUN = re.compile(r"(?:Used |\()([\d.]+)([KMG]?)(?: of|\) exceeds)")


class Shapes(NamedTuple):
  """A run as shapes: what is held, the train state, and what decoding reads."""

  config: Config
  held: state.Held
  state: TrainState
  decode: Any
  reference: Any  # policy that KL is measured against; None without KL
  tx: Any
  updates: update.Plan


def _put(tree: Any, places: Any) -> Any:
  return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, places)


def _hold(config: Config, arch: Any, mesh: Any) -> state.Held:
  """`state.hold` without weights."""
  state.check_mesh(config, arch, mesh)
  policy = config.policy
  places = sharding.tree_shardings(mesh, decoder.logical_axes(arch))
  frozen, trainable = None, _put(decoder.abstract(arch, policy.param_dtype), places)
  if policy.lora_rank:
    frozen = trainable
    places = sharding.tree_shardings(mesh, lora.logical_axes(arch, policy))
    trainable = _put(jax.eval_shape(lambda: lora.init(arch, jax.random.key(0), policy)), places)
  return state.Held(arch, None, (), frozen, trainable, places, mesh)


def shapes(config: Config, arch: Any, mesh: Any) -> Shapes:
  """The run of `config` with a model of `arch` on `mesh`. Raises BadInput as training would."""
  held = _hold(config, arch, mesh)
  tx = optimizer.make(config.optim if config.grpo.steps else config.sft.optim, 1)
  places = state.state_shardings(held, tx)
  scalar: Any = jax.ShapeDtypeStruct((), jnp.int32)
  opt = jax.eval_shape(tx.init, held.trainable)
  whole = _put(TrainState(scalar, held.trainable, opt, scalar), places)
  program = run.decode_program(config, held)
  decode = held.trainable
  if program is not None:
    names = sharding.without(decoder.logical_axes(arch), "fsdp")
    params = decoder.abstract(arch, config.policy.dtype)
    decode = _put(params, sharding.tree_shardings(mesh, names))
  reference = held.trainable if config.grpo.steps and config.grpo.kl_coef else None
  plan = run.update_plan(config, arch)
  return Shapes(config, held, whole, decode, reference, tx, plan)


def device_bytes(tree: Any) -> int:
  """Bytes of a tree of sharded shapes on one device."""
  return sum(
    int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )


def _rows(mesh: Any, shape: tuple[int, ...], dtype: Any) -> Any:
  """Rows over the mesh; a slice of too few rows is on every device, as slices.take leaves it."""
  split = shape[0] % (mesh.shape["data"] * mesh.shape["fsdp"]) == 0
  return jax.ShapeDtypeStruct(
    shape, dtype, sharding=sharding.sharding(mesh, ("batch",) if split else ())
  )


def _prompts(mesh: Any, count: int, tokens: int) -> Prompts:
  row = _rows(mesh, (count,), jnp.int32)
  return Prompts(_rows(mesh, (count, tokens), jnp.int32), row, row)


def _slice(mesh: Any, prompts: Prompts, rows: int, width: int, **more: bool) -> TrainBatch:
  """A gradient slice; `more`: which optional log-probabilities it carries."""
  tokens, logp = _rows(mesh, (rows, width), jnp.int32), _rows(mesh, (rows, width), jnp.float32)
  optional: dict[str, Any] = {
    f"{name}_logp_BC": logp if there else None for name, there in more.items()
  }
  mask, advantage = _rows(mesh, (rows, width), jnp.bool_), _rows(mesh, (rows,), jnp.float32)
  return TrainBatch(prompts, tokens, mask, advantage, **optional)


class _Compiler:
  """Compiles programs one after the other and keeps what each costs."""

  def __init__(self, mesh: Any, hbm_gib: float | None):
    self.mesh, self.hbm_gib, self.devices = mesh, hbm_gib, mesh.size
    self.programs: dict[str, dict[str, Any]] = {}

  def __call__(self, name: str, program: Any, *args: Any, flops: float, beside: Any) -> Any:
    """Compiles `program` for `args`; returns it, or None where the compiler found no room.

    flops: model FLOPs over all devices. beside: arrays alive on the devices that are no arguments.
    """
    began = time.perf_counter()
    found: dict[str, Any] = {"resident_gib": device_bytes(beside) / GIB}
    compiled = None
    try:
      with jax.set_mesh(self.mesh):
        compiled = program.lower(*args).compile()
    except jax.errors.JaxRuntimeError as error:
      used = _OVERRUN.search(str(error))
      if "RESOURCE_EXHAUSTED" not in str(error) or not used:
        raise
      scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(used[2], 1)
      found |= {"error": "does not fit", "total_gib": float(used[1]) * scale / GIB}
    found["compile_s"] = time.perf_counter() - began
    if compiled is not None:
      found |= _memory(compiled) | {"collectives": collectives.count(compiled.as_text())}
    found |= {"gflops": flops / 1e9 / self.devices}
    self.programs[name] = found
    log.info("%s: %.2f GiB, compiled in %.0f s", name, found["total_gib"], found["compile_s"])
    return compiled

  def result(self, topology: Topology) -> dict[str, Any]:
    """INTERFACES `plan`."""
    peak = max(each["total_gib"] + each["resident_gib"] for each in self.programs.values())
    whole = not any("error" in each for each in self.programs.values())
    return {
      "topology": topology.name,
      "devices": self.devices,
      "hbm_gib": self.hbm_gib,
      "fits": whole and (self.hbm_gib is None or peak <= self.hbm_gib),
      "programs": self.programs,
      "peak_gib": peak,
    }


def _memory(compiled: Any) -> dict[str, float]:
  """GiB on one device; the total counts buffers that an argument shares with a result once."""
  found = compiled.memory_analysis()
  parts = {
    "argument_gib": found.argument_size_in_bytes / GIB,
    "output_gib": found.output_size_in_bytes / GIB,
    "temp_gib": found.temp_size_in_bytes / GIB,
    "alias_gib": found.alias_size_in_bytes / GIB,
  }
  total = parts["argument_gib"] + parts["output_gib"] + parts["temp_gib"] - parts["alias_gib"]
  return parts | {"total_gib": total}


def _flops(s: Shapes, prompts: int, group: int, tokens: int, new: int) -> float:
  """Model FLOPs of one update of so much work (bench.update_flops); a forward pass is a third."""
  params = s.held.trainable if s.held.frozen is None else s.held.frozen
  work = bench.Work(prompts, group, tokens, new, 0, s.config.policy.dtype, s.config.policy.remat)
  return bench.update_flops(s.held.arch, params, work)


def _rollout(compile_: _Compiler, s: Shapes, transposed: bool) -> None:
  """Programs of sampling: parameters for it, prefill, layers for decoding, one decode segment."""
  config, held, mesh = s.config, s.held, s.held.mesh
  P, T = run.lanes(config), config.rollout.prompt_buckets[-1]
  G, C = config.rollout.group_size, config.rollout.max_new_tokens
  learned = (s.state, s.reference, held.frozen)
  program = run.decode_program(config, held)
  if program is not None:
    others = (s.state._replace(params=None), s.reference)
    compile_("decode_params", program, held.frozen, held.trainable, flops=0.0, beside=others)
  elif held.frozen is None:
    learned = (s.state._replace(params=None), s.reference, None)  # decoding reads the state itself
  # the ids that end a row change no shape and no memory
  plan = generate.sampling_of(config.rollout, (0,), 0, config.policy.dtype, transposed=transposed)
  if transposed:  # caches grow from segment to segment; the last, largest ones are what counts
    plan = plan._replace(segment=plan.budget)
  states = sum(len(stop.encode()) for stop in config.rollout.stop) + 2
  table = np.zeros((states, held.arch.vocab_size), np.int16)
  sampler = Sampler(held.arch, plan, table)
  alone = sharding.replicated(mesh)
  key = jax.eval_shape(lambda: jax.random.key(0))
  fixed = _put((table, key, jax.ShapeDtypeStruct((), jnp.int32)), (alone,) * 3)
  prompts = _prompts(mesh, P, T)
  prefill_flops = _flops(s, P, 1, T, 1) / 3
  prefill = compile_(
    "prefill", sampler.start, s.decode, prompts, *fixed, flops=prefill_flops, beside=learned
  )
  if prefill is None:
    return
  context, begun = programs.results(prefill)
  prepared = compile_(
    "layers", sampler.prepare, s.decode, flops=0.0, beside=(learned, context, begun)
  )
  layers = programs.results(prepared)
  decode_flops = _flops(s, P, G, T, C) - _flops(s, P, G, T, 1)
  compile_(
    "decode", sampler.segment, s.decode, layers, *fixed, context, begun,
    flops=decode_flops / 3 / max(C - 1, 1) * min(plan.segment, C),
    beside=(learned, s.decode["layers"]),
  )  # fmt: skip
  if config.grpo.prompts_per_step > P:
    few = suites.at_once(P, mesh)
    source_P = _put(jax.ShapeDtypeStruct((P,), jnp.int32), alone)
    compile_(
      "refill", sampler.refill, s.decode, _prompts(mesh, few, T), source_P, *fixed, context, begun,
      flops=prefill_flops * few / P, beside=(learned, layers),
    )  # fmt: skip


def _update(compile_: _Compiler, s: Shapes) -> None:
  """Programs of the GRPO update: reference scores, gradients of one slice, optimizer."""
  config, held, mesh = s.config, s.held, s.held.mesh
  T, C = config.rollout.prompt_buckets[-1], config.rollout.max_new_tokens
  P, G = slices.size(config.grpo, config.rollout.group_size)
  flops, kl = _flops(s, P, G, T, C), s.reference is not None
  prompts = _prompts(mesh, P, T)
  if kl:
    part = _slice(mesh, prompts, P * G, C, sampler=True, old=False, ref=False)
    compile_(
      "score_reference", grpo.score_program(s.updates), s.reference, held.frozen, part,
      flops=flops / 3, beside=s.state,
    )  # fmt: skip
  old = config.grpo.inner_epochs > 1
  part = _slice(mesh, prompts, P * G, C, sampler=True, old=old, ref=kl)
  updater = update.Updater(s.updates, config.grpo, s.tx, state.state_shardings(held, s.tx))
  _gradients(compile_, "accumulate", s, updater, part, flops)
  _apply(compile_, s, updater)


def _sft(compile_: _Compiler, s: Shapes) -> None:
  """Gradients of one slice of the warm start, and its optimizer where GRPO's is not compiled."""
  config, mesh = s.config.sft, s.held.mesh
  shards = mesh.shape["data"] * mesh.shape["fsdp"]
  # one bucket of instructions, the rest rows: no split of the tokens takes more memory
  prefix = config.length_bucket
  width = -(-max(config.max_tokens - prefix, 1) // config.length_bucket) * config.length_bucket
  rows = config.micro_batch or config.batch_size
  part = _slice(
    mesh, _prompts(mesh, shards, prefix), rows, width, sampler=False, old=False, ref=False
  )
  places = state.state_shardings(s.held, s.tx)
  updater = update.Updater(s.updates, None, s.tx, places)
  s = s._replace(reference=None)
  flops = _flops(s, shards, rows // shards, prefix, width)
  _gradients(compile_, "sft_accumulate", s, updater, part, flops)
  if not s.config.grpo.steps:
    _apply(compile_, s, updater)


def _gradients(
  compile_: _Compiler, name: str, s: Shapes, updater: update.Updater, part: TrainBatch, flops: float
) -> None:
  whole = jax.eval_shape(totals, part.mask_BC)
  whole = _put(whole, jax.tree.map(lambda _: sharding.replicated(s.held.mesh), whole))
  grads = s.held.trainable
  compile_(
    name, updater.accumulate, grads, s.held.trainable, s.held.frozen, whole, part,
    flops=flops, beside=(s.state.opt_state, s.reference),
  )  # fmt: skip


def _apply(compile_: _Compiler, s: Shapes, updater: update.Updater) -> None:
  beside = (s.reference, s.held.frozen)
  compile_("apply", updater.apply, s.state, s.held.trainable, flops=0.0, beside=beside)


def plan(
  config: Config,
  arch: Any,
  topology: Topology,
  parts: Container[str] = ("sft", "rollout", "update"),
) -> dict[str, Any]:
  """Compiles the programs of `config` with a model of `arch`; returns INTERFACES `plan`.

  Memory is in GiB on one device. resident_gib: what the run holds beside a program's arguments.
  gflops: of matmuls and attention, on one device, recomputation not counted. Collectives of one
  execution, of one token in `decode`. Raises BadInput where mesh, model and batch do not go together.
  """
  mesh = meshes.make(config.mesh, topology.devices)
  run_shapes = shapes(config, arch, mesh)
  compile_ = _Compiler(mesh, topology.hbm_gib)
  with _no_cache():
    if config.sft.steps and "sft" in parts:
      _sft(compile_, run_shapes)
    if "rollout" in parts:
      _rollout(compile_, run_shapes, transposed=topology.devices[0].platform == "cpu")
    if config.grpo.steps and "update" in parts:
      _update(compile_, run_shapes)
  return compile_.result(topology)


@contextlib.contextmanager
def _no_cache() -> Iterator[None]:
  """Programs are compiled afresh: one read back has no memory analysis, one for TPU cannot be."""
  cached = jax.config.values["jax_enable_compilation_cache"]
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()  # jax decides once whether it has a cache
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", cached)
    compilation_cache.reset_cache()
