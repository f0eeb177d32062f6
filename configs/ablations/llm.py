"""The quickstart with the score of the LLM alone: format, decision, its answer and its length.

  gtalign train configs/ablations/llm.py

Expect the parse rate and the decision to hold and the user's brevity to go: nothing pays for it.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(quickstart(), {"rewards.variant": "llm", "workdir": "runs/llm"})
