"""Conversations with models as user and as judge, behind any OpenAI-compatible endpoint.

  vllm serve Qwen/Qwen2.5-7B-Instruct          # or any other server, here on port 8000
  gtalign train configs/conversations_http.py \
    conversation.user.base_url=http://localhost:8000/v1 rewards.judge.base_url=http://localhost:8000/v1

The prompts of configs/quickstart.py, and up to three turns: the model that plays the user is told
what the user really wants, in a persona of your own if you like, and never sees the reasoning
(docs/users.md says what such a user is worth). Replies and verdicts are kept in the work directory,
so that a run that was stopped goes on with those it had.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  changes = {
    "workdir": "runs/conversations_http",
    "conversation.turns": 3,
    "conversation.max_context_tokens": 640,
    "conversation.context_buckets": (384, 640),
  }
  for section in ("conversation.user", "rewards.judge"):
    changes |= {
      f"{section}.kind": "http",
      f"{section}.model": "Qwen/Qwen2.5-7B-Instruct",
      f"{section}.base_url": "http://localhost:8000/v1",
    }
  return vary(quickstart(), changes | {"conversation.user.temperature": 0.7})
