"""Prompts computed once and shared by their completions, for sampling and for training alike.

A prompt of T tokens with G completions of C tokens costs T + G*C token passes instead of G*(T + C).
Gradients flow through the shared keys and values, so the result is that of the plain layout.
"""

import jax
import jax.numpy as jnp

from gtalign_jax.models import decoder
from gtalign_jax.types import Branches, Context, KVCache, Prompts


def prompt_context(
  arch, params, prompts: Prompts, *, dtype: str, remat: str = "none"
) -> tuple[jax.Array, Context]:
  """Forward pass of prompts: hidden state of the last token of each [P, D], and their KV."""
  slots_1T = jnp.arange(prompts.tokens_PT.shape[1], dtype=jnp.int32)[None]
  mask_PT = slots_1T < prompts.length_P[:, None]
  positions_PT = jnp.broadcast_to(slots_1T, mask_PT.shape)
  hidden_PTD, cache = decoder.forward(
    arch, params, prompts.tokens_PT, positions_PT, mask_PT, dtype=dtype, remat=remat
  )
  last_P11 = jnp.maximum(prompts.length_P - 1, 0)[:, None, None]  # a row of padding has length 0
  last_PD = jnp.take_along_axis(hidden_PTD, last_P11, axis=1)[:, 0]
  return last_PD, Context(cache, mask_PT, positions_PT)


def extend(
  arch, params, branches: Branches, length_P, last_PD, context: Context, *, dtype: str
) -> tuple[jax.Array, KVCache]:
  """Forward pass of branches on top of their prompts' KV, which is neither copied nor recomputed.

  last_PD, context: of `prompt_context`. Returns the hidden state of each row's last token [B, D],
  which is that of its prompt where the branch is empty, and the branches' KV [L, B, K, C, H].
  """
  B, C = branches.tokens_BC.shape
  G = B // length_P.shape[0]
  # left-padded: the last token is in the last column, and the KV lies as the ring of a row cache
  place_BC = jnp.arange(C, dtype=jnp.int32) - C + branches.length_B[:, None]
  positions_BC = jnp.repeat(length_P, G)[:, None] + place_BC
  hidden_BCD, cache = decoder.forward(
    arch, params, branches.tokens_BC, positions_BC, place_BC >= 0, context=context, dtype=dtype
  )
  some_B1 = branches.length_B[:, None] > 0
  return jnp.where(some_B1, hidden_BCD[:, -1], jnp.repeat(last_PD, G, axis=0)), cache


def hidden(
  arch, params, prompts: Prompts, tokens_BC, *, dtype: str, remat: str = "none"
) -> jax.Array:
  """Hidden states that predict each completion token, [B, C, D].

  tokens_BC: completions, right-padded, B = P * G prompt-major.
  """
  last_PD, context = prompt_context(arch, params, prompts, dtype=dtype, remat=remat)
  length_P = prompts.length_P
  G = tokens_BC.shape[0] // length_P.shape[0]
  first_B1D = jnp.repeat(last_PD, G, axis=0)[:, None]
  fed_BC = tokens_BC[:, :-1]  # the last token predicts nothing that is trained
  if not fed_BC.shape[1]:
    return first_B1D
  positions_BC = jnp.repeat(length_P, G)[:, None] + jnp.arange(fed_BC.shape[1], dtype=jnp.int32)
  # padding comes after every real token of its row, so causality alone keeps it unseen
  all_BC = jnp.ones_like(positions_BC, bool)
  hidden_BCD, _ = decoder.forward(
    arch, params, fed_BC, positions_BC, all_BC, context=context, dtype=dtype, remat=remat
  )
  return jnp.concatenate([first_B1D.astype(hidden_BCD.dtype), hidden_BCD], axis=1)
