"""The quickstart with RLOO: the baseline of a row is the mean of the other rows of its group.

  gtalign train configs/ablations/rloo.py

Advantages are in units of welfare, not of deviations: expect smaller ones, a smaller gradient norm,
and the global-norm clip (optim.max_grad_norm) to act less often.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(quickstart(), {"grpo.advantage": "rloo", "workdir": "runs/rloo"})
