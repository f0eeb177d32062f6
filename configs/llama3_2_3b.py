r"""Llama-3.2-3B-Instruct on a v6e-16 slice (4x4): full weights, 1,024 prompt and 2,048 new tokens.

  gtalign plan configs/llama3_2_3b.py --topology v6e:4x4 --arch configs/arch/llama3.2-3b.json
  TPU=… ZONE=… ACCELERATOR=v6e-16 \
    ./launch/tpu_vm.sh configs/llama3_2_3b.py data.root=$GTALIGN_DATA workdir=/mnt/shared/run

The hub asks for the licence to be accepted, and for a token (HF_TOKEN), before it gives the files.
Compiled for that slice: up to 12.5 of 32 GiB (docs/tpu.md). Not run on a TPU.
"""

from configs.qwen3b_v5e16 import config as qwen3b
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    qwen3b(),
    {
      "workdir": "runs/llama3_2_3b",
      "model": "meta-llama/Llama-3.2-3B-Instruct",
      "rollout.max_new_tokens": 2048,
      # scores of 4 rows on each device in the update
      "grpo.micro_samples": 4,
    },
  )
