"""The quickstart with the weight of the user's utility said in each prompt, and read by its reward.

  gtalign train configs/condition.py

One policy for all weights: alpha is drawn from data.condition_alphas for each prompt of a step, and
U^alpha L^(1-alpha) of that alpha is what the prompt's samples earn. data.condition=pricing does the
same with prices. The warm start shows such prompts, but its chains do not heed them, so expect
responses to differ by alpha only after more steps than these; `extra_info.condition` of the rows in
eval/ and samples/ says which alpha each had.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  changes = {
    "workdir": "runs/condition",
    "data.condition": "alpha",
    # what the prompts say of alpha takes some 20 tokens
    "data.max_prompt_tokens": 288,
    "rollout.prompt_buckets": (288,),
  }
  return vary(quickstart(), changes)
