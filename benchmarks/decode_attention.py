"""Attention of one decoded token in ways of reading the caches of rows and prompts (docs/performance.md).

  python benchmarks/decode_attention.py

30 layers of SmolLM2-135M (9 query heads on 3 of keys and values, width 64), 32 rows of 4 and of 16 prompts
of 236 tokens, 128 own slots, f32. Prints one JSON line a number of prompts: way -> median milliseconds of all layers.
"""

import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

ROWS, K, R, C, S, H, L = 32, 3, 3, 128, 236, 64, 30


def matmul(q, k):
  """Keys [P, K, G, C, H]: P * K * G products of 3 rows."""
  return jnp.einsum("pkgrh,pkgch->pkgrc", q, k)


def fused(q, k):
  """Keys [P, K, G, H, C]: one multiplication and sum."""
  return jnp.sum(q[..., None] * k[:, :, :, None], axis=4)


def nothing(q, k):
  """No product at all: what the rest costs."""
  return q[..., :1] * jnp.ones(C)


def attend(logits, keys, q, own, far):
  near = logits(q, own[0])
  beyond = jnp.einsum(f"pkgrh,{keys}->pkgrs", q, far[0])
  top = jnp.maximum(near.max(-1, keepdims=True), beyond.max(-1, keepdims=True))
  near, beyond = jnp.exp(near - top), jnp.exp(beyond - top)
  total = near.sum(-1, keepdims=True) + beyond.sum(-1, keepdims=True)
  out = jnp.einsum("pkgrs,pksh->pkgrh", beyond, far[1])
  return (out + jnp.einsum("pkgrc,pkgch->pkgrh", near, own[1])) / total


def median_ms(P, logits, inner, keys):
  """P prompts. inner: axes of a row's own keys. keys: axes of the prompts' keys."""
  G = ROWS // P

  @jax.jit
  def layers(q, own, far):
    for each, context in zip(own, far):
      q = attend(logits, keys, q, each, context)
    return q

  draw = functools.partial(jax.random.normal, jax.random.key(0))
  own = [(draw((P, K, G, *inner)), draw((P, K, G, C, H))) for _ in range(L)]
  beyond = {"pksh": (S, H), "pkhs": (H, S)}[keys]
  far = [(draw((P, K, *beyond)), draw((P, K, S, H))) for _ in range(L)]
  q = draw((P, K, G, R, H)) / H
  layers(q, own, far).block_until_ready()
  seconds = []
  for _ in range(15):
    began = time.perf_counter()
    layers(q, own, far).block_until_ready()
    seconds.append(time.perf_counter() - began)
  return round(float(np.median(seconds)) * 1e3, 1)


def main():
  for prompts in (4, 16):
    out = {
      "own keys [.., C, H], matmuls": median_ms(prompts, matmul, (C, H), "pkhs"),
      "own keys [.., H, C], fused; prompts' keys [.., H, S]": median_ms(
        prompts, fused, (H, C), "pkhs"
      ),
      "the same, prompts' keys [.., S, H]": median_ms(prompts, fused, (H, C), "pksh"),
      "no product with own keys": median_ms(prompts, nothing, (C, H), "pkhs"),
    }
    print(json.dumps({"prompts": prompts} | out), flush=True)


main()
