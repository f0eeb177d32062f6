"""The quickstart with the reward as the paper published it.

  gtalign train configs/ablations/paper.py

Lenient reading of the chain, `pay` in place of the decision, and 0 where the judge gave no verdict.
docs/paper_vs_corrected.md says how it can be gamed. Its W does not compare with corrected mode's.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(quickstart(), {"rewards.mode": "paper", "workdir": "runs/paper"})
