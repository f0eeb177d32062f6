"""The main job at its smallest: every phase, two evaluations, checkpoints every other step."""

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
    workdir="runs/tiny",
    model="random:tiny",
    data=DataConfig(max_prompt_tokens=1280),
    rollout=RolloutConfig(group_size=2, max_new_tokens=16, prompt_buckets=(1280,), segment=8),
    grpo=GRPOConfig(steps=5, prompts_per_step=4, micro_prompts=4, length_bucket=16, kl_coef=0.01),
    optim=OptimConfig(lr=1e-3),
    sft=SFTConfig(
      steps=3,
      batch_size=8,
      max_tokens=2560,
      length_bucket=2560,
      every=2,
      optim=OptimConfig(lr=1e-3),
    ),
    eval=EvalConfig(every=2, prompts=4, group_size=2, bootstrap=100),
    checkpoint=CheckpointConfig(every=2),
  )
