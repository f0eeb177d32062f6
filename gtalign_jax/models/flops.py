"""Model FLOPs of rollouts and updates: what the algorithm needs, recomputation not counted."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.models import decoder
from gtalign_jax.models.variants import Arch


@functools.cache
def _layer_weights(arch: Arch) -> int:
  """Weights of all layers that tokens are multiplied with; norms and biases have fewer axes."""
  return sum(x.size for x in jax.tree.leaves(decoder.abstract(arch)["layers"]) if x.ndim > 2)


def update_flops(arch: Arch, length_P: np.ndarray, count_PG: np.ndarray) -> float:
  """FLOPs of one forward and backward pass over prompts and their completions.

  6 per weight and token that meets it, and 12 per attended pair and unit of width (Kaplan et al.
  2020; 2 and 4 forward, twice that backward). length_P: prompt tokens. count_PG: completion tokens,
  at least 1.
  """
  # prompts meet the layers once, completions the layers and the head
  fed_PG, length_P1 = np.asarray(count_PG, float) - 1, np.asarray(length_P, float)[:, None]
  pairs = (length_P1 * (length_P1 + 1) / 2).sum() + (fed_PG * (length_P1 + (fed_PG + 1) / 2)).sum()
  attention = 12 * arch.num_layers * arch.num_heads * arch.head_dim * pairs
  tokens = length_P1.sum() + fed_PG.sum()  # the last token of a completion is not fed
  head = arch.vocab_size * arch.width * np.sum(count_PG)
  return float(6 * _layer_weights(arch) * tokens + 6 * head + attention)


def uniform_flops(arch: Arch, prompts: int, group_size: int, tokens: int, new: int) -> float:
  """`update_flops` where all prompts have `tokens` tokens and all completions `new`."""
  return update_flops(arch, np.full(prompts, tokens), np.full((prompts, group_size), new))


def matmul_gflops(dtype: str, tries: int = 5) -> float:
  """Best rate of a square matmul in this process, summed in f32, 1e9 FLOP/s."""
  # 2048 keeps a CPU busy for 0.1 s; an H100 is through in the time that a call takes (134 TFLOP/s)
  size = 2048 if jax.default_backend() == "cpu" else 8192
  x = jnp.ones((size, size), dtype)
  product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
  product(x, x).block_until_ready()
  best = float("inf")
  for _ in range(tries):
    began = time.perf_counter()
    product(x, x).block_until_ready()
    best = min(best, time.perf_counter() - began)
  return 2 * size**3 / best / 1e9
