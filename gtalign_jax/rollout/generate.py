"""The pure functions of sampling: prefill, a segment of decoding, a refill.

The KV of each prompt is computed once and shared by its G rows; each row has a cache of its own for
what it writes. Decoding runs in segments (`lax.while_loop` with early exit), between which the host
can look and put a waiting prompt where all samples of one have ended. A sample depends on (key,
step, row, t) alone: mesh, batch split, refilling and early exit cannot change it. rollout/engine.py
compiles these functions and loops over them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.models import decoder, decoding
from gtalign_jax.models.prefix import extend, prompt_context
from gtalign_jax.models.variants import Arch
from gtalign_jax.ops import grammar
from gtalign_jax.ops.sampling import Options, row_uniforms, sample, sample_each
from gtalign_jax.parallel.sharding import constrain
from gtalign_jax.sections import RolloutConfig
from gtalign_jax.types import Context, Grammar, KVCache, Leaf, Prompts, Rollout


class Sampling(NamedTuple):
  """Which model is sampled and how; hashable, so it is the static part of every function here.

  temperature 0 is greedy. budget: new tokens per row. eos_ids: ids that end a row (empty: none do).
  layout: of decode weights and caches (models/decoding.py).
  """

  arch: Arch
  group_size: int
  budget: int
  segment: int
  temperature: float
  top_k: int
  top_p: float
  min_p: float
  eos_ids: tuple[int, ...]
  pad_id: int
  dtype: str
  layout: str

  def slots(self, segments: int) -> int:
    """Slots of the row caches while segment number `segments` (from 0) is decoded."""
    if not decoding.layout(self.layout).GROWS:
      return self.budget
    # doubling: few programs to compile, and at most half of what is read is empty
    slots = self.segment
    while slots < min((segments + 1) * self.segment, self.budget):
      slots *= 2
    return min(slots, self.budget)


def sampling_of(
  config: RolloutConfig,
  arch: Arch,
  eos_ids: tuple[int, ...],
  pad_id: int,
  dtype: str,
  **changes: Any,
) -> Sampling:
  """The `Sampling` of a rollout config; `changes` replace single fields."""
  made = Sampling(
    arch=arch,
    group_size=config.group_size,
    budget=config.max_new_tokens,
    segment=config.segment,
    temperature=config.temperature,
    top_k=config.top_k,
    top_p=config.top_p,
    min_p=config.min_p,
    eos_ids=eos_ids,
    pad_id=pad_id,
    dtype=dtype,
    layout=decoding.native(),
  )
  return made._replace(**changes)


class Own(NamedTuple):
  """What rows of a server have of their own, in place of what `Sampling` says for all.

  options: of their draws. budget_B: int32 new tokens, at most `Sampling.budget`. begun_B: int32
  tokens that they had when their draws began, which are numbered from there. spent_B: int32 tokens
  that the grammar counts as written before them.
  """

  options: Options
  budget_B: Leaf
  begun_B: Leaf
  spent_B: Leaf


class DecodeInputs(NamedTuple):
  """What decoding reads and never changes.

  params: without adapters, in the compute dtype. layers: of `prepare` (None in prefill, so that the
  copy that a CPU decodes from does not lie beside it). stop_table: of stop.stop_table. key, step:
  of the draws. grammar: of constrain.constraint, None where nothing is constrained.
  """

  params: Any
  layers: Any
  stop_table: Leaf
  key: Leaf
  step: Leaf
  grammar: Grammar | None = None


class DecodeState(NamedTuple):
  """The decode loop's carry; rows B = P * G, of P slots that hold a prompt each.

  clock: tokens drawn since the start by the row that has run longest. over: no row has anything
  left to decode. length_P, row_P: of the prompts in the slots. count_B: tokens written so far.
  token_B: the newest token. stop_B, grammar_B: states of the stop automaton and of the grammar
  (None without). done_B: row has ended. row_cache: keys and values of what the rows wrote, a ring:
  the token drawn at clock t is in cache slot t - 1. branch_B: tokens of each row's branch, whose
  entries lie before its own; None without branches.
  """

  clock: jax.Array
  over: jax.Array
  length_P: jax.Array
  row_P: jax.Array
  count_B: jax.Array
  token_B: jax.Array
  stop_B: jax.Array
  done_B: jax.Array
  rollout: Rollout
  row_cache: Any  # KVCache; during prefill that of the branches, () without
  branch_B: Any = None
  own: Any = ()  # Own; () where all rows are sampled alike, as in training
  grammar_B: Any = None


def _draw(
  sampling: Sampling, logits_BV: jax.Array, inputs: DecodeInputs, state: DecodeState
) -> tuple[jax.Array, jax.Array]:
  """(token, its log-probability) of each row."""
  G = sampling.group_size
  row_B = (state.row_P[:, None] * G + jnp.arange(G, dtype=jnp.int32)).reshape(-1)
  if (
    state.branch_B is not None
  ):  # branches are compared, so those of a prompt draw the same numbers
    row_B = jnp.repeat(state.row_P, G)
  t_B = state.count_B - state.own.begun_B if state.own else state.count_B
  uniform_B = row_uniforms(inputs.key, inputs.step, row_B, t_B)
  if inputs.grammar is not None:
    count_B = state.count_B + (state.own.spent_B if state.own else 0)
    logits_BV = grammar.masked(inputs.grammar, logits_BV, state.grammar_B, count_B)
  if state.own:
    return sample_each(logits_BV, uniform_B, state.own.options)
  return sample(
    logits_BV,
    uniform_B,
    temperature=sampling.temperature,
    top_k=sampling.top_k,
    top_p=sampling.top_p,
    min_p=sampling.min_p,
  )


def draw(
  sampling: Sampling, logits_BV: jax.Array, inputs: DecodeInputs, state: DecodeState
) -> DecodeState:
  """The state once every row has drawn its next token."""
  return _record(sampling, state, _draw(sampling, logits_BV, inputs, state), inputs)


def _record(
  sampling: Sampling,
  state: DecodeState,
  drawn: tuple[jax.Array, jax.Array],
  inputs: DecodeInputs,
) -> DecodeState:
  """Writes each row's next token and moves its automata."""
  (token_B, logp_B), stop_table, grammar_B = drawn, inputs.stop_table, state.grammar_B
  live_B = ~state.done_B
  token_B = jnp.where(live_B, token_B, sampling.pad_id).astype(jnp.int32)
  stop_B = jnp.where(live_B, stop_table[state.stop_B, token_B].astype(jnp.int32), state.stop_B)
  ended_B = stop_B == stop_table.shape[0] - 1
  for eos in sampling.eos_ids:
    ended_B |= token_B == eos
  if inputs.grammar is not None:
    after_B = grammar.moved(inputs.grammar, grammar_B, token_B)
    grammar_B = jnp.where(live_B, after_B, grammar_B)
    ended_B |= grammar_B == grammar.END
  out = state.rollout
  # rows are at columns of their own: a comparison splits over devices, a scatter would not
  column_C = jnp.arange(sampling.budget, dtype=jnp.int32)
  here_BC = (column_C == state.count_B[:, None]) & live_B[:, None]

  def put(array_BC, value_B):
    return jnp.where(here_BC, value_B[:, None], array_BC)

  out = Rollout(
    tokens_BC=put(out.tokens_BC, token_B),
    mask_BC=out.mask_BC | here_BC,
    logp_BC=put(out.logp_BC, logp_B),
    stopped_B=out.stopped_B | (live_B & ended_B),
  )
  count_B = state.count_B + live_B
  budget = state.own.budget_B if state.own else sampling.budget
  done_B = state.done_B | ended_B | (count_B >= budget)
  return state._replace(
    clock=state.clock + 1,
    over=jnp.all(done_B),
    count_B=count_B,
    token_B=token_B,
    stop_B=stop_B,
    done_B=done_B,
    rollout=out,
    grammar_B=grammar_B,
  )


