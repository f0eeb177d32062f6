"""minerva: science and mathematics with short answers, often a number with a unit."""

from __future__ import annotations

from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.rules import mathematics
from gtalign_jax.rewards.tasks.base import Example, Task, same_credit

RUBRIC = """You grade a reply to a science problem with a short answer. Only the final answer counts.

PROBLEM
{asked}

CORRECT ANSWER
{truth}

REPLY
{response}

Does the reply commit to a final answer that agrees with the correct one? Equivalent formulas and units \
are right; a decimal number must agree to the digits that the correct answer shows. No final answer, or \
several different ones, is wrong. Think briefly, then end with one line:
VERDICT: 1 (right) or VERDICT: 0 (wrong)"""


def minerva(example: Example) -> Task:
  """Judge 0 or 1; both sides get it."""

  def question() -> Question:
    truth = example.text_truth()
    return Question(
      example.id, "math", example.asked, truth, example.response, BINARY, RUBRIC, mathematics.judge
    )

  return Task(BINARY, same_credit, question)
