"""The written matrix decides: half of the warm start continues other payoffs, and some of GRPO.

  gtalign train configs/steering.py

The concierge's game (configs/concierge.py) with a longer warm start, and GRPO that edits the
payoffs of a quarter of its prompts. Expect `gtalign steer` and edited payoffs to change the action,
and game/follow, game/sums_right, game/payoff_icc and game/type_accuracy to rise with the updates.
Not measured yet. Baselines are the same command with sft.counterfactual=0.0, rollout.intervene=0.0
or both. Other prompts: data.sources=() with the sample set or data.root=$GTALIGN_DATA, and the
lengths of configs/quickstart.py (rollout.prompt_buckets=(256,568)).
"""

from configs.concierge import config as concierge
from gtalign_jax.config import Config, vary


def config() -> Config:
  changes = {
    "workdir": "runs/steering",
    # sums of two numbers are learned slowly: 12,000 of them in 500 updates of 8 chains
    "sft.steps": 500,
    "sft.batch_size": 8,
    "sft.every": 50,
    "rollout.intervene": 0.25,  # two prompts of eight
    "rollout.prompt_buckets": (224, 400, 512),  # of a prompt, and of one with its opening
    "grpo.steps": 20,
    "eval.every": 10,
    "eval.intervene_prompts": 16,
  }
  return vary(concierge(), changes)
