"""A disk that fills up while a checkpoint is saved, on a real small file system."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax.errors import RunFailure
from gtalign_jax.train.checkpoint import Checkpoints
from gtalign_jax.train.stored import newest


@pytest.fixture
def small_disk(tmp_path):
  if sys.platform != "linux":
    pytest.skip("mounts a tmpfs")
  options = ["-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)]
  if subprocess.run(["mount", *options], capture_output=True).returncode:
    pytest.skip("mounting a small file system needs privileges")
  yield tmp_path
  subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(small_disk):
  state = {"x": jnp.asarray(np.random.default_rng(0).standard_normal(250_000), jnp.float32)}
  expected = pytest.raises(
    RunFailure, match="no space left on the disk; earlier checkpoints are intact"
  )
  with expected, Checkpoints(small_disk / "grpo", keep=9) as checkpoints:
    for step in range(1, 9):
      checkpoints.progress = {"num_tokens": step}
      checkpoints.save(step, state)
  last = newest(small_disk / "grpo")
  assert last is not None
  with Checkpoints(small_disk / "grpo", keep=9) as checkpoints:
    assert checkpoints.step == last
    restored = checkpoints.restore_latest(state)
    assert checkpoints.progress == {"num_tokens": last}
  np.testing.assert_array_equal(restored["x"], state["x"])
