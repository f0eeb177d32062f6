"""`load`: a policy from a model spec."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
from jax.sharding import Mesh

from gtalign_jax.models import decoder, hf, tokenizer, weights
from gtalign_jax.models.gguf import GGUF
from gtalign_jax.models.locate import RANDOM, locate
from gtalign_jax.models.policy import Policy
from gtalign_jax.models.variants import TINY
from gtalign_jax.parallel import sharding


def load(spec: str | Path, dtype: str = "float32", mesh: Mesh | None = None) -> Policy:
  """Loads a policy.

  spec: Hugging Face directory, hub id, .gguf file, or random:tiny. dtype: of the parameters. mesh:
  splits the parameters over it, each device reading its own part (None: all on the default device).
  Raises BadInput where the files are missing, of an unknown kind, or do not fit their config.
  """
  if str(spec) == RANDOM:
    return _random(dtype, mesh)
  path = locate(str(spec))
  if path.is_dir():
    return hf.load(path, dtype, mesh)
  return _load_gguf(path, dtype, mesh)


def _load_gguf(path: Path, dtype: str, mesh: Mesh | None) -> Policy:
  file = GGUF(path)
  arch = file.arch()
  weights.check(arch, file, path.name)
  made = tokenizer.from_gguf(file.metadata, path.name)
  params = weights.assemble(arch, file, dtype, mesh)
  return Policy(arch, params, made, tokenizer.gguf_eos_ids(file.metadata))


def _random(dtype: str, mesh: Mesh | None) -> Policy:
  weights.check_mesh(TINY, mesh)
  make = functools.partial(decoder.init, TINY, param_dtype=dtype)
  places = None
  if mesh is not None:
    places = sharding.tree_shardings(mesh, decoder.logical_axes(TINY))
  params = jax.jit(make, out_shardings=places)(jax.random.key(0))
  made = tokenizer.tiny()
  return Policy(TINY, params, made, (made.eos_token_id,))
