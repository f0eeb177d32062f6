"""The host's side of sampling: the programs of rollout/generate.py, and the one loop around them.

A batch has P slots, each with a prompt and its G rows. Where there are more prompts than slots, a
waiting prompt takes the slot of one whose samples have all ended: shapes stay fixed, so a long
answer holds its own slot and not the batch. Slots are refilled a few at a time, because a prefill
of several prompts costs less per prompt than one of a single prompt.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gtalign_jax.conversation_section import ConversationConfig
from gtalign_jax.data import batches
from gtalign_jax.models import decoding
from gtalign_jax.models.flops import uniform_flops
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.mesh import row_shards
from gtalign_jax.parallel.programs import Executables, Program, Table
from gtalign_jax.progress import Quiet, WorkLog
from gtalign_jax.rollout import generate
from gtalign_jax.rollout.constrain import Constraint
from gtalign_jax.rollout.generate import DecodeInputs, Sampling
from gtalign_jax.types import Branches, Grammar, Prompts, Rollout

REFILLS = 8  # prefills that renew all slots: an ended slot waits until an eighth of them have ended
QUIET = Quiet()


class Engine(NamedTuple):
  """Samples one model in one way, on one mesh.

  stop_table: of stop.stop_table, whole on every device. slots: P, prompts decoded at once, over all
  processes. buckets: padded prompt lengths, tokens. programs: compiled by `table`. constraint: what
  completions have to be (None: anything).
  """

  sampling: Sampling
  stop_table: Any
  tokenizer: Any
  slots: int
  buckets: tuple[int, ...]
  programs: Executables
  prefix: str = ""  # of its programs' names, so that several engines share one set of programs
  later: Engine | None = None  # samples the later turns of conversations, a row for each
  opening: Engine | None = None  # samples openings that are edited, a row for each
  most: int = 0  # of `later`: rows that the turns of a step are padded to; of `opening`: all rows
  branch: int = 0  # padded length of what each row reads after its prompt, tokens; 0: nothing
  constraint: Constraint | None = None

  @property
  def grammar(self) -> Grammar | None:
    """What decoding reads of the constraint."""
    return self.constraint and self.constraint.grammar

  @property
  def refill_batch(self) -> int:
    """Slots that one prefill renews: a multiple of the parts that rows are split into."""
    shards = row_shards(self.programs.mesh)
    return shards * -(-self.slots // (shards * REFILLS))

  def cache_slots(self, segment: int, refilled: bool) -> int:
    """Slots of the row caches in segment number `segment`; a refilled row may start in any."""
    return self.branch + (self.sampling.budget if refilled else self.sampling.slots(segment))

  @property
  def batch(self) -> tuple[int, ...]:
    """What tells the programs of this engine's batches from others: slots and branches."""
    return (self.slots, self.branch) if self.branch else (self.slots,)


