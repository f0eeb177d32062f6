"""The quickstart with a model as judge, behind any OpenAI-compatible endpoint.

  vllm serve Qwen/Qwen2.5-7B-Instruct          # or any other server, here on port 8000
  gtalign train configs/http_judge.py rewards.judge.base_url=http://localhost:8000/v1

A hosted endpoint takes its key from the environment (rewards.judge.api_key_env). Models with a
dialect of their own: rewards.judge.temperature=none, rewards.judge.max_tokens_key, and
rewards.judge.extra_body='{"chat_template_kwargs": {"enable_thinking": false}}'. Verdicts are kept
in <workdir>/judge_cache.sqlite. The endpoint may move between two starts of a run; the model, its
temperature and extra_body may not change.
Expect other answer scores than those of the rule judge: docs/judges.md.
"""

from configs.quickstart import config as quickstart
from gtalign_jax.config import Config, vary


def config() -> Config:
  return vary(
    quickstart(),
    {
      "rewards.judge.kind": "http",
      "rewards.judge.model": "Qwen/Qwen2.5-7B-Instruct",
      "rewards.judge.base_url": "http://localhost:8000/v1",
      "workdir": "runs/http_judge",
    },
  )
