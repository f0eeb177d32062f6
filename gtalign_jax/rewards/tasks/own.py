"""A user's own task behind a guard: what its code does amiss costs verdicts, never the run.

`load` and `trial` find what can be found before a run, as BadInput. What fails later (a label that
looks like no other, a response that nobody thought of) is no verdict for its row, told once.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.rewards.judges.base import Question, Scale
from gtalign_jax.rewards.tasks.base import Answer, Example, Task

T = TypeVar("T")
log = logging.getLogger(__name__)

# whatever a user's code raises; SystemExit too, which would end the run as if it were done
FAILURES = (Exception, SystemExit)
_told: set[tuple[str, str, str]] = set()  # per process: a failing task fails in every row


@dataclass(frozen=True)
class Own:
  """The task of one source by `rewards.tasks`: path, as the user wrote it, and what it names."""

  source: str
  path: str
  function: Callable[[Example], object]

  def __call__(self, example: Example) -> Task:
    """The task of an example; the question and the answer are None where the user's code fails."""
    task = self._guarded(lambda: _task(self.function(example)), example.id)
    if task is None:
      return Task(Scale(0.0, 0.0), lambda _: None, lambda: None)
    return Task(
      task.scale,
      lambda verdict: self._guarded(lambda: _answer(task, verdict), example.id),
      lambda: self._guarded(lambda: self._question(task), example.id),
    )

  def trial(self, example: Example, judged: bool, judge: str) -> None:
    """Everything once, with the response of `example`, which nobody wrote.

    judged: the row brings its verdict. judge: `rewards.judge.kind`, "" for unknown. Raises whatever
    the user's code raises, and TypeError or ValueError where it returns something else.
    """
    task = _task(self.function(example))
    for verdict in task.scale.values or (task.scale.low, task.scale.high):
      _answer(task, verdict)
    question = None if judged else _question(task)
    if question is not None and judge == "rule":
      if question.rule is None:
        raise BadInput(
          f"rewards.tasks[{self.source!r}]={self.path!r} has no rule, and rewards.judge.kind='rule'"
          " asks nobody else; give its Question a rule, or name a model as judge"
        )
      _verdict(question.rule, question)

  def _question(self, task: Task) -> Question:
    question = _question(task)
    if question.rule is None:
      return question
    rule = functools.partial(_verdict, question.rule)
    return question._replace(rule=lambda q: self._guarded(lambda: rule(q), q.id))

  def _guarded(self, call: Callable[[], T], row: str) -> T | None:
    """The result of `call`; None, and a line the first time, where it fails."""
    try:
      return call()
    except FAILURES as error:
      what = type(error).__name__
      if (self.source, self.path, what) not in _told:
        _told.add((self.source, self.path, what))
        log.warning(
          "rewards.tasks[%r]=%r failed on row %r (%s: %s); rows on which it fails have no verdict",
          self.source, self.path, row, what, first_line(error),
        )  # fmt: skip
      return None


def load(source: str, path: str) -> Own:
  """The function that `path` names, from the import path or the current folder.

  Raises BadInput where it cannot be imported or does not take one argument.
  """
  named = f"rewards.tasks[{source!r}]={path!r}"
  module, _, name = path.partition(":")
  # the console script does not look there; last, so that a file here hides no installed package
  if "" not in sys.path:
    sys.path.append("")
  try:
    # once per row, which costs a look-up: Python keeps modules that it has imported
    function = getattr(importlib.import_module(module), name)
  except FAILURES as error:
    raise BadInput(
      f"{named}: expected package.module:function, from the import path or the current folder "
      f"({type(error).__name__}: {first_line(error)})"
    ) from None
  if not callable(function):
    raise BadInput(f"{named} is not a function but {type(function).__name__}; name a function")
  try:
    inspect.signature(function).bind(None)
  except TypeError as error:
    raise BadInput(f"{named}: must be a function of one argument, the example ({error})") from None
  except ValueError:  # compiled code may have no signature; the trial calls it
    pass
  return Own(source, path, function)


# ---------------------------------------------------------------- what the user's code must return


def _is(value: object, kind: type[T], what: str) -> T:
  if not isinstance(value, kind):
    raise TypeError(f"{what} must be of type {kind.__name__}, not {type(value).__name__}")
  return value


def _number(value: float, low: float, high: float, what: str) -> float:
  # bool and NumPy's numbers are welcome: `"please" in response` is a fine rule
  if isinstance(value, str) or not (math.isfinite(value) and low <= value <= high):
    raise ValueError(f"{what} is {value!r}, no number from {low:g} to {high:g}")
  return float(value)


def _task(value: object) -> Task:
  task = _is(value, Task, "what it returns")
  _is(task.scale, Scale, "the scale")
  return task


def _question(task: Task) -> Question:
  question = _is(task.question(), Question, "the question")
  for name in ("id", "task", "asked", "truth", "response", "rubric"):
    _is(getattr(question, name), str, f"{name} of the question")
  question.prompt()  # a place of the rubric that is none of {asked}, {truth}, {response}
  return question


def _answer(task: Task, verdict: float) -> Answer:
  answer = _is(task.answer(verdict), Answer, "the answer")
  return Answer(*(_number(part, 0, 1, "credit") for part in answer))


def _verdict(rule: Callable[[Question], float | None], question: Question) -> float | None:
  verdict, scale = rule(question), question.scale
  if verdict is None:  # the rule abstains
    return None
  verdict = _number(verdict, scale.low, scale.high, "the verdict of the rule")
  if not scale.holds(verdict):
    raise ValueError(f"the verdict of the rule is {verdict:g}, none of {scale.values}")
  return verdict
