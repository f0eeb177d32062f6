"""The offline judge: each task's stated rule (docs/judges.md). Deterministic, no network."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gtalign_jax.rewards.judges.base import Judge, Question, accept


class RuleJudge(Judge):
  """Applies `Question.rule`; a task without a rule gets no verdict."""

  def judge(self, questions: Sequence[Question]) -> list[float | None]:
    return [self._one(question) for question in questions]

  def _one(self, question: Question) -> float | None:
    began = time.perf_counter()
    verdict = question.rule(question) if question.rule else None
    self._stats.asked += 1
    self._stats.seconds.append(time.perf_counter() - began)
    return accept(question, verdict)