def _begin(
  sampling: Sampling, inputs: DecodeInputs, prompts: Prompts, own: Any = ()
) -> tuple[Context, DecodeState]:
  """Prefill, and the first token of every row; the state has no row caches yet."""
  arch, params, dtype = sampling.arch, inputs.params, sampling.dtype
  last_PD, context = prompt_context(arch, params, prompts, dtype=dtype)
  # prompts of no tokens fill a batch up and never run
  done_B = jnp.repeat(prompts.length_P == 0, sampling.group_size)
  width, branch_B = 0, None
  cache: Any = ()
  if prompts.branches is None:
    logits_PV = decoder.unembed(arch, params, last_PD)
    logits_BV = jnp.repeat(logits_PV, sampling.group_size, axis=0)
    grammar_B = jax.tree.map(lambda x: jnp.repeat(x, sampling.group_size), prompts.grammar_P)
  else:
    last_BD, cache = extend(
      arch, params, prompts.branches, prompts.length_P, last_PD, context, dtype=dtype
    )
    logits_BV = decoder.unembed(arch, params, last_BD)
    done_B |= prompts.branches.length_B < 0
    width, branch_B = prompts.branches.tokens_BC.shape[1], prompts.branches.length_B
    grammar_B = prompts.branches.grammar_B
  B = logits_BV.shape[0]
  state = DecodeState(
    clock=jnp.int32(width),
    over=jnp.bool_(False),
    length_P=prompts.length_P,
    row_P=prompts.row_P,
    count_B=jnp.zeros(B, jnp.int32),
    token_B=jnp.zeros(B, jnp.int32),
    stop_B=jnp.zeros(B, jnp.int32),
    done_B=done_B,
    rollout=Rollout(
      tokens_BC=jnp.full((B, sampling.budget), sampling.pad_id, jnp.int32),
      mask_BC=jnp.zeros((B, sampling.budget), bool),
      logp_BC=jnp.zeros((B, sampling.budget), jnp.float32),
      stopped_B=jnp.zeros(B, bool),
    ),
    row_cache=cache,
    branch_B=branch_B,
    own=own,
    grammar_B=grammar_B,
  )
  prompt_cache = decoding.layout(sampling.layout).prompt_cache(context.cache)
  state = draw(sampling, logits_BV, inputs, state)
  # as a refill gives them back: the compiler, left alone, may place its results elsewhere
  mask_PS, positions_PS = (
    constrain(x, ("batch", None)) for x in (context.mask_PS, context.positions_PS)
  )
  return Context(prompt_cache, mask_PS, positions_PS), state


