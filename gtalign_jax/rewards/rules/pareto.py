"""The rule for the paper's second judge: does the analysis name a Pareto-optimal action?"""

from __future__ import annotations

import re

from gtalign_jax.rewards import features
from gtalign_jax.rewards.judges.base import Question
from gtalign_jax.types import CELLS

_ACTION = re.compile(r"(?<![A-Za-z0-9])(?:[DV]Q_)?(DA|CQ|AQ)(?![A-Za-z0-9])")


def judge(question: Question) -> float | None:
  """1.0 if the action named last is of a Pareto-optimal cell, 0.5 if another named one is, else 0.

  question.truth: the optimal cells, separated by commas.
  """
  optimal = {cell[3:] for cell in question.truth.split(", ")}
  # a full cell key goes before a bare action: analyses name the choice by its key
  last = features.named_cell(question.response)
  named = _ACTION.findall(question.response)
  final = CELLS[last][3:] if last >= 0 else named[-1] if named else None
  if final in optimal:
    return 1.0
  return 0.5 if optimal & set(named) else 0.0
