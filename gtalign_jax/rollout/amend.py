"""A row goes on from other tokens than it wrote; what it computed before the first of them stays.

The edit of a chain's payoffs changes some tokens in the middle. Prompt and tokens up to the first
changed one have their keys and values in the caches already; only the rest is read anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.models import decoder, decoding
from gtalign_jax.rollout import generate
from gtalign_jax.rollout.generate import DecodeInputs, DecodeState, Sampling
from gtalign_jax.types import Context, KVCache, Leaf, Rollout


class Amendment(NamedTuple):
  """Scalars, int32, and the new tokens of one row.

  lane: its slot. kept: tokens of its own that stay, fewer than it has written. tokens_M: those that
  follow them, right-padded, `length` of them, at least one. number: of the draws after them.
  grammar: state after them, None without one.
  """

  lane: Leaf
  kept: Leaf
  tokens_M: Leaf
  length: Leaf
  number: Leaf
  grammar: Leaf = None


def amend(
  sampling: Sampling, inputs: DecodeInputs, new: Amendment, context: Context, state: DecodeState
) -> DecodeState:
  """The state in which row `new.lane`, still running, has written other tokens, and drawn one more.

  Groups of one. What follows the new tokens draws as a row that has just begun.
  """
  arch, slots = sampling.arch, generate.slots_of(sampling, state)
  one = jax.tree.map(lambda x: x[new.lane][None], _rows(state))
  count, clock = new.kept + new.length, state.clock
  prompt, row = (_lane(sampling, x, new.lane) for x in (context.cache, state.row_cache))
  # token j of the row is in slot clock - count + j, but for the newest, which is in none yet
  begun = clock - one.count_B[0]
  token_C = one.count_B[0] - 2 - (clock - 2 - jnp.arange(slots, dtype=jnp.int32)) % slots
  seen = Context(
    # on a CPU the cache of prompts is wider than what is computed
    KVCache(*(jnp.concatenate(parts, 3).astype(sampling.dtype) for parts in zip(prompt, row))),
    jnp.concatenate([context.mask_PS[new.lane], (token_C >= 0) & (token_C < new.kept)])[None],
    jnp.concatenate([context.positions_PS[new.lane], one.length_P[0] + token_C])[None],
  )
  place_M = jnp.arange(new.tokens_M.shape[0], dtype=jnp.int32)
  hidden_1MD, tail = decoder.forward(
    arch, inputs.params, new.tokens_M[None], (one.length_P[0] + new.kept + place_M)[None],
    (place_M < new.length)[None], context=seen, dtype=sampling.dtype,
  )  # fmt: skip
  logits_1V = decoder.unembed(arch, inputs.params, hidden_1MD[:, new.length - 1])
  fresh = generate.draw(sampling, logits_1V, inputs, _rewritten(sampling, one, new))
  # left-padded, as `place` wants them: the kept tokens, then the new ones
  token_W = jnp.arange(slots, dtype=jnp.int32) - (slots - count)
  from_W = jnp.where(token_W < new.kept, (begun + token_W) % slots, slots + token_W - new.kept)
  whole = (
    jnp.take(jnp.concatenate([a, b.astype(a.dtype)], 3), from_W, axis=3, mode="clip")
    for a, b in zip(row, tail)
  )
  mine_P = jnp.arange(state.length_P.shape[0], dtype=jnp.int32) == new.lane
  row_cache = decoding.layout(sampling.layout).place(
    state.row_cache, KVCache(*whole), (clock - 1) % slots, jnp.where(mine_P, 0, -1)
  )

  def put(old, one):  # a comparison splits over devices, a scatter would not
    return jnp.where(mine_P.reshape(-1, *[1] * (old.ndim - 1)), one, old)

  state = jax.tree.map(put, _rows(state), _rows(fresh))
  return state._replace(clock=clock, over=jnp.all(state.done_B), row_cache=row_cache)


def _rows(state: DecodeState) -> DecodeState:
  """What has a row for each lane, and is no cache."""
  nothing: Any = ()
  return state._replace(clock=nothing, over=nothing, row_cache=nothing)


def _lane(sampling: Sampling, cache: KVCache, lane: jax.Array) -> KVCache:
  """One lane of a prompt cache or of a row cache as `decoder.forward` reads it, [L, 1, K, S, H]."""
  axes = decoding.layout(sampling.layout).PROMPT_SLOTS
  return KVCache(
    *(
      jnp.stack([jnp.moveaxis(x[lane].reshape(-1, *x.shape[-2:]), axis - 1, 1) for x in part])[
        :, None
      ]
      for part, axis in zip(cache, axes)
    )
  )


def _rewritten(sampling: Sampling, one: DecodeState, new: Amendment) -> DecodeState:
  """The row with its new tokens, about to draw."""
  column_C = jnp.arange(sampling.budget, dtype=jnp.int32)
  kept_1C, given_1C = (column_C < new.kept)[None], (column_C < new.kept + new.length)[None]
  tail_1C = jnp.take(new.tokens_M, column_C - new.kept, mode="clip")[None]
  out, count_B = one.rollout, (new.kept + new.length)[None]
  tokens_BC = jnp.where(given_1C, tail_1C, sampling.pad_id)
  return one._replace(
    clock=jnp.int32(0),
    row_P=new.number[None],
    count_B=count_B,
    stop_B=jnp.zeros_like(one.stop_B),
    grammar_B=None if new.grammar is None else new.grammar[None],
    own=one.own._replace(begun_B=count_B),
    rollout=Rollout(
      tokens_BC=jnp.where(kept_1C, out.tokens_BC, tokens_BC),
      mask_BC=given_1C,
      logp_BC=jnp.where(kept_1C, out.logp_BC, 0),
      stopped_B=out.stopped_B,
    ),
  )
