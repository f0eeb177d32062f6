"""Conversations at their smallest: `short_config`, where half of the answers are questions."""

from pathlib import Path

from gtalign_jax.config import Config, vary

HERE = Path(__file__).parent
CHAINS = str(HERE / "talk_chains.jsonl")


def config() -> Config:
  from short_config import config as short

  return vary(
    short(),
    {
      "workdir": "runs/talk",
      "data.root": CHAINS,
      "data.max_prompt_tokens": 96,
      "rollout.prompt_buckets": (96,),
      "sft.data": CHAINS,
      "sft.max_tokens": 128,
      "sft.length_bucket": 128,
      "conversation.turns": 2,
      "conversation.max_context_tokens": 160,
    },
  )
