"""`load`: a policy from a model spec."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gtalign_jax.models import decoder, hf, weights
from gtalign_jax.models.gguf import GGUF
from gtalign_jax.models.locate import RANDOM, locate
from gtalign_jax.models.variants import TINY, Arch
from gtalign_jax.parallel import sharding


@dataclass(frozen=True)
class Policy:
  """A model that can be sampled and trained.

  config: its architecture. params: pytree of arrays, layers stacked (decoder.py). tokenizer: a transformers
  fast tokenizer with a chat template. eos_ids: every id that ends a turn.
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


def load(spec: str | Path, dtype: str = "float32", mesh: Mesh | None = None) -> Policy:
  """Loads a policy.

  spec: Hugging Face directory, hub id, .gguf file, or random:tiny. dtype: of the parameters. mesh: splits the
  parameters over it, each device reading its own part (None: all on the default device).
  Raises BadInput where the files are missing, of an unknown kind, or do not fit their config.
  """
  if str(spec) == RANDOM:
    return _random(dtype, mesh)
  path = locate(str(spec))
  if path.is_dir():
    return hf.load(path, dtype, mesh)
  return _load_gguf(path, dtype, mesh)


def _load_gguf(path: Path, dtype: str, mesh: Mesh | None) -> Policy:
  from gtalign_jax.models import tokenizer

  file = GGUF(path)
  arch = file.arch()
  weights.check(arch, file, path.name)
  made = tokenizer.from_gguf(file.metadata, path.name)
  params = weights.assemble(arch, file, dtype, mesh)
  return Policy(arch, params, made, tokenizer.gguf_eos_ids(file.metadata))


def _random(dtype: str, mesh: Mesh | None) -> Policy:
  from gtalign_jax.models import tokenizer

  weights.check_mesh(TINY, mesh)
  make = functools.partial(decoder.init, TINY, param_dtype=dtype)
  places = None
  if mesh is not None:
    places = sharding.tree_shardings(mesh, decoder.logical_axes(TINY))
  params = jax.jit(make, out_shardings=places)(jax.random.key(0))
  made = tokenizer.tiny()
  return Policy(TINY, params, made, (made.eos_token_id,))
