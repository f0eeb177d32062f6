"""Rates of one f32 product of few rows in three layouts (docs/performance.md).

  python benchmarks/products.py

Prints one JSON line: "M,K,N" -> GFLOP/s of x @ w, x @ wT and wT @ x.T; the best of six rounds.
"""

import json
import time

import jax
import jax.numpy as jnp

SHAPES = ((32, 576, 576), (32, 576, 1536), (32, 1536, 576), (32, 576, 3072), (32, 576, 49152))
LAYOUTS = {"x @ w": "mk,kn->mn", "x @ wT": "mk,nk->mn", "wT @ x.T": "nk,mk->nm"}


def rate(spec, M, K, N):
  """Best rate of one layout, GFLOP/s."""
  sizes = {"m": M, "k": K, "n": N}
  operands = [jnp.ones([sizes[axis] for axis in part]) for part in spec.split("->")[0].split(",")]
  product = jax.jit(lambda a, b: jnp.einsum(spec, a, b))
  product(*operands).block_until_ready()
  best, calls = float("inf"), 2 if N > 10_000 else 10
  for _ in range(6):
    began = time.perf_counter()
    for _ in range(calls):
      out = product(*operands)
    out.block_until_ready()
    best = min(best, (time.perf_counter() - began) / calls)
  return round(2 * M * K * N / best / 1e9)


def main():
  out = {
    ",".join(map(str, shape)): {name: rate(spec, *shape) for name, spec in LAYOUTS.items()}
    for shape in (*SHAPES, (1024, 576, 1536))
  }
  print(json.dumps(out))


main()
