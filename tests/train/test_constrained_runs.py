"""A run whose every chain parses: sampled, edited, scored and evaluated under `rollout.constrain`."""

import pytest
import short_config
from real_runs import metrics

from gtalign_jax.config import vary
from gtalign_jax.train import loop

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_programs", "one_device")]
CHANGES = {
  "rollout.constrain": (20, 120, 20, 30),
  "rollout.max_new_tokens": 190,
  "rollout.intervene": 0.25,
  "rollout.prompt_buckets": (256,),
  "rollout.segment": 190,
  "grpo.length_buckets": (189,),
  "grpo.micro_prompts": 2,
  "grpo.inner_epochs": 2,
  "grpo.kl_coef": 0.01,
  "grpo.steps": 1,
  "eval.every": 0,
  "sft.steps": 0,
}


def test_an_untrained_policy_trains_on_chains_that_parse(tmp_path):
  loop.train(vary(short_config.config(), {"workdir": str(tmp_path)} | CHANGES))
  rows = metrics(tmp_path)
  (step,) = [row for row in rows if row["phase"] == "grpo"]
  assert step["chain/parse_rate"] == 1 and step["completions/clipped_ratio"] == 0
  assert step["rollout/intervened_frac"] == 0.25 and step["grad_norm"] > 0
  # whole chains and those that go on after an edit, the first update and the second
  assert step["sampling/sampling_logp_difference/max"] < 1e-4
  assert 0 <= step["kl"] < 0.1 and 0 < step["entropy"] < 5
  assert all(row["chain/parse_rate"] == 1 for row in rows if row["phase"] == "eval")
