"""A warm start after which the written matrix decides: half of its chains continue other payoffs.

  gtalign train configs/steering.py

The concierge's game (configs/concierge.py) with a longer warm start. Expect `gtalign steer` and
edited payoffs to change the action, and game/sums_right, game/payoff_icc and game/type_accuracy to
rise with the updates. Not measured yet. The baseline is the same command with
sft.counterfactual=0.0. Other prompts: data.sources=() with the sample set or
data.root=$GTALIGN_DATA, and the lengths of configs/quickstart.py.
"""

from configs.concierge import config as concierge
from gtalign_jax.config import Config, vary


def config() -> Config:
  changes = {
    "workdir": "runs/steering",
    "sft.counterfactual": 0.5,
    # sums of two numbers are learned slowly: 12,000 of them in 500 updates of 8 chains
    "sft.steps": 500,
    "sft.batch_size": 8,
    "sft.every": 50,
  }
  return vary(concierge(), changes)
