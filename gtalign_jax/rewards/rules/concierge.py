"""The rule for concierge: the confirmation names every slot of what the user means, exactly."""

from __future__ import annotations

from collections.abc import Iterable

from gtalign_jax import confirmation
from gtalign_jax.rewards.judges.base import Question


def judge(question: Question) -> float | None:
  """1.0 if the response states the slots of the truth; None where that is not readable.

  truth: `slot: value` lines.
  """
  wanted = dict(line.split(": ", 1) for line in question.truth.splitlines() if ": " in line)
  return float(confirmation.states(question.response, wanted)) if wanted else None


def truth(slots: Iterable[tuple[str, str]]) -> str:
  """The truth that `judge` reads, and a model can read as well."""
  return "\n".join(f"{slot}: {value}" for slot, value in slots)
