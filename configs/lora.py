"""The quickstart with rank-16 adapters on every projection in place of all weights.

  gtalign train configs/lora.py

Checkpoints and optimizer state shrink to the adapters; `gtalign export` merges them. Adapters take
larger steps than full weights (ten times here, four in the warm start): usual values, not tuned.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    quickstart(),
    {
      "policy.lora_rank": 16,
      "policy.lora_alpha": 32.0,
      "optim.lr": 1e-3,
      "sft.optim.lr": 2e-3,
      "workdir": "runs/lora",
    },
  )
