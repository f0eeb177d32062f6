"""The quickstart with the mean (U + L) / 2 in place of Cobb-Douglas.

  gtalign train configs/ablations/linear.py

A mean lets one player pay for the other, a product does not: compare the gap between U and L
(`gtalign compare`) with that of the quickstart.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(quickstart(), {"rewards.variant": "linear", "workdir": "runs/linear"})
