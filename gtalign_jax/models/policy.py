"""A loaded policy: what `models.load` returns."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gtalign_jax.models import decoder
from gtalign_jax.models.variants import Arch


@dataclass(frozen=True)
class Policy:
  """A model that can be sampled and trained.

  config: its architecture. params: pytree of arrays, layers stacked (decoder.py). tokenizer: a
  transformers fast tokenizer with a chat template. eos_ids: every id that ends a turn.
  """

  config: Arch
  params: Any
  tokenizer: Any
  eos_ids: tuple[int, ...]

  def logits(self, tokens_BT: Any) -> jax.Array:
    """Logits of every position, f32 [B, T, V], fully materialised: for tests and small inputs."""
    return _logits(self.config, self.params, jnp.asarray(tokens_BT, jnp.int32))


@functools.partial(jax.jit, static_argnums=0)
def _logits(arch: Arch, params: Any, tokens_BT: jax.Array) -> jax.Array:
  positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
  ones_BT = jnp.ones(tokens_BT.shape, bool)
  hidden_BTD, _ = decoder.forward(arch, params, tokens_BT, positions_BT, ones_BT)
  return decoder.unembed(arch, params, hidden_BTD)
