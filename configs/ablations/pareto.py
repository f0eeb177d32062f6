"""The quickstart with the paper's pareto variant: a second judge scores the choice of the chain.

  gtalign train configs/ablations/pareto.py

L takes the weights of that variant (docs/rewards.md). The rule judge gives 1 where the action that
is named last belongs to a Pareto-optimal cell, so expect the chains to name such cells.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    quickstart(), {"rewards.mode": "paper", "rewards.variant": "pareto", "workdir": "runs/pareto"}
  )
