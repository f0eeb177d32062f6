"""Sampling of G completions per prompt: one prefill a prompt, then a decode loop on the device.

The prompt's KV is computed once and shared by its G rows; each row has its own cache for what it
writes. Decoding runs in segments (`lax.while_loop` with early exit), between which the host can look
and put a waiting prompt where all samples of one have ended. A sample depends on (key, step, row, t)
alone: mesh, batch split, refilling and early exit cannot change it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.models import decode, decoder
from gtalign_jax.models.prefix import prompt_context
from gtalign_jax.ops import sampling
from gtalign_jax.parallel.sharding import constrain
from gtalign_jax.sections import RolloutConfig
from gtalign_jax.types import Context, Prompts, Rollout


class Sampling(NamedTuple):
  """How tokens are drawn; hashable, so it is a jit static argument.

  temperature 0 is greedy. budget: new tokens per row. eos_ids: ids that end a row (empty: none do).
  transposed: layout of the decode weights (models/decode.py).
  """

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
  transposed: bool

  def slots(self, segments: int) -> int:
    """Slots of the rows' own caches while segment number `segments` (from 0) is decoded.

    A CPU reads every slot for every token, so there the caches grow, doubling, with what is written.
    """
    if not self.transposed:
      return self.budget
    slots = self.segment
    while slots < min((segments + 1) * self.segment, self.budget):
      slots *= 2
    return min(slots, self.budget)


def sampling_of(
  config: RolloutConfig, eos_ids: tuple[int, ...], pad_id: int, dtype: str, **changes: Any
) -> Sampling:
  """The `Sampling` of a rollout config; `changes` replace single fields."""
  plan = Sampling(
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
    transposed=decode.on_columns(),
  )
  return plan._replace(**changes)


class DecodeState(NamedTuple):
  """The decode loop's carry; rows B = P * G, of P lanes that hold a prompt each.

  clock: tokens drawn since the start, by the row that has run longest. over: no row has anything left
  to decode. length_P, row_P: of the lanes' prompts. count_B: tokens written so far. token_B: the newest
  token. stop_B: state of the stop automaton. done_B: row has ended. own: of `decode.empty`, a ring: the
  token drawn at clock t is in slot t - 1.
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
  own: Any


def _draw(plan: Sampling, logits_BV, key, step, state: DecodeState):
  G = plan.group_size
  row_B = (state.row_P[:, None] * G + jnp.arange(G, dtype=jnp.int32)).reshape(-1)
  uniform_B = sampling.row_uniforms(key, step, row_B, state.count_B)
  return sampling.sample(
    logits_BV,
    uniform_B,
    temperature=plan.temperature,
    top_k=plan.top_k,
    top_p=plan.top_p,
    min_p=plan.min_p,
  )


def _record(plan: Sampling, state: DecodeState, drawn, stop_table) -> DecodeState:
  """Writes each row's next token and moves its stop automaton."""
  token_B, logp_B, truncated_B = drawn
  live_B = ~state.done_B
  token_B = jnp.where(live_B, token_B, plan.pad_id).astype(jnp.int32)
  stop_B = jnp.where(live_B, stop_table[state.stop_B, token_B].astype(jnp.int32), state.stop_B)
  ended_B = stop_B == stop_table.shape[0] - 1
  for eos in plan.eos_ids:
    ended_B |= token_B == eos
  out = state.rollout
  # rows are at columns of their own: a comparison splits over devices, a scatter would not
  column_C = jnp.arange(plan.budget, dtype=jnp.int32)
  here_BC = (column_C == state.count_B[:, None]) & live_B[:, None]

  def put(array_BC, value_B):
    return jnp.where(here_BC, value_B[:, None], array_BC)

  out = Rollout(
    tokens_BC=put(out.tokens_BC, token_B),
    mask_BC=out.mask_BC | here_BC,
    logp_BC=put(out.logp_BC, logp_B),
    truncated_logp_BC=put(out.truncated_logp_BC, truncated_B),
    stopped_B=out.stopped_B | (live_B & ended_B),
  )
  count_B = state.count_B + live_B
  done_B = state.done_B | ended_B | (count_B >= plan.budget)
  return state._replace(
    clock=state.clock + 1,
    over=jnp.all(done_B),
    count_B=count_B,
    token_B=token_B,
    stop_B=stop_B,
    done_B=done_B,
    rollout=out,
  )