def start(
  sampling: Sampling, slots: int, inputs: DecodeInputs, prompts: Prompts, own: Any = ()
) -> tuple[Context, DecodeState]:
  """Prefill, and the first token of every row. slots: of the row caches, in tokens."""
  context, state = _begin(sampling, inputs, prompts, own)
  P, dtype = prompts.length_P.shape[0], context.cache.k[0].dtype
  model = decoding.layout(sampling.layout)
  made = model.empty(sampling.arch, P, sampling.group_size, slots, dtype)
  if state.branch_B is not None:
    made = model.place(made, state.row_cache, state.clock - 1, jnp.arange(P, dtype=jnp.int32))
  return context, state._replace(row_cache=made)


def vacant(
  sampling: Sampling, slots: int, inputs: DecodeInputs, prompts: Prompts, own: Any = ()
) -> tuple[Context, DecodeState]:
  """What `start` gives, with nobody in the slots, for `refill` to fill them; computes nothing."""

  def zeros(x):
    axes = ("batch", "kv_heads", None, None, None) if x.ndim > 3 else ("batch", None, None)
    return constrain(jnp.zeros(x.shape, x.dtype), axes[: x.ndim])

  shapes = jax.eval_shape(functools.partial(start, sampling, slots), inputs, prompts, own)
  context, state = jax.tree.map(zeros, shapes)
  ended = {"over": jnp.bool_(True), "done_B": jnp.ones_like(state.done_B)}
  return context, state._replace(clock=jnp.int32(1), **ended)


