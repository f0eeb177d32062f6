r"""Qwen3-4B on a v6e-16 slice (4x4): full weights, 1,024 prompt and 2,048 new tokens.

  gtalign plan configs/qwen3_4b.py --topology v6e:4x4 --arch configs/arch/qwen3-4b.json
  TPU=… ZONE=… ACCELERATOR=v6e-16 \
    ./launch/tpu_vm.sh configs/qwen3_4b.py data.root=$GTALIGN_DATA workdir=/mnt/shared/run

Its own thinking is switched off in the chat template: the chain of the game is the reasoning.
Compiled for that slice: up to 16.2 of 32 GiB (docs/tpu.md). Not run on a TPU.
"""

from configs.qwen3b_v5e16 import config as qwen3b
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    qwen3b(),
    {
      "workdir": "runs/qwen3_4b",
      "model": "Qwen/Qwen3-4B",
      "data.template_arguments": {"enable_thinking": False},
      "rollout.max_new_tokens": 2048,
      # scores of 4 rows on each device in the update
      "grpo.micro_samples": 4,
    },
  )
