"""math-hard: competition mathematics; the final answer is right or wrong."""

from __future__ import annotations

from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.rules import mathematics
from gtalign_jax.rewards.tasks.base import Example, Task, same_credit

RUBRIC = """You grade a reply to a mathematics problem. Only the final answer counts.

PROBLEM
{asked}

CORRECT ANSWER
{truth}

REPLY
{response}

Does the reply commit to a final answer that is mathematically equal to the correct answer? Another \
form of the same value is right. A reply that gives no final answer, several different ones, or only \
asks something back is wrong. Think briefly, then end with one line:
VERDICT: 1 (right) or VERDICT: 0 (wrong)"""


def math_hard(example: Example) -> Task:
  """Judge 0 or 1; both sides get it."""

  def question() -> Question:
    truth = example.text_truth()
    return Question(
      example.id, "math", example.asked, truth, example.response, BINARY, RUBRIC, mathematics.judge
    )

  return Task(BINARY, same_credit, question)