def with_turns(engine: Engine, conversation: ConversationConfig, prompts: int) -> Engine:
  """`engine`, and where conversations have several turns, the one that samples the later ones.

  prompts: of a step, or of what is evaluated together.
  """
  if conversation.turns == 1:
    return engine
  shards, rows = row_shards(engine.programs.mesh), prompts * engine.sampling.group_size
  # every lane costs, filled or not, and most conversations end at once; others wait for a place
  at_once = conversation.rows_at_once or -(-rows // (4 * shards)) * shards
  later = engine._replace(
    sampling=engine.sampling._replace(group_size=1),
    slots=at_once,
    buckets=conversation.buckets,
    prefix=f"{engine.prefix}turn_",
    most=rows * (conversation.turns - 1) + shards,  # and a row for each device that nobody fills
  )
  return engine._replace(later=later)


def with_openings(
  engine: Engine, share: float, prompts: int, stop_table: Any, buckets: tuple[int, ...]
) -> Engine:
  """`engine`, and the one that samples the openings of the `share` of `prompts` of a step.

  stop_table: ends them at `</payoff>`. buckets: padded lengths of prompts alone.
  """
  count = round(share * prompts)
  if not count:
    return engine
  shards, rows = row_shards(engine.programs.mesh), engine.slots * engine.sampling.group_size
  opening = engine._replace(
    sampling=engine.sampling._replace(group_size=1),
    stop_table=stop_table,
    slots=-(-min(count, rows) // shards) * shards,
    buckets=buckets,
    prefix=f"{engine.prefix}opening_",
    later=None,
    most=count,
  )
  return engine._replace(opening=opening)


# ---------------------------------------------------------------- the programs


def table(engine: Engine, params: Any, bucket: int, refilled: bool, resident: Any = ()) -> Table:
  """The programs that sample prompts of one padded length.

  params: arrays or shapes, as decoding reads them. refilled: more prompts than slots. resident:
  what else lies on the devices.
  """
  sampling, mesh, P = engine.sampling, engine.programs.mesh, engine.slots
  arch, G, model = sampling.arch, sampling.group_size, decoding.layout(sampling.layout)
  inputs = abstract_inputs(engine, params)
  prompts = _abstract_batch(engine, P, bucket)
  slots = engine.cache_slots(0, refilled)
  prefill_flops = uniform_flops(arch, P, 1, bucket, 1) / 3
  context, state = yield Program(
    f"{engine.prefix}prefill",
    functools.partial(generate.start, sampling, slots),
    (inputs, prompts),
    variant=(*engine.batch, bucket, slots),
    resident=resident,
    flops=prefill_flops,
  )
  layers = yield Program(
    f"{engine.prefix}layers", model.prepare, (params,), resident=(resident, context, state)
  )
  inputs = inputs._replace(layers=layers)
  flops = uniform_flops(arch, P, G, bucket, sampling.budget) - uniform_flops(arch, P, G, bucket, 1)
  flops *= min(sampling.segment, sampling.budget) / 3 / max(sampling.budget - 1, 1)
  for segment in range(1 if refilled else -(-sampling.budget // sampling.segment)):
    before, slots = slots, engine.cache_slots(segment, refilled)
    if slots != before:
      grown = yield Program(
        f"{engine.prefix}grow",
        functools.partial(model.grow, slots=slots),
        (state.row_cache,),
        variant=(*engine.batch, before, slots),
        resident=(resident, params, layers, context),
      )
      state = state._replace(row_cache=grown)
    state = yield Program(
      f"{engine.prefix}decode",
      functools.partial(generate.segment, sampling),
      (inputs, context, state, abstract_scalar(mesh)),
      variant=(*engine.batch, bucket, slots),
      donated=(2,),
      resident=(resident, params["layers"]),
      flops=flops,
    )
  if refilled:
    few = engine.refill_batch
    yield Program(
      f"{engine.prefix}refill",
      functools.partial(generate.refill, sampling),
      (inputs, _abstract_batch(engine, few, bucket), abstract_index(mesh, P), context, state),
      variant=(*engine.batch, bucket, few),
      donated=(3, 4),
      resident=resident,
      flops=prefill_flops * few / P,
    )


def tables(engine: Engine, params: Any, ids: Sequence[np.ndarray]) -> list[Table]:
  """The tables for all programs that `stream` runs for the prompts `ids`, and for later turns."""
  first = [
    table(engine, params, bucket, refilled=len(chosen) > engine.slots)
    for bucket, chosen in groups(engine, ids)
  ]
  return first + turn_tables(engine.later, params)


def turn_tables(later: Engine | None, params: Any) -> list[Table]:
  """The tables of later turns: how many there will be, and how long they are, is not known."""
  if later is None:
    return []
  return [table(later, params, bucket, more) for bucket in later.buckets for more in (False, True)]


def opening_tables(opening: Engine | None, params: Any, buckets: Sequence[int]) -> list[Table]:
  """The tables of openings for prompts of these padded lengths."""
  if opening is None:
    return []
  more = (False, True) if opening.most > opening.slots else (False,)
  return [table(opening, params, bucket, each) for bucket in buckets for each in more]


def abstract_prompts(mesh: Mesh, count: int, bucket: int, constrained: bool = False) -> Prompts:
  """A batch of prompts as shapes, rows split over the mesh."""
  rows = sharding.rows(mesh)
  row_P = jax.ShapeDtypeStruct((count,), jnp.int32, sharding=rows)
  tokens_PT = jax.ShapeDtypeStruct((count, bucket), jnp.int32, sharding=rows)
  return Prompts(tokens_PT, row_P, row_P, grammar_P=row_P if constrained else None)


def _abstract_batch(engine: Engine, count: int, bucket: int) -> Prompts:
  mesh, B = engine.programs.mesh, count * engine.sampling.group_size
  constrained = engine.constraint is not None
  prompts = abstract_prompts(mesh, count, bucket, constrained)
  if not engine.branch:
    return prompts
  # rows split over the mesh as prompts do
  tokens = abstract_prompts(mesh, B, engine.branch, constrained)
  branches = Branches(tokens.tokens_PT, tokens.length_P, tokens.grammar_P)
  return prompts._replace(branches=branches)


def abstract_inputs(engine: Engine, params: Any) -> DecodeInputs:
  """What every program reads, as shapes; without layers."""
  alone = sharding.replicated(engine.programs.mesh)
  key = jax.eval_shape(lambda: jax.random.key(0))
  key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=alone)
  stops, grammar = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=alone),
    (engine.stop_table, engine.grammar),
  )
  return DecodeInputs(params, None, stops, key, abstract_scalar(engine.programs.mesh), grammar)


def abstract_scalar(mesh: Mesh) -> Any:
  """An int32 that every device has."""
  return jax.ShapeDtypeStruct((), jnp.int32, sharding=sharding.replicated(mesh))


def abstract_index(mesh: Mesh, count: int) -> Any:
  """`count` of them."""
  return jax.ShapeDtypeStruct((count,), jnp.int32, sharding=sharding.replicated(mesh))


# ---------------------------------------------------------------- the loop


class Ended(NamedTuple):
  """A prompt whose samples have all ended. prompt: index. rollout: its G rows, on the host."""

  prompt: int
  rollout: Rollout


class _Queue(NamedTuple):
  """Prompts of one padded length that go through the slots together.

  prompts: their indices. ids: their tokens. row_P: what their draws are derived from. branches: of
  each, of at most G rows; None without.
  """

  bucket: int
  prompts: np.ndarray
  ids: list[np.ndarray]
  row_P: np.ndarray
  branches: list[Sequence[Sequence[int]]] | None = None


def groups(engine: Engine, ids: Sequence[np.ndarray]) -> list[tuple[int, np.ndarray]]:
  """(padded length, prompts) that go through the slots together, the longest first."""
  bucket_P = np.asarray([batches.bucket(len(each), engine.buckets) for each in ids])
  for small, large in itertools.pairwise(sorted(set(bucket_P.tolist()))):
    if (bucket_P == small).sum() < engine.slots:  # slots left empty cost more than padding
      bucket_P[bucket_P == small] = large
  return [(each, np.flatnonzero(bucket_P == each)) for each in sorted(set(bucket_P), reverse=True)]


def stream(
  engine: Engine,
  params: Any,
  ids: Sequence[np.ndarray],
  key: jax.Array,
  step: int,
  *,
  row_P: np.ndarray | None = None,
  branches: Sequence[Sequence[Sequence[int]]] | None = None,
  log: WorkLog = QUIET,
) -> Iterator[list[Ended]]:
  """Samples G completions for each prompt; yields prompts as they end, in the end all of them.

  params: as decoding reads them. row_P: int32 number of each prompt, which its draws are derived
  from with `key` and `step` (default: its position). branches: what rows read after the prompt, of
  each prompt at most G of at most `engine.branch` tokens; rows without one do not run. While the
  caller works on what it was given, the device decodes on. Programs that are not compiled yet are
  compiled first.
  """
  row_P = np.arange(len(ids)) if row_P is None else row_P
  number = replicated(engine.programs.mesh, np.int32(step))
  inputs = DecodeInputs(params, None, engine.stop_table, key, number, engine.grammar)
  for bucket, chosen in groups(engine, ids):
    queue = _Queue(int(bucket), chosen, [ids[p] for p in chosen], row_P[chosen])
    if branches is not None:
      queue = queue._replace(branches=[branches[p] for p in chosen])
    yield from _stream(engine, inputs, queue, log)


def _stream(
  engine: Engine, inputs: DecodeInputs, queue: _Queue, log: WorkLog
) -> Iterator[list[Ended]]:
  P, G = engine.slots, engine.sampling.group_size
  programs, mesh = engine.programs, engine.programs.mesh
  bucket, count = queue.bucket, len(queue.ids)
  refilled, slots = count > P, engine.cache_slots(0, count > P)
  _ensure(engine, inputs.params, bucket, refilled)
  context, state = programs[f"{engine.prefix}prefill", *engine.batch, bucket, slots](
    inputs, _take(engine, queue, range(P), P)
  )
  inputs = inputs._replace(layers=programs[f"{engine.prefix}layers"](inputs.params))
  held_P = np.where(np.arange(P) < count, np.arange(P), -1)  # the prompt in each slot, or none
  following = min(P, count)  # the first prompt that waits
  ended: list[Ended] = []
  for segment in itertools.count():
    before, slots = slots, engine.cache_slots(segment, refilled)
    if slots != before:
      state = state._replace(
        row_cache=programs[f"{engine.prefix}grow", *engine.batch, before, slots](state.row_cache)
      )
    waiting = count - following
    min_free = min(engine.refill_batch, waiting) if waiting else P
    state = programs[f"{engine.prefix}decode", *engine.batch, bucket, slots](
      inputs, context, state, replicated(mesh, np.int32(min_free))
    )
    log.flush()
    # dispatched before the caller gets what has ended: both work at the same time
    if ended:
      yield ended
    ended, over = [], bool(jax.device_get(state.over))
    if not over and not waiting:
      continue
    done_P = distributed.to_host(state.done_B).reshape(P, G).all(1) & (held_P >= 0)
    if not over and done_P.sum() < min_free:
      continue
    rollout = Rollout(*map(distributed.to_host, state.rollout))
    ended = [_ended(queue, held_P[p], rollout, int(p), G) for p in np.flatnonzero(done_P)]
    held_P[done_P] = -1
    if not waiting:
      break
    new = range(following, min(following + len(ended), count))
    for source_P, some in _fill(held_P, new, engine.refill_batch):
      refill = programs[f"{engine.prefix}refill", *engine.batch, bucket, engine.refill_batch]
      taken = _take(engine, queue, some, engine.refill_batch)
      context, state = refill(inputs, taken, replicated(mesh, source_P), context, state)
    following = new.stop
  yield ended


def _ensure(engine: Engine, params: Any, bucket: int, refilled: bool) -> None:
  """Compiles what is missing; nothing after a warm-up."""
  wanted = engine.cache_slots(0, refilled)
  name = f"{engine.prefix}{'refill' if refilled else 'prefill'}"
  variant = engine.refill_batch if refilled else wanted
  if (name, *engine.batch, bucket, variant) not in engine.programs:
    engine.programs.compile([table(engine, params, bucket, refilled)])


def _fill(held_P: np.ndarray, new: range, few: int) -> Iterator[tuple[np.ndarray, range]]:
  """(which of `some` each slot takes or -1, some) for prompts `new`, `few` at a time.

  held_P: updated to the prompts that the slots hold then.
  """
  for first in range(new.start, new.stop, few):
    some = range(first, min(first + few, new.stop))
    source_P = np.full(len(held_P), -1, np.int32)
    free = np.flatnonzero(held_P < 0)[: len(some)]
    source_P[free], held_P[free] = np.arange(len(some)), some
    yield source_P, some


def _take(engine: Engine, queue: _Queue, some: Sequence[int], width: int) -> Prompts:
  """Prompts number `some` of a queue (those it has) as a batch of `width` rows on the mesh."""
  some, mesh = [index for index in some if index < len(queue.ids)], engine.programs.mesh
  ids, constraint = [queue.ids[i] for i in some], engine.constraint
  prompts = to_device(mesh, ids, queue.row_P[some], width, (queue.bucket,), constraint=constraint)
  if queue.branches is None:
    return prompts
  branches = _branches(engine, ids, [queue.branches[i] for i in some], width)
  rows = sharding.rows(mesh)
  placed = distributed.to_device(branches, jax.tree.map(lambda _: rows, branches))
  return prompts._replace(branches=placed)


def _branches(
  engine: Engine, ids: Sequence[np.ndarray], some: Sequence[Sequence[Sequence[int]]], width: int
) -> Branches:
  """Branches of some prompts `ids`, left-padded, for a batch of `width` prompts."""
  G, constraint = engine.sampling.group_size, engine.constraint
  tokens_BC = np.full((width * G, engine.branch), engine.sampling.pad_id, np.int32)
  length_B = np.full(width * G, -1, np.int32)
  whole_B = [np.zeros(0, np.int32)] * (width * G)
  for p, (stem, rows) in enumerate(zip(ids, some, strict=True)):
    for b, tail in enumerate(rows, p * G):
      tokens_BC[b, engine.branch - len(tail) :], length_B[b] = tail, len(tail)
      whole_B[b] = np.asarray([*stem, *tail], np.int32)
  return Branches(tokens_BC, length_B, None if constraint is None else constraint.begin(whole_B))


def to_device(
  mesh: Mesh,
  ids: Sequence[np.ndarray],
  row_P: Sequence[int] | np.ndarray,
  width: int,
  buckets: Sequence[int],
  shortest: int = 0,
  constraint: Constraint | None = None,
) -> Prompts:
  """Pads `ids` to the smallest bucket that holds all and to `width` rows, and shards them.

  row_P: number of each prompt within its step. shortest: tokens of the rows that fill up.
  """
  rest = width - len(ids)
  filled = [*ids, *[np.zeros(shortest, np.int32)] * rest]
  tokens_PT, length_P = batches.pad(filled, buckets)
  grammar_P = None if constraint is None else constraint.begin(filled)
  numbers = np.asarray([*row_P, *[0] * rest], np.int32)
  local = Prompts(tokens_PT, length_P, numbers, grammar_P=grammar_P)
  rows = sharding.rows(mesh)
  return distributed.to_device(local, jax.tree.map(lambda _: rows, local))


def replicated(mesh: Mesh, array: np.ndarray | np.generic) -> jax.Array:
  """A host array, whole on every device."""
  return distributed.to_device(array, sharding.replicated(mesh))


def _ended(queue: _Queue, held: int, rollout: Rollout, slot: int, group_size: int) -> Ended:
  rows = slice(slot * group_size, (slot + 1) * group_size)
  return Ended(int(queue.prompts[held]), Rollout(*(x[rows] for x in rollout)))
