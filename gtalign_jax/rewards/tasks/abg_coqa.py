"""abg-coqa: questions about a passage, labelled `ambiguous` or `non_ambiguous`."""

from __future__ import annotations

from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.rules import ambiguity
from gtalign_jax.rewards.tasks.base import Example, Task, same_credit

RUBRIC = """A person asked a question about a passage. You judge how a reply deals with its clarity.

PASSAGE AND QUESTION
{asked}

LABEL
{truth}

REPLY
{response}

If the label is ambiguous, a good reply notices it: it asks which reading is meant, or answers more than \
one. If the label is non_ambiguous, a good reply answers from the passage and does not ask back instead. \
Think briefly, then end with one line:
VERDICT: 1 (handled well) or VERDICT: 0 (not)"""


def abg_coqa(example: Example) -> Task:
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
      ambiguity.judge_passage,
    )

  return Task(BINARY, same_credit, question)
