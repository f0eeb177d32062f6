"""SmolLM2-135M-Instruct on the sample prompts: SFT warm start, GRPO, evaluation, report.

  ./launch/quickstart.sh            (or: gtalign train configs/quickstart.py)

Sized for 2 CPU cores; docs/results.md has what it printed. Expect the strict parse rate of the
chain to rise from about 0 to above 0.8 in the warm start, and mean welfare with it. Slices of one
prompt do not split over devices: on several, take configs/devices8.py or devices16.py.
"""

from gtalign_jax.config import (
  CheckpointConfig,
  Config,
  DataConfig,
  EvalConfig,
  GRPOConfig,
  OptimConfig,
  PolicyConfig,
  RolloutConfig,
  SFTConfig,
)


def config() -> Config:
  return Config(
    workdir="runs/quickstart",
    model="HuggingFaceTB/SmolLM2-135M-Instruct",
    policy=PolicyConfig(dtype="bfloat16", remat="dots"),
    data=DataConfig(template="compact", max_prompt_tokens=256),
    sft=SFTConfig(
      steps=60,
      batch_size=4,
      micro_batch=4,
      every=30,
      optim=OptimConfig(lr=5e-4, warmup=3, decay="linear"),
    ),
    rollout=RolloutConfig(group_size=8, max_new_tokens=312, prompt_buckets=(256,), segment=104),
    grpo=GRPOConfig(
      steps=3,
      prompts_per_step=8,
      train_samples=4,
      micro_prompts=1,
      micro_samples=4,
      length_buckets=(256, 288),
      kl_coef=0.01,
    ),
    # so few updates need a large step; eps as in PPO recipes, or Adam's first steps are signs,
    # which move rows of the embedding that hardly have a gradient (docs/results.md)
    optim=OptimConfig(lr=1e-4, eps=1e-5),
    eval=EvalConfig(every=0, prompts=16, group_size=4),
    checkpoint=CheckpointConfig(every=2, keep=1),
  )
