"""The quickstart with a CES welfare of rho = -4 in place of Cobb-Douglas (rho = 0).

  gtalign train configs/ablations/ces.py

The further rho lies below 0, the more the score is that of the worse-off player (the minimum at
-inf): expect a smaller gap between U and L (`gtalign compare`), and the smaller one to rise first.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  changes = {"rewards.welfare": "ces", "rewards.rho": -4.0, "workdir": "runs/ces"}
  return vary(quickstart(), changes)
