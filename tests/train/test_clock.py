"""Where the time went: compilation is booked apart from the phase in which it happens."""

import json
import time

import jax
import jax.numpy as jnp

from gtalign_jax.train.clock import Clock, compiling


def compile_something(size):
  return jax.jit(lambda x: jnp.sin(x) * 3).lower(jnp.ones(size)).compile()


def test_compilation_is_booked_apart(tmp_path):
  with Clock(tmp_path) as clock, clock.phase("update"):
    time.sleep(0.05)
    with compiling() as heard:
      compile_something(5)
  stored = json.loads((tmp_path / "timings.json").read_text())
  assert 0 < sum(heard) <= clock.seconds["compile"] + 1e-6
  assert stored["compile"] > 0 and 0.05 <= stored["update"] < 5
  booked, seconds = clock.seconds["compile"], len(heard)
  compile_something(6)  # nobody listens any more
  clock.save()
  assert clock.seconds["compile"] == booked and len(heard) == seconds
