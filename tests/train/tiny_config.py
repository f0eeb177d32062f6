"""The main job at its smallest: every phase, two evaluations, checkpoints every other step."""

from pathlib import Path

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

HERE = Path(__file__).parent


def config() -> Config:
  return Config(
    workdir="runs/tiny",
    model="random:tiny",
    # bytes are tokens here, and the prompts of the sample set would be long
    data=DataConfig(
      root=str(HERE / "short_chains.jsonl"), template="released", max_prompt_tokens=64
    ),
    rollout=RolloutConfig(group_size=2, max_new_tokens=16, prompt_buckets=(64,), segment=8),
    grpo=GRPOConfig(
      steps=5, prompts_per_step=4, micro_prompts=4, length_buckets=(16,), kl_coef=0.01
    ),
    optim=OptimConfig(lr=1e-3),
    sft=SFTConfig(
      steps=3,
      batch_size=4,
      max_tokens=448,  # all chains that are written from labels: they have 354 bytes at most
      length_bucket=448,
      every=2,
      optim=OptimConfig(lr=1e-3),
    ),
    eval=EvalConfig(every=2, prompts=4, group_size=2, bootstrap=100),
    checkpoint=CheckpointConfig(every=2),
  )
