"""Concierge: conversations of two turns with a simulated user, in a game whose solution is known.

  gtalign train configs/concierge.py

SmolLM2-135M on 2 CPU cores (docs/concierge.md; how long it takes as a whole is not measured, and
steps of conversations took 4 minutes on a busy machine). The warm start teaches the
chains of an assistant that writes perfectly; GRPO then plays conversations. Watch game/regret, what
the first actions fall short of the best ones, and game/realised/*, what each action earned in fact.
grpo.steps=40 and more seeds (seed=1) for figures worth comparing; conversation.turns=1 for the game
in which a question gets no answer.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  changes = {
    "workdir": "runs/concierge",
    "data.sources": ("concierge",),
    # prompts have at most 215 tokens, chains 269, and what a second turn reads 250
    "data.max_prompt_tokens": 224,
    "rollout.prompt_buckets": (224,),
    "rollout.max_new_tokens": 288,
    "rollout.segment": 144,
    "conversation.turns": 2,
    "conversation.max_context_tokens": 256,
    "sft.steps": 48,
    "sft.every": 24,
    "grpo.steps": 3,
    "grpo.prompts_per_step": 4,
    "eval.group_size": 2,
    "grpo.length_buckets": (272,),
  }
  return vary(quickstart(), changes)
