"""A `Grammar` at work on the device: what may be drawn next, and the state after it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gtalign_jax.types import Array, Grammar

END = 1  # the state after a whole chain


def allowed(grammar: Grammar, state: Array, count: Array) -> Array:
  """Which classes may be drawn, bool [..., C]; state, count: [...], of rows with `count` tokens.

  A row that is late, as one of a server whose client wants fewer tokens, takes the shortest way.
  """
  latest = grammar.latest_SC[state]
  return latest >= jnp.minimum(count, latest.max(-1))[..., None]


def masked(grammar: Grammar, logits_BV: Array, state_B: Array, count_B: Array) -> Array:
  """The logits, -inf where a token may not be drawn."""
  allowed_BV = allowed(grammar, state_B, count_B)[:, grammar.class_V]
  return jnp.where(allowed_BV, logits_BV, -jnp.inf)


def moved(grammar: Grammar, state: Array, token: Array) -> Array:
  """The state after one more token."""
  return grammar.next_SC[state, grammar.class_V[token]]


def states(grammar: Grammar, begin_B: Array, tokens_BT: Array, mask_BT: Array) -> Array:
  """State before each token, int32 [B, T]; END where the mask is False.

  begin_B: before the first token. So padding is scored by the whole distribution, which is finite.
  """

  def step(state_B, token_B):
    return moved(grammar, state_B, token_B), state_B

  _, state_TB = jax.lax.scan(step, begin_B, tokens_BT.T)
  return jnp.where(mask_BT, state_TB.T, END)
