r"""Qwen2.5-3B-Instruct on a v5e-16 slice (4x4): the recipe of the paper's size, full weights.

  gtalign plan configs/qwen3b_v5e16.py --topology v5e:4x4 --arch configs/arch/qwen2.5-3b.json
  TPU=… ZONE=… ACCELERATOR=v5litepod-16 \
    ./launch/tpu_vm.sh configs/qwen3b_v5e16.py workdir=/mnt/shared/run

The first command runs anywhere with libtpu installed and says what fits (docs/tpu.md); the second
trains. Not run on a TPU by the project yet: expect compiled programs that fit, not tuned numbers.
The model has 2 key-value heads, so mesh.tensor is at most 2; the other 8 ways split weights and
rows (fsdp).
"""

from gtalign_jax.config import (
  CheckpointConfig,
  Config,
  DataConfig,
  EvalConfig,
  GRPOConfig,
  MeshConfig,
  OptimConfig,
  PolicyConfig,
  RolloutConfig,
)


def config() -> Config:
  return Config(
    workdir="runs/qwen3b_v5e16",
    model="Qwen/Qwen2.5-3B-Instruct",
    policy=PolicyConfig(dtype="bfloat16", remat="full"),
    data=DataConfig(template="full", max_prompt_tokens=1024),
    rollout=RolloutConfig(
      group_size=8,
      max_new_tokens=1024,
      prompt_buckets=(512, 1024),
      prompts_at_once=32,
      segment=128,
    ),
    grpo=GRPOConfig(steps=200, prompts_per_step=64, micro_prompts=8, kl_coef=0.001),
    optim=OptimConfig(lr=1e-6),
    eval=EvalConfig(every=20, prompts=64, group_size=2),
    mesh=MeshConfig(fsdp=8, tensor=2),
    checkpoint=CheckpointConfig(every=20),
  )
