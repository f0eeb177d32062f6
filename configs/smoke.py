"""A tiny random model on the sample prompts: every room, 8 GRPO steps.

45-84 s on 2 CPU cores, 23-36 s with cached programs.

  gtalign train configs/smoke.py workdir=runs/smoke

Needs nothing beyond `pip install -e .[dev]`. Expect a parse rate near 0 (the model is random) and
files in the work directory: metrics.jsonl, samples/, checkpoints/, eval/, report.html, DONE.
"""

from gtalign_jax.config import (
  CheckpointConfig,
  Config,
  DataConfig,
  EvalConfig,
  GRPOConfig,
  OptimConfig,
  RolloutConfig,
  SFTConfig,
)


def config() -> Config:
  return Config(
    workdir="runs/smoke",
    model="random:tiny",
    # bytes are tokens here, so prompts are long
    data=DataConfig(max_prompt_tokens=1536),
    rollout=RolloutConfig(group_size=4, max_new_tokens=48, prompt_buckets=(1536,), segment=48),
    grpo=GRPOConfig(steps=8, prompts_per_step=4, length_buckets=(48,), kl_coef=0.01),
    optim=OptimConfig(lr=1e-3),
    sft=SFTConfig(
      steps=4, batch_size=4, max_tokens=2560, length_bucket=512, every=2, optim=OptimConfig(lr=1e-3)
    ),
    eval=EvalConfig(every=4, prompts=4, group_size=2, bootstrap=200),
    checkpoint=CheckpointConfig(every=3),
  )
