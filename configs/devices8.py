"""The quickstart in batches that split over 8 devices, or 1, 2 or 4.

  GTALIGN_EXTRA=cuda12 ./launch/quickstart.sh     (takes this config where the extra is not cpu)
  sbatch launch/slurm.sbatch configs/devices8.py workdir=/shared/run

Expect what the quickstart shows. Every batch and every slice is a multiple of 8 prompts: a slice of
fewer would be computed whole on each device. The model fits one device, so rows alone are split
(mesh.data takes all devices); add mesh.fsdp=8 to split the weights as well.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    quickstart(),
    {
      "workdir": "runs/devices8",
      "sft.batch_size": 8,
      "sft.micro_batch": 8,
      "grpo.prompts_per_step": 8,
      "grpo.micro_prompts": 8,
    },
  )
