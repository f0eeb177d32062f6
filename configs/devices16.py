r"""The quickstart in batches that split over 16 devices, or fewer.

  TPU=… ZONE=… ACCELERATOR=v5litepod-16 \
    ./launch/tpu_vm.sh configs/devices16.py workdir=/mnt/shared/run
  sbatch --nodes=2 launch/slurm.sbatch configs/devices16.py workdir=/shared/run

Expect what the quickstart shows. Every batch and every slice is a multiple of 16 prompts: a slice
of fewer would be computed whole on each device. The model fits one device, so rows alone are split
(mesh.data takes all devices); add mesh.fsdp=16 to split the weights as well.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    quickstart(),
    {
      "workdir": "runs/devices16",
      "sft.batch_size": 16,
      "sft.micro_batch": 16,
      "grpo.prompts_per_step": 16,
      "grpo.micro_prompts": 16,
    },
  )
