"""Throughput of the jitted reward kernel: payoffs and features -> U, L, W, choice, equilibria.

  python benchmarks/reward_kernel.py [--rows 100000] [--repeats 15]

Prints one JSON line: matrices per second (median, best and all repeats' spread), and the bytes XLA
plans for two batch sizes (memory is linear in B). Float32, corrected mode, all outputs written.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.game import reward
from gtalign_jax.sections import RewardConfig


def rows(count, seed=0):
  """Random chains: payoffs with one decimal, as chains write them, and features in their ranges."""
  rng = np.random.default_rng(seed)
  draw = lambda low, high: jnp.asarray(rng.uniform(low, high, count), jnp.float32)  # noqa: E731
  payoff = jnp.asarray(np.round(rng.uniform(-5, 5, (count, 2, 3, 2)), 1), jnp.float32)
  features = reward.Features(
    draw(0, 1), draw(0, 1), draw(1, 400), draw(50, 900), draw(50, 3000), draw(0, 1), draw(0, 1)
  )
  integers = lambda low, high: jnp.asarray(rng.integers(low, high, count), jnp.int32)  # noqa: E731
  return payoff, features, integers(-1, 6), integers(-1, 2), draw(0, 1)


def kernel(payoff, features, named, user_type, carried_out):
  return reward.play(
    payoff, features, named, user_type, carried_out, RewardConfig(), mode="corrected"
  )


def planned_bytes(count):
  memory = jax.jit(kernel).lower(*rows(count)).compile().memory_analysis()
  return memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rows", type=int, default=100_000, help="matrices a call")
  parser.add_argument("--repeats", type=int, default=15)
  args = parser.parse_args()
  data = rows(args.rows)
  run = jax.jit(kernel)
  jax.block_until_ready(run(*data))
  rates = []
  for _ in range(args.repeats):
    start = time.perf_counter()
    jax.block_until_ready(run(*data))
    rates.append(args.rows / (time.perf_counter() - start))
  small, large = planned_bytes(args.rows // 4), planned_bytes(args.rows)
  print(
    json.dumps(
      {
        "benchmark": "reward_kernel",
        "matrices_per_s_median": round(statistics.median(rates)),
        "matrices_per_s_best": round(max(rates)),
        "matrices_per_s_worst": round(min(rates)),
        "rows": args.rows,
        "repeats": args.repeats,
        "bytes_per_row": large / args.rows,
        "bytes_per_row_quarter_batch": small / (args.rows // 4),
        "cpus": os.cpu_count(),
        "jax": jax.__version__,
      }
    )
  )


if __name__ == "__main__":
  main()
