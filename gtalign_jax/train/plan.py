"""Compiles every program of a run for devices that need not exist, and adds up its memory.

Nothing is loaded or allocated: parameters, optimizer state and batches are shapes with shardings,
and the programs are the tables that training itself compiles. The longest prompt bucket, the full
decode budget and the widest slices stand for all others.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import time
from collections.abc import Container, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from gtalign_jax.config import Config
from gtalign_jax.models import decoding
from gtalign_jax.models.variants import Arch
from gtalign_jax.parallel import collectives
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.programs import Executables, Key, Program, Table, results, run
from gtalign_jax.parallel.topology import Topology
from gtalign_jax.rollout import engine as engines
from gtalign_jax.rollout.engine import Engine
from gtalign_jax.train import programs, setup, sft
from gtalign_jax.train import state as states
from gtalign_jax.train.setup import Setup
from gtalign_jax.train.state import Optimizers
from gtalign_jax.types import TrainState

log = logging.getLogger(__name__)
GIB = 1 << 30
# "Used 24.1G of 15.75G hbm" or "required for HLO temporaries (24.1G) exceeds available HBM
# (15.75G)"
_OVERRUN = re.compile(r"(?:Used |\()([\d.]+)([KMG]?)(?: of|\) exceeds)")
PHASES = ("sft", "rollout", "update", "evaluation")


def plan(
  config: Config, arch: Arch, topology: Topology, phases: Container[str] = PHASES
) -> dict[str, Any]:
  """Compiles the programs of `config` with a model of `arch`; returns INTERFACES `plan`.

  Memory is in GiB on one device. resident_gib: what the run holds beside a program's arguments.
  gflops: of matmuls and attention, on one device, recomputation not counted. Collectives of one
  execution, of one token in `decode`. Raises BadInput where mesh, model and batch do not go
  together.
  """
  mesh = meshes.make(config.mesh, topology.devices)
  found, params = setup.abstract(config, arch, mesh)
  planned: dict[Key, dict[str, Any]] = {}
  made: dict[Key, Any] = {}
  with _no_cache():
    for table in _tables(found, params, topology, phases):
      run(table, lambda program: _once(planned, made, mesh, program))
  return _result(topology, mesh.size, planned)


def _tables(
  found: Setup, params: Any, topology: Topology, phases: Container[str]
) -> Iterator[Table]:
  """The tables of the run, largest shapes only."""
  config = found.config
  if config.sft.steps and "sft" in phases:
    yield _sft(found, params)
  reference = params if config.grpo.steps and config.has_reference else None
  found = found._replace(fixed=found.fixed._replace(reference=reference))
  optimizers = (states if config.grpo.steps else sft).make_optimizers(config)
  state = train_state(found, params, optimizers)
  # where decoding reads the trained parameters themselves, they are its argument, not beside it
  beside = state._replace(params=None) if states.is_decodable(found) else state
  resident = (beside, found.fixed)
  if "rollout" in phases or "evaluation" in phases:
    yield states.decode_table(found, params, (state._replace(params=None), reference))
  layout = "columns" if topology.devices[0].platform == "cpu" else "rows"
  compiled = Executables(found.mesh)  # never filled: the engine names the mesh by it
  for phase, make, prompts in (
    ("rollout", setup.training_engine, config.grpo.prompts_per_step if config.grpo.steps else 0),
    ("evaluation", setup.evaluation_engine, config.eval.prompts),
    ("evaluation", setup.heads_engine, setup.heads(config)),
  ):
    if phase in phases and prompts:
      engine = make(found, compiled, layout)
      yield from _sampling(engine, prompts, states.decodable(found, params), resident)
  if config.grpo.steps and "update" in phases:
    bucket, width = config.rollout.prompt_buckets[-1], config.rollout.max_new_tokens
    yield from programs.grpo_tables(found, optimizers, state, [bucket], [width])
    later = setup.training_engine(found, compiled, layout).later
    if later is not None:
      later = later._replace(buckets=later.buckets[-1:])
      yield from programs.turn_tables(found, optimizers, state, later, [width])


def _sft(found: Setup, params: Any) -> Table:
  """One slice of the warm start: one bucket of instructions, the rest rows.

  No other split of the tokens into instructions and rows takes more memory.
  """
  config = found.config.sft
  prefix, bucket = config.length_bucket, config.length_bucket
  width = -(-max(config.max_tokens - prefix, 1) // bucket) * bucket
  optimizers = sft.make_optimizers(found.config)
  state = train_state(found, params, optimizers)
  count = config.micro_batch or config.batch_size
  return programs.sft_table(found, optimizers, state, prefix, count, width)


def _sampling(engine: Engine, prompts: int, params: Any, resident: Any) -> Iterator[Table]:
  """Programs of one engine; caches that grow count in their last and largest size."""
  sampling = engine.sampling
  if decoding.layout(sampling.layout).GROWS:
    engine = engine._replace(sampling=sampling._replace(segment=sampling.budget))
  refilled = prompts > engine.slots
  yield engines.table(engine, params, engine.buckets[-1], refilled, resident)
  if (opening := engine.opening) is not None:
    opening = opening._replace(sampling=engine.sampling._replace(group_size=1))
    yield from engines.opening_tables(opening, params, opening.buckets[-1:])
  if (later := engine.later) is not None:
    later = later._replace(sampling=engine.sampling._replace(group_size=1))
    yield engines.table(later, params, later.buckets[-1], True, resident)


def train_state(found: Setup, params: Any, optimizers: Optimizers) -> TrainState:
  """The whole train state as shapes with shardings."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    jax.eval_shape(functools.partial(states.initial, found, optimizers), params),
    states.shardings(found, optimizers, params),
  )


