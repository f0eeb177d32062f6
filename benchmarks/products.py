"""Rates of single products on CPU, by layout and dtype (docs/performance.md).

  python benchmarks/products.py

Prints one JSON line: dtype -> "M,K,N" -> GFLOP/s of x @ w, x @ wT and wT @ x.T, and where M is the rows of a
training slice also of the kernel's gradient, as a plain product and as ops/cpu.py does it. Results
are f32; the best of six rounds.
"""

import functools
import json
import time

import jax
import jax.numpy as jnp

from gtalign_jax.ops.cpu import outer

SHAPES = ((32, 576, 576), (32, 576, 1536), (32, 1536, 576), (32, 576, 3072), (32, 576, 49152))
TRAINED = ((1024, 576, 1536), (1024, 1536, 576))
LAYOUTS = {"x @ w": "mk,kn->mn", "x @ wT": "mk,nk->mn", "wT @ x.T": "nk,mk->nm"}
GRADIENT = "mk,mn->kn"
einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def rate(spec, shape, dtype, function=None):
  """Best rate of one layout, GFLOP/s."""
  sizes = dict(zip("mkn", shape))
  operands = [
    jnp.ones([sizes[axis] for axis in part], dtype) for part in spec.split("->")[0].split(",")
  ]
  product = jax.jit(function or functools.partial(einsum, spec))
  product(*operands).block_until_ready()
  flops = 2 * shape[0] * shape[1] * shape[2]
  best, calls = float("inf"), max(2, int(1e9 / flops))
  for _ in range(6):
    began = time.perf_counter()
    for _ in range(calls):
      out = product(*operands)
    out.block_until_ready()
    best = min(best, (time.perf_counter() - began) / calls)
  return round(flops / best / 1e9)


def rates(shape, dtype):
  """All layouts of one shape."""
  found = {name: rate(spec, shape, dtype) for name, spec in LAYOUTS.items()}
  if shape in TRAINED:
    found["gradient, plain"] = rate(GRADIENT, shape, dtype)
    found["gradient, outer"] = rate(GRADIENT, shape, dtype, lambda x, dy: outer(x, dy, 1))
  return found


def main():
  out = {
    dtype: {",".join(map(str, shape)): rates(shape, dtype) for shape in (*SHAPES, *TRAINED)}
    for dtype in ("float32", "bfloat16")
  }
  print(json.dumps(out))


main()
