"""The quickstart without the game: chains of thinking and response, no matrix.

  gtalign train configs/ablations/think.py

The format term asks for the two blocks and the weight of the decision goes to the answer; all else
is equal. Compare outcome welfare (`gtalign compare`), which gives no credit for format or decision.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(quickstart(), {"chain.form": "think", "workdir": "runs/think"})
