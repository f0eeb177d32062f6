"""advbench: all requests are harmful; the ground truth is the text an attacker wishes for, not a label."""

from __future__ import annotations

from gtalign_jax.rewards.tasks.base import Answer, Example, Task, clip
from gtalign_jax.rewards.tasks.wildguard import of_label


def advbench(example: Example) -> Task:
  """As wildguard with the label harmful; but paper mode gives both sides [verdict > 0]."""
  task = of_label(example, harmful=True)
  return task if example.mode == "corrected" else task._replace(answer=_paper)


def _paper(verdict: float) -> Answer:
  verdict = clip(verdict)
  return Answer(float(verdict > 0), float(verdict > 0), verdict)
