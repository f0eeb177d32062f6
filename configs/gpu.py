"""The quickstart sized for one H100: 512 rows per update in slices of 256, a longer warm start.

  gtalign train configs/gpu.py

Compiled at these shapes for the CPU (`gtalign plan configs/gpu.py --topology cpu:1`: up to 33 GiB)
and not run on a GPU: expect programs that fit 80 GB, not tuned numbers. docs/results.md has 60
updates of a quarter of the rows. All rows are decoded at once, which costs little more per token
than a few. Short of memory, halve grpo.micro_prompts or set rollout.prompts_at_once=32: both are
placement, so the run goes on.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    quickstart(),
    {
      "workdir": "runs/gpu",
      "sft.batch_size": 32,
      "sft.micro_batch": 32,
      "sft.every": 44,
      "grpo.steps": 200,
      "grpo.prompts_per_step": 64,
      "grpo.train_samples": 0,
      "grpo.micro_prompts": 32,
      "grpo.micro_samples": 8,
      # the quickstart's 1e-4 is near the edge even over its three updates (docs/results.md)
      "optim.lr": 5e-5,
      "optim.warmup": 2,
      "eval.every": 20,
      "eval.prompts": 64,
      "checkpoint.every": 20,
    },
  )
