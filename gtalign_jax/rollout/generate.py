"""Sampling of G completions per prompt: one prefill a prompt, then a decode loop on the device.

The prompt's KV is computed once and shared by its G rows; each row has its own cache for what it
writes. Decoding runs in segments (`lax.while_loop` with early exit), between which the host can look.
A sample depends on (key, step, row, t) alone: mesh, batch split and early exit cannot change it.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.models import decode, decoder
from gtalign_jax.models.prefix import prompt_context
from gtalign_jax.ops import sampling
from gtalign_jax.sections import RolloutConfig
from gtalign_jax.types import KVCache, Prompts, Rollout


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
  """The decode loop's carry; rows B = P * G.

  t: tokens written so far. token_B: the newest token. stop_B: state of the stop automaton.
  done_B: row has ended. over: nothing is left to decode. own: of `decode.empty`.
  """

  t: jax.Array
  over: jax.Array
  token_B: jax.Array
  stop_B: jax.Array
  done_B: jax.Array
  rollout: Rollout
  own: KVCache


def _draw(plan: Sampling, logits_BV, key, step, row_B, t):
  uniform_B = sampling.row_uniforms(key, step, row_B, t)
  return sampling.sample(
    logits_BV,
    uniform_B,
    temperature=plan.temperature,
    top_k=plan.top_k,
    top_p=plan.top_p,
    min_p=plan.min_p,
  )


def _record(plan: Sampling, state: DecodeState, drawn, stop_table) -> DecodeState:
  """Writes the tokens drawn at time `state.t` and moves the stop automaton."""
  token_B, logp_B, truncated_B = drawn
  live_B = ~state.done_B
  token_B = jnp.where(live_B, token_B, plan.pad_id).astype(jnp.int32)
  stop_B = jnp.where(live_B, stop_table[state.stop_B, token_B].astype(jnp.int32), state.stop_B)
  ended_B = stop_B == stop_table.shape[0] - 1
  for eos in plan.eos_ids:
    ended_B |= token_B == eos
  out = state.rollout

  def put(array_BC, value_B):
    column_B1 = jnp.where(live_B, value_B, 0).astype(array_BC.dtype)[:, None]
    return jax.lax.dynamic_update_slice_in_dim(array_BC, column_B1, state.t, axis=1)

  pad_B = jnp.full_like(token_B, plan.pad_id)
  out = Rollout(
    tokens_BC=jax.lax.dynamic_update_slice_in_dim(
      out.tokens_BC, jnp.where(live_B, token_B, pad_B)[:, None], state.t, axis=1
    ),
    mask_BC=put(out.mask_BC, live_B),
    logp_BC=put(out.logp_BC, logp_B),
    truncated_logp_BC=put(out.truncated_logp_BC, truncated_B),
    stopped_B=out.stopped_B | (live_B & ended_B),
  )
  t, done_B = state.t + 1, state.done_B | ended_B
  over = jnp.all(done_B) | (t >= plan.budget)
  return DecodeState(t, over, token_B, stop_B, done_B, out, state.own)


def rows(prompts: Prompts, group_size: int) -> jax.Array:
  """Global row ids [B] of the completions of `prompts`; keys are derived from them."""
  return (prompts.row_P[:, None] * group_size + jnp.arange(group_size, dtype=jnp.int32)).reshape(-1)


def start(arch, plan: Sampling, params, prompts: Prompts, stop_table, key, step):
  """Prefill, and the first token of every row. Returns (context, state)."""
  last_PD, context = prompt_context(arch, params, prompts, dtype=plan.dtype)
  logits_PV = decoder.unembed(arch, params, last_PD)
  logits_BV = jnp.repeat(logits_PV, plan.group_size, axis=0)
  B = logits_BV.shape[0]
  P, dtype = prompts.length_P.shape[0], context.cache.k.dtype
  own = decode.empty(arch, P, plan.group_size, plan.slots(0), dtype, transposed=plan.transposed)
  state = DecodeState(
    t=jnp.int32(0),
    over=jnp.bool_(False),
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
    own=own,
  )
  drawn = _draw(plan, logits_BV, key, step, rows(prompts, plan.group_size), state.t)
  cache = KVCache(decode.unstack(context.cache.k), decode.unstack(context.cache.v))
  context = context._replace(cache=cache)
  return context, _record(plan, state, drawn, stop_table)


def segment(
  arch,
  plan: Sampling,
  params,
  layers,
  prompts: Prompts,
  stop_table,
  key,
  step,
  context,
  state: DecodeState,
) -> DecodeState:
  """Decodes up to `plan.segment` tokens a row, or until every row has ended.

  layers: of `decode.prepare`.
  """
  row_B = rows(prompts, plan.group_size)
  length_B = jnp.repeat(prompts.length_P, plan.group_size)
  end = jnp.minimum(state.t + plan.segment, plan.budget)

  def body(state: DecodeState) -> DecodeState:
    slot = state.t - 1  # the newest token enters the cache, then the next one is drawn
    hidden_BD, own = decode.step(
      arch, params, layers, state.token_B, length_B + slot, context, state.own, slot,
      transposed=plan.transposed, dtype=plan.dtype,
    )  # fmt: skip
    logits_BV = decoder.unembed(arch, params, hidden_BD)
    drawn = _draw(plan, logits_BV, key, step, row_B, state.t)
    return _record(plan, state._replace(own=own), drawn, stop_table)

  def alive(state: DecodeState) -> jax.Array:
    return (state.t < end) & ~state.over

  return jax.lax.while_loop(alive, body, state)


class Sampler:
  """Host handle of the jitted programs for one architecture and one way of sampling.

  start: prefill. prepare: layers as the decode loop reads them. segment: some tokens of every row.
  """

  def __init__(self, arch, plan: Sampling, stop_table: np.ndarray):
    self.plan = plan
    self._stop_table = jnp.asarray(stop_table)
    self.start = jax.jit(functools.partial(start, arch, plan))
    self.prepare = jax.jit(functools.partial(decode.prepare, transposed=plan.transposed))
    self.segment = jax.jit(functools.partial(segment, arch, plan), donate_argnums=(7,))
    self._grow = jax.jit(
      functools.partial(decode.grow, transposed=plan.transposed), static_argnums=1
    )

  def prefill(self, params, prompts: Prompts, key: jax.Array, step: jax.Array):
    """Prompt pass and first token of every row; returns (context, state) for `decode`."""
    return self.start(params, prompts, self._stop_table, key, step)

  def decode(self, params, prompts: Prompts, key, step, context, state: DecodeState) -> Rollout:
    """Decodes until every row has ended; `state` is donated."""
    layers = self.prepare(params)
    for number in itertools.count():
      slots = self.plan.slots(number)
      if number and slots != self.plan.slots(number - 1):
        state = state._replace(own=self._grow(state.own, slots))
      state = self.segment(params, layers, prompts, self._stop_table, key, step, context, state)
      if bool(state.over):
        break
    return state.rollout

  def __call__(self, params, prompts: Prompts, key: jax.Array, step: jax.Array) -> Rollout:
    """Samples `plan.group_size` completions for each prompt; returns device arrays."""
    context, state = self.prefill(params, prompts, key, step)
    return self.decode(params, prompts, key, step, context, state)
