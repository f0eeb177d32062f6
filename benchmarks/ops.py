"""Rates of the two vocabulary-sized operations: token_logprobs and sample.

  python benchmarks/ops.py [--rows 32] [--tokens 32] [--width 576] [--vocab 49152] [--repeats 7]

The defaults are SmolLM2-135M's head with 1,024 tokens. Everything is timed in one process, in turns, and
the best of the repeats is reported, beside a plain matmul of the same sizes and jax.random.categorical.
`*_efficiency` is a FLOP rate over the matmul's: the forward pass does one such product; forward and
backward do four, of which one (the logits made again) is not counted as work. Prints one JSON line.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp

from gtalign_jax.ops import sampling
from gtalign_jax.ops.logprobs import BLOCK, token_logprobs


def best(programs, repeats):
  """name -> (wall seconds, CPU seconds), each the smallest over `repeats` rounds of all programs."""
  for run in programs.values():
    jax.block_until_ready(run())
  out = {name: (float("inf"), float("inf")) for name in programs}
  for _ in range(repeats):
    for name, run in programs.items():
      wall, cpu = time.perf_counter(), time.process_time()
      jax.block_until_ready(run())
      spent = time.perf_counter() - wall, time.process_time() - cpu
      out[name] = tuple(map(min, out[name], spent))
  return out


def logprob_programs(args, key):
  """Matmul, forward, forward and backward; the head is an embedding's transpose, as in tied models."""
  keys = jax.random.split(key, 3)
  hidden_BTD = jax.random.normal(keys[0], (args.rows, args.tokens, args.width))
  table_VD = jax.random.normal(keys[1], (args.vocab, args.width)) * 0.05
  tokens_BT = jax.random.randint(keys[2], (args.rows, args.tokens), 0, args.vocab)

  def forward(hidden, table):
    return token_logprobs(hidden, table.T, tokens_BT, block=args.block)

  gradient = jax.grad(lambda hidden, table: forward(hidden, table)[0].sum(), (0, 1))
  product = jax.jit(lambda hidden, table: jnp.einsum("btd,vd->btv", hidden, table))
  compiled = {"matmul": product, "forward": jax.jit(forward), "gradient": jax.jit(gradient)}
  return {name: (lambda f=f: f(hidden_BTD, table_VD)) for name, f in compiled.items()}


def sample_programs(args, key):
  """One draw of `rows` tokens, with its log-probability, in several ways."""
  logits_BV = 3 * jax.random.normal(key, (args.rows, args.vocab))
  row_B = jnp.arange(args.rows)

  def ours(**options):
    def draw(logits_BV):
      return sampling.sample(logits_BV, sampling.row_uniforms(key, 0, row_B, 0), **options)

    return jax.jit(draw)

  def categorical(logits_BV):
    token_B = jax.random.categorical(key, logits_BV)
    return token_B, jnp.take_along_axis(jax.nn.log_softmax(logits_BV), token_B[:, None], 1)

  compiled = {
    "categorical": jax.jit(categorical),
    "sample": ours(),
    "greedy": ours(temperature=0.0),
    "top_k_50": ours(top_k=50),
    "top_p_0.95": ours(top_p=0.95),
    "min_p_0.05": ours(min_p=0.05),
  }
  return {name: (lambda f=f: f(logits_BV)) for name, f in compiled.items()}


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  sizes = {"rows": 32, "tokens": 32, "width": 576, "vocab": 49152, "block": BLOCK, "repeats": 7}
  for name, size in sizes.items():
    parser.add_argument(f"--{name}", type=int, default=size)
  args = parser.parse_args()
  one, two = jax.random.split(jax.random.key(0))
  head = best(logprob_programs(args, one), args.repeats)
  draws = best(sample_programs(args, two), args.repeats)
  flops = 2 * args.rows * args.tokens * args.width * args.vocab
  rate, rate_cpu = (flops / seconds for seconds in head["matmul"])

  def efficiency(name, products):
    wall, cpu = head[name]
    return {
      f"{name}_ms": round(wall * 1e3, 1),
      f"{name}_efficiency": round(products * flops / wall / rate, 3),
      f"{name}_efficiency_cpu_time": round(products * flops / cpu / rate_cpu, 3),
    }

  result = {
    "benchmark": "ops",
    "device": jax.devices()[0].device_kind,
    "work": vars(args),
    "matmul_gflops": round(rate / 1e9, 1),
    "token_logprobs": efficiency("forward", 1) | efficiency("gradient", 3),
    "draw_ms": {name: round(wall * 1e3, 2) for name, (wall, _) in draws.items()},
    "draw_cpu_ms": {name: round(cpu * 1e3, 2) for name, (_, cpu) in draws.items()},
    "sample_speedup": round(draws["categorical"][0] / draws["sample"][0], 1),
  }
  print(json.dumps(result))


if __name__ == "__main__":
  main()
