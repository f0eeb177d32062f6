"""The quickstart with GDPO: U and L are normalised per group each, then summed and whitened.

  gtalign train configs/ablations/gdpo.py

The reward of a row is the pair (U, L), so rewards.variant and alpha have no part in it. Expect both
utilities to rise; a term of small spread in a group weighs as much as one of large spread.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(quickstart(), {"grpo.advantage": "gdpo", "workdir": "runs/gdpo"})
