r"""GTAlign's training run with GRPO in place of PPO: Qwen2.5-3B-Instruct, its four sources.

  vllm serve Qwen/Qwen3-32B                                 # the judge, here on port 8000
  gtalign train configs/paper_grpo_qwen2_5_3b.py data.root=$GTALIGN_DATA \
    rewards.judge.base_url=http://localhost:8000/v1 workdir=/mnt/shared/run

It fits a v5p slice of 2x2x4, as compiled without a TPU (docs/tpu.md): up to 11.0 of 95 GiB at the
lengths below, and 20.4 at its own (there only sampling was compiled). Not run on a TPU.

  gtalign plan configs/paper_grpo_qwen2_5_3b.py --topology v5p:2x2x4 \
    --arch configs/arch/qwen2.5-3b.json data.max_prompt_tokens=1024 \
    rollout.prompt_buckets='(1024,)' rollout.max_new_tokens=2048
"""

from gtalign_jax.config import (
  CheckpointConfig,
  Config,
  DataConfig,
  EvalConfig,
  GRPOConfig,
  JudgeConfig,
  MeshConfig,
  OptimConfig,
  PolicyConfig,
  RewardConfig,
  RolloutConfig,
)


def config() -> Config:
  return Config(
    workdir="runs/paper_grpo_qwen2_5_3b",
    model="Qwen/Qwen2.5-3B-Instruct",
    policy=PolicyConfig(dtype="bfloat16", remat="full"),
    data=DataConfig(
      sources=("math-hard", "medium", "ambig_qa", "wildguard"),
      template="released",
      max_prompt_tokens=4096,
    ),
    rollout=RolloutConfig(
      group_size=8,
      max_new_tokens=8192,
      prompt_buckets=(1024, 2048, 4096),
      prompts_at_once=64,
      segment=128,
    ),
    rewards=RewardConfig(
      mode="paper",
      judge=JudgeConfig(
        kind="http",
        model="Qwen/Qwen3-32B",
        base_url="http://localhost:8000/v1",
        # a verdict is short; thinking first would take a thousand tokens a row
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        concurrency=128,
      ),
    ),
    grpo=GRPOConfig(
      steps=150,
      prompts_per_step=512,
      minibatch_prompts=32,
      # one row of a prompt on each device: scores of 8,192 x 12,288 tokens take 3 GiB a row
      micro_prompts=8,
      micro_samples=1,
      kl_coef=0.001,
    ),
    optim=OptimConfig(lr=1e-6),
    eval=EvalConfig(every=20, prompts=128, group_size=2),
    mesh=MeshConfig(fsdp=8, tensor=2),
    checkpoint=CheckpointConfig(every=10),
  )
