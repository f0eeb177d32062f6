"""The quickstart with CISPO: the ratio is clipped as a weight, so no token loses its gradient.

  gtalign train configs/ablations/cispo.py

Losses differ from the second update of a rollout on, so it takes two; compare with
`gtalign train configs/quickstart.py grpo.inner_epochs=2 workdir=runs/grpo2`. Ratios have no lower
bound and an upper one of 5 (arXiv 2506.13585 leaves the lower one open as well).
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    quickstart(),
    {
      "grpo.kind": "cispo",
      "grpo.inner_epochs": 2,
      "grpo.clip_low": 1.0,
      "grpo.clip_high": 4.0,
      "workdir": "runs/cispo",
    },
  )
