"""The main job in bf16, where XLA's CPU has kernels for some products only: it ends, and learns as in f32."""

import math

import numpy as np
import pytest
import real_runs

SHORT = ("eval.every=0", "grpo.steps=1")


@pytest.mark.slow
def test_a_run_in_bf16_learns_as_in_f32(tmp_path):
  losses = {}
  for dtype, remat in (("bfloat16", "dots"), ("float32", "none")):
    workdir = tmp_path / dtype
    real_runs.finish(workdir, *SHORT, f"policy.dtype={dtype}", f"policy.remat={remat}")
    rows = real_runs.metrics(workdir)
    losses[dtype] = [row["loss"] for row in rows if row["phase"] == "sft"]
    (update,) = (row for row in rows if row["phase"] == "grpo")
    assert update["skipped_updates"] == 0 and 0 < update["grad_norm"] < math.inf
  narrow, wide = losses["bfloat16"], losses["float32"]
  assert narrow != wide and wide[-1] < wide[0] - 0.1
  np.testing.assert_allclose(narrow, wide, rtol=2e-3)
