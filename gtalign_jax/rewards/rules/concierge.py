"""The rule for concierge: the confirmation names every slot of what the user means, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gtalign_jax import confirmation
from gtalign_jax.rewards.judges.base import Question


def judge(question: Question) -> float | None:
  """1.0 if the response states the slots of the truth; None where that is not readable.

  truth: `slot: value` lines.
  """
  wanted = dict(line.split(": ", 1) for line in question.truth.splitlines() if ": " in line)
  return float(confirmation.states(question.response, wanted)) if wanted else None


def answers(response: str, slots: Mapping[str, object]) -> bool:
  """Whether a response that asks answers too, rightly or not: it names half of the request's slots.

  The rule user goes by the same (users/rule.py).
  """
  found = confirmation.named(response, {slot: str(value) for slot, value in slots.items()})
  return 2 * len(found) >= len(slots) > 0


def truth(slots: Iterable[tuple[str, str]]) -> str:
  """The truth that `judge` reads, and a model can read as well."""
  return "\n".join(f"{slot}: {value}" for slot, value in slots)
