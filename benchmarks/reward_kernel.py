"""Throughput of the jitted reward kernel: payoffs and features -> U, L, W, choice, equilibria.

  python benchmarks/reward_kernel.py [--rows 100000] [--repeats 31]

Prints one JSON line: matrices per second (wall clock: median, best, worst of the repeats), the
profile as processor nanoseconds per matrix of each part compiled alone (medians; other load on the
machine moves these less), and the bytes XLA plans per row at two batch sizes (equal: memory is
linear in B). Float32, corrected mode, every output of `reward.kernel` written.
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

from gtalign_jax.game import equilibrium, reward
from gtalign_jax.game import payoff as matrices
from gtalign_jax.reward_section import RewardConfig

WEIGHTS = RewardConfig()


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
  return reward.kernel(payoff, features, named, user_type, carried_out, WEIGHTS, mode="corrected")


# Parts compiled alone; `pass over payoffs` reads and writes them once: the floor of memory traffic.
PARTS = {
  "all": kernel,
  "U, L, W, score": lambda p, f, *_: reward.terms(f, WEIGHTS, "corrected"),
  "choice": lambda p, f, named, user_type, _: matrices.choose(p, user_type),
  "equilibria": lambda p, *_: equilibrium.equilibria(p),
  "equilibria and outcome": lambda p, *_: (equilibrium.equilibria(p), equilibrium.outcome(p)),
  "pass over payoffs": lambda p, *_: 1.5 * p,
}


def timed(function, data, repeats, clock):
  """Seconds of each of `repeats` calls after one warm-up, by `clock`."""
  run = jax.jit(function)
  jax.block_until_ready(run(*data))
  seconds = []
  for _ in range(repeats):
    start = clock()
    jax.block_until_ready(run(*data))
    seconds.append(clock() - start)
  return seconds


def planned_bytes(count):
  memory = jax.jit(kernel).lower(*rows(count)).compile().memory_analysis()
  return memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rows", type=int, default=100_000, help="matrices a call")
  parser.add_argument("--repeats", type=int, default=31)
  args = parser.parse_args()
  data = rows(args.rows)
  rates = [args.rows / each for each in timed(kernel, data, args.repeats, time.perf_counter)]
  profile = {
    name: statistics.median(timed(part, data, args.repeats, time.process_time)) / args.rows * 1e9
    for name, part in PARTS.items()
  }
  quarter = args.rows // 4
  result = {
    "benchmark": "reward_kernel",
    "matrices_per_s": round(statistics.median(rates)),
    "best": round(max(rates)),
    "worst": round(min(rates)),
    "rows": args.rows,
    "repeats": args.repeats,
    "cpu_ns_per_matrix": {name: round(value, 1) for name, value in profile.items()},
    "bytes_per_row": {str(n): round(planned_bytes(n) / n, 1) for n in (quarter, args.rows)},
    "cpus": os.cpu_count(),
    "load": round(os.getloadavg()[0], 1),
    "jax": jax.__version__,
  }
  print(json.dumps(result))


if __name__ == "__main__":
  main()
