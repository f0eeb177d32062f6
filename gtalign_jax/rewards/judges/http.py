"""The judge behind any OpenAI-compatible endpoint. A failure is no verdict, never 0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gtalign_jax.endpoint.answers import Answers, Wanted
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.rewards.judges.base import Judge, Question, accept
from gtalign_jax.rewards.judges.verdict import read_verdict


class HttpJudge(Judge):
  """Raises BadInput where the endpoint's address or the cache cannot be used.

  cache: the file of verdicts; None: they are not kept.
  """

  def __init__(self, config: JudgeConfig, cache: Path | None):
    super().__init__()
    self._answers = Answers[float](config, cache, self._stats)

  def judge(self, questions: Sequence[Question]) -> list[float | None]:
    """Verdicts in order; equal questions are asked once. Raises RunFailure: see Judge."""
    verdicts = self._answers.ask([_wanted(each) for each in questions])
    return [accept(*each) for each in zip(questions, verdicts, strict=True)]

  def close(self) -> None:
    self._answers.close()


def _wanted(question: Question) -> Wanted[float]:
  return Wanted(question.task, question.prompt(), lambda said: accept(question, read_verdict(said)))
