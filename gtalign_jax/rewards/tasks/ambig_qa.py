"""ambig_qa: short questions, some with several readings; was the ambiguity handled well?

Ground truth: `singleAnswer###ANSWER`, or `multipleQAs###…Meaning i: …; Answer i: …` lines.
"""

from __future__ import annotations

from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.rules import ambiguity
from gtalign_jax.rewards.tasks.base import Example, Task, same_credit

RUBRIC = """A person asked a question that may or may not be ambiguous. You judge how a reply deals with it.

QUESTION
{asked}

WHAT IS KNOWN (after ### stands the one answer, or the list of meanings with their answers)
{truth}

REPLY
{response}

If there is one answer (singleAnswer), a good reply states that answer; sending the question back is not \
good. If there are several meanings (multipleQAs), a good reply either asks which of them is meant, or \
sets out at least two of them with right answers; picking one silently is not good. Think briefly, \
then end with one line:
VERDICT: 1 (handled well) or VERDICT: 0 (not)"""


def ambig_qa(example: Example) -> Task:
  """Judge 0 or 1; both sides get it."""

  def question() -> Question:
    truth = example.text_truth()
    return Question(
      example.id,
      "ambiguity",
      example.asked,
      truth,
      example.response,
      BINARY,
      RUBRIC,
      ambiguity.judge,
    )

  return Task(BINARY, same_credit, question)
