"""The main job on questions of a few words, which a warm start of a second teaches to answer.

Its policy writes `<response>…</response>`, so there is something to judge; `tiny_config` never does.
"""

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
    workdir="runs/short",
    model="random:tiny",
    data=DataConfig(
      root=str(HERE / "short_chains.jsonl"), template="released", max_prompt_tokens=64
    ),
    rollout=RolloutConfig(
      group_size=2, max_new_tokens=24, prompt_buckets=(64,), segment=24, temperature=0.7
    ),
    grpo=GRPOConfig(steps=5, prompts_per_step=4, length_buckets=(24,), kl_coef=0.0),
    optim=OptimConfig(lr=3e-4),
    sft=SFTConfig(
      steps=120,
      batch_size=8,
      max_tokens=96,
      length_bucket=96,
      every=120,
      data=str(HERE / "short_chains.jsonl"),
      optim=OptimConfig(lr=1e-2),
    ),
    eval=EvalConfig(every=2, prompts=4, group_size=2, temperature=0.7, bootstrap=100),
    checkpoint=CheckpointConfig(every=2),
  )
