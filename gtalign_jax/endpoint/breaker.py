"""A circuit breaker: after many failures in a row, leave the endpoint alone for a while."""

import time


class Breaker:
  """Opens after `failures` consecutive failures; then lets one call through each `cooldown_s`."""

  def __init__(self, failures: int, cooldown_s: float):
    self._limit, self._cooldown = failures, cooldown_s
    self._count, self._next_trial = 0, 0.0

  def allows(self) -> bool:
    """May a call go out now? When open, a True is the one trial of this cooldown."""
    if self._count < self._limit:
      return True
    now = time.monotonic()  # the wall clock may be set back
    if now < self._next_trial:
      return False
    self._next_trial = now + self._cooldown
    return True

  def worked(self) -> None:
    """A call was answered: closed again."""
    self._count = 0

  def failed(self) -> None:
    """A call was not."""
    self._count += 1
    # at the opening only: calls that were under way fail later, and must not put the trial off
    if self._count == self._limit:
      self._next_trial = time.monotonic() + self._cooldown
