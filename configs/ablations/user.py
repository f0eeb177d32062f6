"""The quickstart with the score of the user alone: what is lost when nobody speaks for the LLM.

  gtalign train configs/ablations/user.py

Expect U to rise as in the quickstart or faster; format and decision, which only L pays for, have no
reason to stay, so watch the strict parse rate.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(quickstart(), {"rewards.variant": "user", "workdir": "runs/user"})