# ---------------------------------------------------------------- one program


def device_bytes(tree: Any) -> int:
  """Bytes of a tree of sharded shapes on one device."""
  leaves = [x for x in jax.tree.leaves(tree) if getattr(x, "sharding", None) is not None]
  return sum(int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize for x in leaves)


def _once(
  planned: dict[Key, dict[str, Any]], made: dict[Key, Any], mesh: Mesh, program: Program
) -> Any:
  """`_compile`, but for a program that is there already: a table yields one for every segment."""
  if program.key not in made:
    made[program.key] = _compile(planned, mesh, program)
  return made[program.key]


def _compile(planned: dict[Key, dict[str, Any]], mesh: Mesh, program: Program) -> Any:
  """Compiles one program and keeps what it costs; returns its results as shapes.

  None where the compiler found no room: what the rest of the table would get is then unknown.
  """
  began = time.perf_counter()
  found: dict[str, Any] = {"resident_gib": device_bytes(program.resident) / GIB}
  planned[program.key] = found
  try:
    # only here: what a table computes while it describes programs cannot run on devices like these
    with jax.set_mesh(mesh):
      compiled = program.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    used = _OVERRUN.search(str(error))
    if "RESOURCE_EXHAUSTED" not in str(error) or not used:
      raise
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(used[2], 1)
    found |= {"error": "does not fit", "total_gib": float(used[1]) * scale / GIB}
    found |= {"compile_s": time.perf_counter() - began, "gflops": program.flops / 1e9 / mesh.size}
    return None
  found["compile_s"] = time.perf_counter() - began
  found |= _memory(compiled) | {"collectives": collectives.count(compiled.as_text() or "")}
  found["gflops"] = program.flops / 1e9 / mesh.size
  name = " ".join(map(str, program.key))
  log.info("%s: %.2f GiB, compiled in %.0f s", name, found["total_gib"], found["compile_s"])
  return results(compiled)


def _memory(compiled: jax.stages.Compiled) -> dict[str, float]:
  """GiB on one device; the total counts buffers that an argument shares with a result once."""
  found: Any = compiled.memory_analysis()
  parts = {
    "argument_gib": found.argument_size_in_bytes / GIB,
    "output_gib": found.output_size_in_bytes / GIB,
    "temp_gib": found.temp_size_in_bytes / GIB,
    "alias_gib": found.alias_size_in_bytes / GIB,
  }
  total = parts["argument_gib"] + parts["output_gib"] + parts["temp_gib"] - parts["alias_gib"]
  return parts | {"total_gib": total}


def _result(topology: Topology, devices: int, planned: dict[Key, dict[str, Any]]) -> dict[str, Any]:
  """INTERFACES `plan`; a program is called by its name where it is the only one of that name."""
  names = [key[0] for key in planned]
  named = {
    str(key[0]) if names.count(key[0]) == 1 else " ".join(map(str, key)): each
    for key, each in planned.items()
  }
  peak = max(each["total_gib"] + each["resident_gib"] for each in named.values())
  whole = not any("error" in each for each in named.values())
  return {
    "topology": topology.name,
    "devices": devices,
    "hbm_gib": topology.hbm_gib,
    "fits": whole and (topology.hbm_gib is None or peak <= topology.hbm_gib),
    "programs": named,
    "peak_gib": peak,
  }


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