def refill(
  sampling: Sampling,
  inputs: DecodeInputs,
  prompts: Prompts,
  source_P: jax.Array,
  context: Context,
  state: DecodeState,
  own: Any = (),
) -> tuple[Context, DecodeState]:
  """Puts new prompts into slots whose rows have all ended; the other slots stay as they are.

  prompts: padded to at most the length that the slots have. source_P: which of them slot p takes,
  or -1. context, state: of the slots. own: of the new rows, where `state` has one. The row caches
  need no clearing: a row attends to its newest count_B tokens only, and what the slot's former rows
  wrote into the ring is older than that.
  """
  G = sampling.group_size
  fresh_context, fresh = _begin(sampling, inputs, prompts, own)
  fresh_context = resized(sampling, fresh_context, context.mask_PS.shape[1])
  taken_P, index_P = source_P >= 0, jnp.maximum(source_P, 0)

  def slots(old, new):
    chosen = jnp.take(new, index_P, axis=0)
    chosen = jnp.where(taken_P.reshape(-1, *[1] * (old.ndim - 1)), chosen, old)
    return constrain(chosen, ("batch",) + (None,) * (old.ndim - 1))

  def rows(old, new):
    grouped = [x.reshape(-1, G, *x.shape[1:]) for x in (old, new)]
    return slots(*grouped).reshape(old.shape)

  def caches(old, new):
    chosen = jnp.where(taken_P[:, None, None, None], jnp.take(new, index_P, axis=0), old)
    return constrain(chosen, ("batch", "kv_heads", None, None))

  done_B = rows(state.done_B, fresh.done_B)
  if state.branch_B is not None:
    slot, model = (state.clock - 1) % slots_of(sampling, state), decoding.layout(sampling.layout)
    state = state._replace(
      branch_B=rows(state.branch_B, fresh.branch_B),
      row_cache=model.place(state.row_cache, fresh.row_cache, slot, source_P),
    )
  state = state._replace(
    over=jnp.all(done_B),
    length_P=slots(state.length_P, fresh.length_P),
    row_P=slots(state.row_P, fresh.row_P),
    count_B=rows(state.count_B, fresh.count_B),
    token_B=rows(state.token_B, fresh.token_B),
    stop_B=rows(state.stop_B, fresh.stop_B),
    done_B=done_B,
    rollout=jax.tree.map(rows, state.rollout, fresh.rollout),
    own=jax.tree.map(rows, state.own, fresh.own),
    grammar_B=jax.tree.map(rows, state.grammar_B, fresh.grammar_B),
  )
  context = Context(
    jax.tree.map(caches, context.cache, fresh_context.cache),
    slots(context.mask_PS, fresh_context.mask_PS),
    slots(context.positions_PS, fresh_context.positions_PS),
  )
  return context, state


def slots_of(sampling: Sampling, state: DecodeState) -> int:
  """Slots of the row caches."""
  return state.row_cache.v[0].shape[decoding.layout(sampling.layout).SLOTS]


def resized(sampling: Sampling, context: Context, slots: int) -> Context:
  """The context with room for `slots` tokens of each prompt: padded, or cut (all are shorter)."""

  def to(array, axis):
    array = jax.lax.slice_in_dim(array, 0, min(slots, array.shape[axis]), axis=axis)
    widths = [(0, slots - array.shape[axis] if i == axis else 0) for i in range(array.ndim)]
    return jnp.pad(array, widths)

  if context.mask_PS.shape[1] == slots:
    return context
  axes = decoding.layout(sampling.layout).PROMPT_SLOTS
  cache = (tuple(to(x, axis) for x in part) for part, axis in zip(context.cache, axes))
  return Context(KVCache(*cache), to(context.mask_PS, 1), to(context.positions_PS, 1))


def segment(
  sampling: Sampling,
  inputs: DecodeInputs,
  context: Context,
  state: DecodeState,
  min_free: jax.Array,
) -> DecodeState:
  """Decodes up to `sampling.segment` tokens per row, or until every row has ended.

  min_free: so many slots whose rows have all ended are worth an end of the segment, too.
  """
  G, model = sampling.group_size, decoding.layout(sampling.layout)
  end, slots = state.clock + sampling.segment, slots_of(sampling, state)

  def body(state: DecodeState) -> DecodeState:
    # the newest token enters the cache, then the next one is drawn
    held_B = state.count_B + (0 if state.branch_B is None else state.branch_B)
    position_B = jnp.repeat(state.length_P, G) + held_B - 1
    hidden_BD, row_cache = model.step(
      sampling.arch, inputs.params, inputs.layers, state.token_B, position_B, context,
      state.row_cache, (state.clock - 1) % slots, held_B, dtype=sampling.dtype,
    )  # fmt: skip
    logits_BV = decoder.unembed(sampling.arch, inputs.params, hidden_BD)
    return draw(sampling, logits_BV, inputs, state._replace(row_cache=row_cache))

  def alive(state: DecodeState) -> jax.Array:
    on = (state.clock < end) & ~state.over
    return on & (jnp.sum(state.done_B.reshape(-1, G).all(-1)) < min_free)

  return jax.lax.while_loop(alive, body, state)
