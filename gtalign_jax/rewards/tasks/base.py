"""What a task is: a function from an example to the question for the judge and the use of its verdict.

Own tasks have the same signature (`rewards.tasks={"my_source": "package.module:function"}`):

  def my_task(example: Example) -> Task:
    def question():
      return Question(example.id, "my_task", example.asked, example.text_truth(), example.response,
                      BINARY, RUBRIC)
    return Task(BINARY, same_credit, question)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gtalign_jax.errors import BadInput
from gtalign_jax.rewards.judges.base import Question, Scale


class Example(NamedTuple):
  """One row as a task sees it.

  asked: the user's request in words, "" if the row has none. response: text of the response block.
  ground_truth, extra_info: as in the row (extra_info is {} where the row has no mapping there). mode:
  "corrected" or "paper". where: how errors name the row.
  """

  id: str
  data_source: str
  asked: str
  response: str
  ground_truth: Any
  extra_info: dict[str, Any]
  mode: str
  where: str

  def text_truth(self) -> str:
    """The ground truth as text. Raises BadInput where it is none."""
    if not isinstance(self.ground_truth, str):
      raise BadInput(
        f"{self.where}: ground_truth={str(self.ground_truth)[:40]!r} must be text for "
        f"data_source {self.data_source!r}"
      )
    return self.ground_truth


class Answer(NamedTuple):
  """Credit of a response, in [0, 1]: A_user, A_llm, and the one reported."""

  user: float
  llm: float
  reported: float


class Task(NamedTuple):
  """scale: the verdicts that corrected mode takes; others count as none.

  answer: the credit that a verdict earns. It gets a number on the scale (corrected mode), or any
  finite number (paper mode, where no verdict is 0). question: what the judge is asked; a function, so
  that rows which bring their verdict pay nothing for it.
  """

  scale: Scale
  answer: Callable[[float], Answer]
  question: Callable[[], Question]


def clip(verdict: float) -> float:
  """`verdict` in [0, 1]."""
  return min(max(verdict, 0.0), 1.0)


def same_credit(verdict: float) -> Answer:
  """Both sides get the verdict: tasks whose judge says 0 or 1."""
  verdict = clip(verdict)
  return Answer(verdict, verdict, verdict)
