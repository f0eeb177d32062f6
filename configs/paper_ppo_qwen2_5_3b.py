r"""GTAlign's training run as published: PPO with a critic of its own, Qwen2.5-3B-Instruct.

  vllm serve Qwen/Qwen3-32B                                 # the judge, here on port 8000
  gtalign train configs/paper_ppo_qwen2_5_3b.py data.root=$GTALIGN_DATA \
    rewards.judge.base_url=http://localhost:8000/v1 workdir=/mnt/shared/run

It fits a v5p slice of 2x2x4, as compiled without a TPU (docs/tpu.md): up to 11.1 of 95 GiB at the
lengths below, and 16.5 at its own (there without the programs of evaluation). Not run on a TPU.

  gtalign plan configs/paper_ppo_qwen2_5_3b.py --topology v5p:2x2x4 \
    --arch configs/arch/qwen2.5-3b.json data.max_prompt_tokens=1024 \
    rollout.prompt_buckets='(1024,)' rollout.max_new_tokens=2048

One completion of each prompt: the critic needs no group.
"""

from configs.paper_grpo_qwen2_5_3b import config as paper_grpo
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    paper_grpo(),
    {
      "workdir": "runs/paper_ppo_qwen2_5_3b",
      "rollout.group_size": 1,
      "grpo.advantage": "gae",
      "grpo.dual_clip": 3.0,
      # the KL is taken off the reward, as verl's PPO does
      "grpo.kl_coef": 0.0,
      "critic.kl_coef": 0.001,
      "critic.optim.lr": 2e-6,
    },
  )
