"""The engine under a server: rows join and leave its slots at any time, sampled each as it asks.

A lane is a slot with one row. Between two segments the host reads what was written, frees lanes and
fills them with new prompts. Every program has a fixed shape and is compiled when the lanes are
made: what a row asks for is in arrays. A row depends on (number, t) and on what it asks for alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.data import batches
from gtalign_jax.models import decoding
from gtalign_jax.ops.sampling import Options
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.mesh import row_shards
from gtalign_jax.parallel.programs import Program, Table
from gtalign_jax.rollout import engine as engines
from gtalign_jax.rollout import generate
from gtalign_jax.rollout.amend import Amendment, amend
from gtalign_jax.rollout.engine import Engine
from gtalign_jax.rollout.generate import DecodeInputs, DecodeState, Own, Sampling
from gtalign_jax.types import Context

AMENDED = 256  # tokens that an amendment may add: payoffs have about 130


class Asked(NamedTuple):
  """A row to sample. ids: of its prompt. number: int32, of its draws. The rest as in `sample`."""

  ids: np.ndarray
  number: int
  budget: int
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0


class Written(NamedTuple):
  """What all lanes have written, on the host; arrays as in `Rollout` and `DecodeState`."""

  tokens_BC: np.ndarray
  logp_BC: np.ndarray
  count_B: np.ndarray
  done_B: np.ndarray
  stopped_B: np.ndarray


class Lanes:
  """The lanes of an engine of groups of one: P rows, of which some are free."""

  def __init__(self, engine: Engine, params: Any, key: jax.Array):
    """Compiles every program. key: of all draws."""
    self.engine, self.count = engine, engine.slots
    mesh = engine.programs.mesh
    engine.programs.compile([_refills(engine, params), _decodes(engine, params)])
    self._replicated = functools.partial(engines.replicated, mesh)
    step = self._replicated(np.int32(0))
    self._inputs = DecodeInputs(params, None, engine.stop_table, key, step, engine.grammar)
    nobody = engines.to_device(
      mesh, [], [], self.count, engine.buckets[-1:], constraint=engine.constraint
    )
    with jax.set_mesh(mesh):
      self._context, self._state = self._program("vacant")(self._inputs, nobody, self._own([]))
      self._layers = self._program("layers")(params)
    self._length_P = np.zeros(self.count, int)  # of the prompts in the lanes; 0: free

  @property
  def longest(self) -> int:
    """Tokens of a prompt."""
    return self.engine.buckets[-1]

  def fill(self, lanes: Sequence[int], asked: Sequence[Asked]) -> None:
    """Puts rows into free lanes, and draws the first token of each."""
    pairs = list(zip(lanes, asked, strict=True))
    # by length: a short prompt is not padded to a long one that came with it
    pairs.sort(key=lambda pair: len(pair[1].ids))
    most = widths(self.engine)[-1]
    for first in range(0, len(pairs), most):
      self._fill(pairs[first : first + most])

  def _fill(self, pairs: Sequence[tuple[int, Asked]]) -> None:
    few = next(width for width in widths(self.engine) if width >= len(pairs))
    asked = [each for _, each in pairs]
    bucket = batches.bucket(max(len(each.ids) for each in asked), self.engine.buckets)
    source_P = np.full(self.count, -1, np.int32)
    for index, (lane, each) in enumerate(pairs):
      source_P[lane], self._length_P[lane] = index, len(each.ids)
    numbers = [each.number for each in asked]
    mesh, ids = self.engine.programs.mesh, [each.ids for each in asked]
    constraint = self.engine.constraint
    prompts = engines.to_device(mesh, ids, numbers, few, (bucket,), constraint=constraint)
    self._context, self._state = self._program("refill", bucket, few)(
      self._inputs, prompts, self._replicated(source_P), self._context, self._state,
      self._own(asked, few),
    )  # fmt: skip

  def _own(self, asked: Sequence[Asked], width: int | None = None) -> Own:
    width = self.count if width is None else width
    rows = [*asked, *[Asked(np.zeros(0, np.int32), 0, 1)] * (width - len(asked))]

    def column(name: str, dtype: Any) -> np.ndarray:
      return np.asarray([getattr(row, name) for row in rows], dtype)

    f32 = np.float32
    options = Options(
      column("temperature", f32), column("top_k", np.int32), column("top_p", f32),
      column("min_p", f32),
    )  # fmt: skip
    budget_B, constraint = column("budget", np.int32), self.engine.constraint
    # budgets of blocks are counted from the end, where a row has fewer tokens than all of them
    spent_B = np.maximum((constraint.total if constraint else 0) - budget_B, 0)
    own = Own(options, budget_B, np.zeros_like(budget_B), spent_B)
    rows_of = sharding.rows(self.engine.programs.mesh)
    return distributed.to_device(own, jax.tree.map(lambda _: rows_of, own))

  def amend(self, lane: int, head: Sequence[int], kept: int, number: int) -> bool:
    """Row `lane`, still running, goes on from `head` instead of what it wrote.

    kept: tokens that both begin with. number: of the draws from there on. False where `head` does
    not fit, and nothing is done: a row of prompt and head does the same.
    """
    tail = head[kept:]
    if not tail or len(tail) > AMENDED or len(head) >= self.engine.sampling.budget:
      return False
    tokens_M = np.zeros(AMENDED, np.int32)
    tokens_M[: len(tail)] = tail
    numbers, constraint = map(np.int32, (lane, kept, len(tail), number)), self.engine.constraint
    new = Amendment(next(numbers), next(numbers), tokens_M, *numbers)
    if constraint is not None:
      new = new._replace(grammar=constraint.begin([np.asarray(head)])[0])
    self._state = self._program("amend")(
      self._inputs, jax.tree.map(self._replicated, new), self._context, self._state
    )
    return True

  def run(self, min_free: int) -> None:
    """Decodes a segment, or until so many lanes are free; does not wait for it."""
    # a CPU reads every slot for every token: no more of them than the longest prompt has
    bucket = batches.bucket(int(self._length_P.max()), self.engine.buckets)
    self._state = self._program("decode", bucket)(
      self._inputs._replace(layers=self._layers), self._context, self._state,
      self._replicated(np.int32(min_free)),
    )  # fmt: skip

  def read(self) -> Written:
    """Waits for what is under way; what the lanes have written."""
    state = self._state
    out = state.rollout
    arrays = out.tokens_BC, out.logp_BC, state.count_B, state.done_B, out.stopped_B
    return Written(*map(distributed.to_host, arrays))

  def free(self, lanes: Sequence[int], done_B: np.ndarray) -> None:
    """Frees lanes, whose rows end where they are. done_B: of `Written`."""
    self._length_P[list(lanes)] = 0
    if done_B[list(lanes)].all():
      return
    done_B = done_B.copy()
    done_B[list(lanes)] = True
    rows = sharding.rows(self.engine.programs.mesh)
    over = self._replicated(np.bool_(done_B.all()))
    self._state = self._state._replace(done_B=distributed.to_device(done_B, rows), over=over)

  def _program(self, name: str, *variant: int) -> Any:
    return self.engine.programs[(f"{self.engine.prefix}lane_{name}", *variant)]


# ---------------------------------------------------------------- the programs


def widths(engine: Engine) -> list[int]:
  """Prompts that one prefill takes: one for each part of the mesh, or a refill of the engine."""
  return sorted({row_shards(engine.programs.mesh), engine.refill_batch})


def decode(
  sampling: Sampling,
  bucket: int,
  inputs: DecodeInputs,
  context: Context,
  state: DecodeState,
  min_free: jax.Array,
) -> DecodeState:
  """`generate.segment` where all prompts have at most `bucket` tokens."""
  slots = sampling.budget
  # the ring is where it was, and a clock that runs for months does not overflow
  state = state._replace(clock=(state.clock - 1) % slots + 1)
  context = generate.resized(sampling, context, bucket)
  return generate.segment(sampling, inputs, context, state, min_free)


def _own_of(mesh: Any, count: int) -> Own:
  def shape(dtype: Any) -> Any:
    return jax.ShapeDtypeStruct((count,), dtype, sharding=sharding.rows(mesh))

  number, count = shape(jnp.float32), shape(jnp.int32)
  return Own(Options(number, count, number, number), count, count, count)


def _vacant(engine: Engine, params: Any) -> Program:
  """The lanes before anyone is in them."""
  sampling, mesh, P = engine.sampling, engine.programs.mesh, engine.slots
  inputs = engines.abstract_inputs(engine, params)
  prompts = engines.abstract_prompts(mesh, P, engine.buckets[-1], engine.constraint is not None)
  return Program(
    f"{engine.prefix}lane_vacant",
    functools.partial(generate.vacant, sampling, sampling.budget),
    (inputs, prompts, _own_of(mesh, P)),
  )


def _refills(engine: Engine, params: Any) -> Table:
  sampling, mesh, P = engine.sampling, engine.programs.mesh, engine.slots
  context, state = yield _vacant(engine, params)
  inputs = engines.abstract_inputs(engine, params)
  for bucket in engine.buckets:
    for few in widths(engine):
      prompts = engines.abstract_prompts(mesh, few, bucket, engine.constraint is not None)
      context, state = yield Program(
        f"{engine.prefix}lane_refill",
        functools.partial(generate.refill, sampling),
        (inputs, prompts, engines.abstract_index(mesh, P), context, state, _own_of(mesh, few)),
        variant=(bucket, few),
        donated=(3, 4),
      )


def _decodes(engine: Engine, params: Any) -> Table:
  context, state = yield _vacant(engine, params)
  prepare = decoding.layout(engine.sampling.layout).prepare
  layers = yield Program(f"{engine.prefix}lane_layers", prepare, (params,))
  inputs = engines.abstract_inputs(engine, params)
  scalar = engines.abstract_scalar(engine.programs.mesh)
  tokens_M = engines.abstract_index(engine.programs.mesh, AMENDED)
  grammar = None if engine.constraint is None else scalar
  new = Amendment(scalar, scalar, tokens_M, scalar, scalar, grammar)
  state = yield Program(
    f"{engine.prefix}lane_amend",
    functools.partial(amend, engine.sampling),
    (inputs, new, context, state),
    donated=(3,),
  )
  inputs = inputs._replace(layers=layers)
  for bucket in engine.buckets:
    state = yield Program(
      f"{engine.prefix}lane_decode",
      functools.partial(decode, engine.sampling, bucket),
      (inputs, context, state, scalar),
      variant=(bucket,),
      donated=(2,),
    )
