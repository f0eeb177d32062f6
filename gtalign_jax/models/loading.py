"""`load`: a policy from a model spec."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gtalign_jax.errors import BadInput, RunFailure, first_line
from gtalign_jax.models import decoder, hf, multimodal, tokenizer, vocabulary, weights
from gtalign_jax.models.gguf import GGUF
from gtalign_jax.models.locate import RANDOM, locate
from gtalign_jax.models.variants import TINY, Arch
from gtalign_jax.parallel import sharding


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


def load(spec: str | Path, dtype: str = "float32", mesh: Mesh | None = None) -> Policy:
  """Loads a policy.

  spec: Hugging Face directory, hub id, .gguf file, or random:tiny. dtype: of the parameters. mesh:
  splits the parameters over it, each device reading its own part (None: all on the default device).
  Raises BadInput where the files are missing, of an unknown kind, or do not fit one another.
  """
  if str(spec) == RANDOM:
    return dataclasses.replace(describe(spec), params=_random(dtype, mesh))
  path = locate(str(spec))
  with _one_line(path):
    file = None if path.is_dir() else GGUF(path)
    policy = _describe(path, file, dtype)
    source: weights.Source = file or multimodal.LanguageModel(hf.Safetensors(path))
    weights.check(policy.config, source, str(path))
  # outside: what fails on a device (memory, say) is no fault of the files
  params = weights.assemble(policy.config, source, dtype, mesh)
  return dataclasses.replace(policy, params=params)


def describe(spec: str | Path, dtype: str = "float32") -> Policy:
  """The policy with shapes in place of its parameters; a directory need not hold any weights.

  Raises BadInput as `load` does.
  """
  if str(spec) == RANDOM:
    made = tokenizer.tiny()
    return Policy(TINY, decoder.abstract(TINY, dtype), made, (made.eos_token_id,))
  path = locate(str(spec))
  with _one_line(path):
    return _describe(path, None if path.is_dir() else GGUF(path), dtype)


def _describe(path: Path, file: GGUF | None, dtype: str) -> Policy:
  arch, made, eos_ids = hf.describe(path) if file is None else file.describe()
  arch = dataclasses.replace(arch, blank=vocabulary.blank(made, arch.vocab_size, str(path)))
  # here, not at the first chain: a tokenizer that cannot spell tags would train to no reward at all
  vocabulary.check_chain(made, str(path))
  return Policy(arch, decoder.abstract(arch, dtype), made, eos_ids)


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
  """Turns whatever files of a stranger's making can provoke in the readers into one line."""
  try:
    yield
  except (BadInput, RunFailure):
    raise
  except Exception as error:  # MemoryError as well: a header may ask for any size
    reason = f"{type(error).__name__}: {first_line(error)}"
    raise BadInput(f"model {str(path)!r} cannot be read ({reason})") from error


def _random(dtype: str, mesh: Mesh | None) -> Any:
  weights.check_mesh(TINY, mesh)
  make = functools.partial(decoder.init, TINY, param_dtype=dtype)
  axes = decoder.logical_axes(TINY)
  places = None if mesh is None else sharding.tree_shardings(mesh, axes)
  return jax.jit(make, out_shardings=places)(jax.random.key(0))  # never whole on one device
