"""What a task is: a function from an example to the judge's question and the worth of a verdict.

Own tasks have the same signature (`rewards.tasks={"my_source": "package.module:function"}`):

  def my_task(example: Example) -> Task:
    def question():
      return Question(example.id, "my_task", example.asked, example.text_truth(), example.response,
                      BINARY, RUBRIC)
    return Task(BINARY, same_credit, question)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gtalign_jax.errors import BadInput
from gtalign_jax.rewards.judges.base import Question, Scale


class Example(NamedTuple):
  """One row as a task sees it.

  asked: the user's request in words, "" if the row has none. response: text of the response block.
  ground_truth, extra_info: as in the row (extra_info is {} where the row has no mapping there).
  mode: "corrected" or "paper". where: how errors name the row. n_turns: the assistant's turns; of
  a conversation `response` is the last one, and first_action what the first one did, an index of
  ACTIONS (-1: none of them). meant: the user's private intent (FORMULAS section 9) where the row is
  a conversation and has one.
  """

  id: str
  data_source: str
  asked: str
  response: str
  ground_truth: Any
  extra_info: dict[str, Any]
  mode: str
  where: str
  n_turns: int = 1
  first_action: int = -1
  meant: dict[str, Any] | None = None

  def text_truth(self) -> str:
    """The ground truth as text. Raises BadInput where it is none."""
    if not isinstance(self.ground_truth, str):
      raise BadInput(bad_label(self.where, self.data_source, self.ground_truth, "text"))
    return self.ground_truth


def example_of(
  row: Mapping[str, Any],
  response: str,
  mode: str,
  where: str,
  n_turns: int = 1,
  first_action: int = -1,
  meant: dict[str, Any] | None = None,
) -> Example:
  """The example that a row makes with a response."""
  extra = row.get("extra_info")
  # columns of foreign data hold anything here; tasks may rely on a mapping
  extra = extra if isinstance(extra, dict) else {}
  stated = (meant or {}).get("kind") == "statement"
  return Example(
    id=str(row.get("id")),
    data_source=row["data_source"],
    asked=meant["text"] if meant and stated else _asked(row, extra),
    response=response,
    ground_truth=row.get("ground_truth"),
    extra_info=extra if meant is None else extra | {"intent": meant},
    mode=mode,
    where=where,
    n_turns=n_turns,
    first_action=first_action,
    meant=meant,
  )


def _asked(row: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
  """The user's intent in full where the row has it, else the last thing that the user said."""
  # the intent goes first: vague prompts are made by taking something out of it, and the judge is
  # to know what the user wants in the end
  if isinstance(extra.get("single_turn_prompt"), str):
    return extra["single_turn_prompt"]
  for messages in (extra.get("chat_history"), row.get("prompt")):
    if isinstance(messages, (list, tuple)):
      for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == "user":
          return str(message.get("content") or "")
  return ""


class Answer(NamedTuple):
  """Credit of a response, in [0, 1]: A_user, A_llm, and the one reported."""

  user: float
  llm: float
  reported: float


NOTHING = Answer(0.0, 0.0, 0.0)  # of a row without a response: judged by nobody, and valid


class Task(NamedTuple):
  """scale: the verdicts that corrected mode takes; others count as none.

  answer: the credit that a verdict earns. It gets a number on the scale (corrected mode), or any
  finite number (paper mode, where no verdict is 0). question: what the judge is asked; a function,
  so that rows which bring their verdict pay nothing for it. Either gives None where a user's code
  has failed: the row has no verdict (own.py).
  """

  scale: Scale
  answer: Callable[[float], Answer | None]
  question: Callable[[], Question | None]


def clip(verdict: float) -> float:
  """`verdict` in [0, 1]."""
  return min(max(verdict, 0.0), 1.0)


def same_credit(verdict: float) -> Answer:
  """Both sides get the verdict: tasks whose judge says 0 or 1."""
  verdict = clip(verdict)  # paper mode takes verdicts off the scale
  return Answer(verdict, verdict, verdict)


def bad_label(where: str, source: str, truth: Any, rule: str) -> str:
  """The line that says what a ground truth must be."""
  shown = repr(truth[:40] if isinstance(truth, str) else truth)[:60]
  return (
    f"{where}: ground_truth={shown} must be {rule} for data_source {source!r}; correct "
    "it, or give the source a task of its own with rewards.tasks"
  )
