"""The judge that replays a log of verdicts, so that a run can be scored again offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.rewards.judges.base import Judge, Question, accept


class RecordedJudge(Judge):
  """Reads JSON lines {"id", "judge_score", "pareto_score"?, "completion"?}.

  Rows of `gtalign eval` have these keys. A row with a completion answers only for a response that
  stands in it, so that a log of many samples of one id finds the right one; of several fitting rows
  the last counts. What the log does not hold gets no verdict.
  """

  def __init__(self, log: str | Path):
    super().__init__()
    self._rows: dict[str, list[dict[str, Any]]] = {}
    for number, row in jsonl.read(log):
      where = f"{log}:{number}"
      if "id" not in row:
        raise BadInput(f"{where}: no id; a log of verdicts has id and judge_score")
      for key in ("judge_score", "pareto_score"):
        jsonl.number(row, key, where)
      # by text: JSON keeps 7 and "7" apart, and tools that rewrite logs do not
      self._rows.setdefault(str(row["id"]), []).append(row)

  def judge(self, questions: Sequence[Question]) -> list[float | None]:
    self._stats.asked += len(questions)
    return [accept(question, self._find(question)) for question in questions]

  def _find(self, question: Question) -> float | None:
    key = "pareto_score" if question.task == "pareto" else "judge_score"
    # the last one first: a judge that was asked again was asked for a reason
    for row in reversed(self._rows.get(question.id, [])):
      completion = row.get("completion")
      if row.get(key) is not None and (
        not isinstance(completion, str) or question.response in completion
      ):
        self._stats.hits += 1
        return row[key]
    return None
