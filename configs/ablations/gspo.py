"""The quickstart with GSPO: one ratio for a whole row, the geometric mean of its tokens.

  gtalign train configs/ablations/gspo.py

Losses differ from the second update of a rollout on, so it takes two; compare with
`gtalign train configs/quickstart.py grpo.inner_epochs=2 workdir=runs/grpo2`. A mean over tokens
moves far less than one token, hence the narrow clip of the paper (arXiv 2507.18071, section 5.1).
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    quickstart(),
    {
      "grpo.kind": "gspo",
      "grpo.inner_epochs": 2,
      "grpo.clip_low": 3e-4,
      "grpo.clip_high": 4e-4,
      "workdir": "runs/gspo",
    },
  )
