"""The quickstart without a chain: the policy writes what the user reads, and nothing else.

  gtalign train configs/ablations/none.py

The baseline of the same reward: the weight of the decision goes to the answer, and no reasoning is
the briefest. Compare outcome welfare (`gtalign compare`), which gives no credit for format or
decision. A response has no closing tag here: it counts where the policy ends it by itself.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(quickstart(), {"chain.form": "none", "workdir": "runs/none"})
