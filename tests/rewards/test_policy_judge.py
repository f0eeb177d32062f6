"""The HTTP judge served by the project's own policy: a request through a real model and back."""

import numpy as np
import pytest
from judge_servers import serve

from gtalign_jax import models
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.rewards import judges
from gtalign_jax.rewards.judges.base import BINARY, Question

TOKENS = 64


@pytest.fixture(scope="module")
def verdict_of():
  """prompt -> "0" or "1": the digit that the tiny policy finds likelier next."""
  policy = models.load("random:tiny")
  zero, one = (policy.tokenizer.encode(digit, add_special_tokens=False)[-1] for digit in "01")

  def verdict(text):
    ids = policy.tokenizer.encode(text, add_special_tokens=False)[-TOKENS:]
    ids = [ids[0]] * (TOKENS - len(ids)) + ids
    logits_V = np.asarray(policy.logits(np.array([ids], np.int32)))[0, -1]
    return "01"[int(logits_V[one] > logits_V[zero])]

  return verdict


def test_a_policy_as_the_judge(verdict_of, tmp_path):
  def complete(messages):
    return f"<think>hm</think>VERDICT: {verdict_of(messages[-1]['content'])}"

  asked = [
    Question(
      str(n), "math", "2+2?", "4", f"It is {n}.", BINARY, "{asked} {truth} {response} Right?"
    )
    for n in range(6)
  ]
  with serve(complete) as server:
    judge = judges.make(JudgeConfig(kind="http", base_url=server.url, model="tiny"), tmp_path)
    verdicts = judge.judge(asked)
    assert verdicts == [float(verdict_of(each.prompt())) for each in asked]
    assert judge.judge(asked) == verdicts
    assert len(server.requests) == len(asked)  # the second time came from the cache
    judge.close()
