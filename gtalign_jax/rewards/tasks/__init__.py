"""The tasks by data_source: a table of built-in ones, and a user's own by `rewards.tasks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.fields import Table
from gtalign_jax.rewards.tasks.base import Example, Task, example_of
from gtalign_jax.rewards.tasks.builtin import TASKS, Builtin
from gtalign_jax.rewards.tasks.own import FAILURES, Own
from gtalign_jax.rewards.tasks.own import load as load

TaskFunction = Callable[[Example], Task]
TRIAL = "A reply, to try the task with."


def find(data_source: str, own: Table) -> TaskFunction:
  """The task of a source; `own` is `rewards.tasks` and goes first.

  Raises BadInput for an unknown source or a path that names no function.
  """
  if data_source in own:
    return load(data_source, own[data_source])
  if data_source not in TASKS:
    raise BadInput(
      f"data_source={data_source!r} is no known task ({', '.join(TASKS)}); name your own with "
      f'rewards.tasks={{"{data_source}": "package.module:function"}}'
    )
  return TASKS[data_source]


def known(row: Mapping[str, Any], own: Table, mode: str, where: str) -> TaskFunction:
  """The task of `row`, which needs no completion; the labels of built-in tasks are checked.

  A row with the key judge_score brings its verdict, and needs a label only where the credit reads
  it. Raises BadInput, naming `where`, for an unknown source or a label that its task does not know.
  """
  source = row.get("data_source")
  if not isinstance(source, str):
    raise BadInput(f"{where}: data_source={str(source)[:40]!r} must be text")
  try:
    task = find(source, own)
  except BadInput as error:
    raise BadInput(f"{where}: {error}") from None
  if isinstance(task, Builtin):  # what a user's task makes of a label, only the task knows
    task.check_label(row.get("ground_truth"), source, mode, "judge_score" in row, where)
  return task


def type_label(task: TaskFunction, truth: Any) -> int:
  """The user type that a label says of its question: 0 DQ, 1 VQ, -1 none."""
  return task.user_type(truth) if isinstance(task, Builtin) else -1


def attention(task: TaskFunction) -> float:
  """Factor on the user's terms where the first response answers and asks."""
  return task.attention if isinstance(task, Builtin) else 1.0


def answers(task: TaskFunction, extra: Any, response: str) -> bool:
  """Whether the task sees an answer in a response that asks; False where it cannot tell.

  For chains that name no cell: the words alone do not tell an answer from what leads to a question.
  """
  if not (isinstance(task, Builtin) and isinstance(extra, Mapping)):
    return False
  return task.answers(response, extra)


def check_label(row: Mapping[str, Any], where: str) -> None:
  """A label that is given to a built-in source is one that it knows. Raises BadInput.

  For what reads labels without judging by them: a chain for the label "maybe" would teach it.
  """
  source, truth = row["data_source"], row.get("ground_truth")
  if source in TASKS and truth is not None:
    TASKS[source].check_label(truth, source, "corrected", False, where)


def check(row: Mapping[str, Any], own: Table, mode: str, where: str, judge: str = "") -> None:
  """`known`, and a user's own task is tried on `row` with a made-up response.

  So a row fails before anything is sampled for it. mode, judge: `rewards.mode`,
  `rewards.judge.kind` ("": its rule is not tried). Raises BadInput.
  """
  task = known(row, own, mode, where)
  if not isinstance(task, Own):
    return
  try:
    task.trial(example_of(row, TRIAL, mode, where), "judge_score" in row, judge)
  except BadInput:
    raise
  except FAILURES as error:
    raise BadInput(
      f"{where}: rewards.tasks[{task.source!r}]={task.path!r} fails on this row "
      f"({type(error).__name__}: {first_line(error)}); correct the function or the row"
    ) from error