def _begin(arch, plan: Sampling, params, prompts: Prompts, stop_table, key, step):
  """Prefill, and the first token of every row. Returns (context, state without caches)."""
  last_PD, context = prompt_context(arch, params, prompts, dtype=plan.dtype)
  logits_PV = decoder.unembed(arch, params, last_PD)
  logits_BV = jnp.repeat(logits_PV, plan.group_size, axis=0)
  B = logits_BV.shape[0]
  state = DecodeState(
    clock=jnp.int32(0),
    over=jnp.bool_(False),
    length_P=prompts.length_P,
    row_P=prompts.row_P,
    count_B=jnp.zeros(B, jnp.int32),
    token_B=jnp.zeros(B, jnp.int32),
    stop_B=jnp.zeros(B, jnp.int32),
    done_B=jnp.repeat(prompts.length_P == 0, plan.group_size),  # padding prompts never run
    rollout=Rollout(
      tokens_BC=jnp.full((B, plan.budget), plan.pad_id, jnp.int32),
      mask_BC=jnp.zeros((B, plan.budget), bool),
      logp_BC=jnp.zeros((B, plan.budget), jnp.float32),
      truncated_logp_BC=jnp.zeros((B, plan.budget), jnp.float32),
      stopped_B=jnp.zeros(B, bool),
    ),
    own=(),
  )
  cache = decode.prompt_cache(context.cache, transposed=plan.transposed)
  drawn = _draw(plan, logits_BV, key, step, state)
  return context._replace(cache=cache), _record(plan, state, drawn, stop_table)


def start(arch, plan: Sampling, params, prompts: Prompts, stop_table, key, step, slots=0):
  """Prefill, and the first token of every row. Returns (context, state).

  slots: of the rows' own caches; 0: as many as the first segment needs.
  """
  context, state = _begin(arch, plan, params, prompts, stop_table, key, step)
  P, dtype = prompts.length_P.shape[0], context.cache.k[0].dtype
  own = decode.empty(
    arch, P, plan.group_size, slots or plan.slots(0), dtype, transposed=plan.transposed
  )
  return context, state._replace(own=own)


def refill(
  arch, plan: Sampling, params, prompts: Prompts, source_P, stop_table, key, step, context, state
):
  """Puts new prompts into lanes; the other lanes stay as they are. Returns (context, state).

  prompts: of the padded length that the lanes have. source_P: which of them lane p takes, or -1.
  The ring of own caches goes round: what a lane's last rows wrote is more than count_B tokens ago.
  """
  fresh_context, fresh = _begin(arch, plan, params, prompts, stop_table, key, step)
  taken_P, index_P = source_P >= 0, jnp.maximum(source_P, 0)

  def lanes(old, new):
    chosen = jnp.take(new, index_P, axis=0)
    chosen = jnp.where(taken_P.reshape(-1, *[1] * (old.ndim - 1)), chosen, old)
    return constrain(chosen, ("batch",) + (None,) * (old.ndim - 1))

  def rows(old, new):
    grouped = [x.reshape(-1, plan.group_size, *x.shape[1:]) for x in (old, new)]
    return lanes(*grouped).reshape(old.shape)

  def caches(old, new):
    chosen = jnp.where(taken_P[:, None, None, None], jnp.take(new, index_P, axis=0), old)
    return constrain(chosen, (*decode.CACHE_AXES[:2], None, None))

  done_B = rows(state.done_B, fresh.done_B)
  state = state._replace(
    over=jnp.all(done_B),
    length_P=lanes(state.length_P, fresh.length_P),
    row_P=lanes(state.row_P, fresh.row_P),
    count_B=rows(state.count_B, fresh.count_B),
    token_B=rows(state.token_B, fresh.token_B),
    stop_B=rows(state.stop_B, fresh.stop_B),
    done_B=done_B,
    rollout=jax.tree.map(rows, state.rollout, fresh.rollout),
  )
  context = Context(
    jax.tree.map(caches, context.cache, fresh_context.cache),
    lanes(context.mask_PS, fresh_context.mask_PS),
    lanes(context.positions_PS, fresh_context.positions_PS),
  )
  return context, state


def segment(
  arch,
  plan: Sampling,
  params,
  layers,
  stop_table,
  key,
  step,
  context,
  state: DecodeState,
  enough=None,
) -> DecodeState:
  """Decodes up to `plan.segment` tokens a row, or until every row has ended.

  layers: of `decode.prepare`. enough: lanes that have ended are worth an end of the segment, too,
  once they are so many (None: never).
  """
  end = state.clock + plan.segment
  slots = state.own.v[0].shape[decode.SLOTS]

  def body(state: DecodeState) -> DecodeState:
    # the newest token enters the cache, then the next one is drawn
    position_B = jnp.repeat(state.length_P, plan.group_size) + state.count_B - 1
    hidden_BD, own = decode.step(
      arch, params, layers, state.token_B, position_B, context, state.own,
      (state.clock - 1) % slots, state.count_B, transposed=plan.transposed, dtype=plan.dtype,
    )  # fmt: skip
    logits_BV = decoder.unembed(arch, params, hidden_BD)
    drawn = _draw(plan, logits_BV, key, step, state)
    return _record(plan, state._replace(own=own), drawn, stop_table)

  def alive(state: DecodeState) -> jax.Array:
    on = (state.clock < end) & ~state.over
    if enough is None:
      return on
    return on & (jnp.sum(state.done_B.reshape(-1, plan.group_size).all(-1)) < enough)

  return jax.lax.while_loop(alive, body, state)
