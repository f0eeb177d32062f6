"""The chains' own games: what their payoff matrices say, all rows of a batch at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.game import equilibrium, measures, payoff
from gtalign_jax.rewards import chain
from gtalign_jax.rewards.read import Reading
from gtalign_jax.types import ACTIONS, CELLS, USER_TYPES, Array


class Games(NamedTuple):
  """The rows with a matrix. where: row of the batch -> row here. Arrays are float64.

  choice_score: of the named cell: 1 the welfare choice, 0.5 another Pareto-optimal cell, 0 else.
  """

  where: dict[int, int]
  payoff_BUAR: Array
  choice_score: Array
  outcome: equilibrium.Outcome

  def optimal(self, at: int) -> str:
    """The Pareto-optimal cells of row `at` of the batch, with all cells in play."""
    mask_UA = payoff.pareto_mask(self.payoff_BUAR[self.where[at]])
    return ", ".join(cell for cell, kept in zip(CELLS, mask_UA.ravel(), strict=True) if kept)

  def facts(self, at: int, reading: Reading) -> dict[str, Any]:
    """Columns of row `at` for metrics and reports; None where there is no matrix."""
    out: dict[str, Any] = {
      "named_cell": CELLS[reading.cell] if reading.cell >= 0 else None,
      "user_type": USER_TYPES[reading.user_type] if reading.user_type >= 0 else None,
      "type_label": USER_TYPES[reading.type_label] if reading.type_label >= 0 else None,
      "action": ACTIONS[reading.action] if reading.action >= 0 else None,
    }
    index = self.where.get(at)
    if index is None:
      return out | dict.fromkeys(("pareto", "dilemma", "equilibrium_gap", "payoff", "sums"))
    gap = float(self.outcome.gap[index])  # infinite where paper mode read an infinity
    numbers_K = self.payoff_BUAR[index].ravel()
    return out | {
      "pareto": bool(self.choice_score[index] > 0),
      "dilemma": bool(self.outcome.dilemma[index]),
      "equilibrium_gap": gap if math.isfinite(gap) else None,
      "payoff": numbers_K.tolist() if np.isfinite(numbers_K).all() else None,
      "sums": measures.sums(self.payoff_BUAR[index], reading.user_type, reading.sums),
    }

  def choices(self, readings: Sequence[Reading]) -> tuple[Array, Array]:
    """(choice, carried_out) [B]: the two halves of d; means over the turns of a conversation.

    readings: of the batch, whose first turns these games are. 0 where there is no matrix.
    """
    choice_B, carried_B = self._own_choices(readings)
    later = [each for reading in readings for each in reading.later]
    if not later:
      return choice_B, carried_B
    size, count_B = len(readings), array([each.n_turns for each in readings], int)
    of = np.repeat(np.arange(size), count_B - 1)
    more_choice, more_carried = games_of(later)._own_choices(later)
    choice_B = choice_B + np.bincount(of, more_choice, size)
    return choice_B / count_B, (carried_B + np.bincount(of, more_carried, size)) / count_B

  def _own_choices(self, readings: Sequence[Reading]) -> Array:
    """[2, B]: choice and carried_out of single turns."""
    halves, kept = array([[0.0] * len(readings)] * 2), list(self.where)
    # a choice that no matrix backs earns nothing for being carried out
    halves[:, kept] = self.choice_score, [readings[at].carried_out for at in kept]
    return halves


def array(values: Any, dtype: type = float) -> Any:
  """NumPy, typed loosely: the kernels of game/ take NumPy and jax alike."""
  return np.array(values, dtype)


def games_of(readings: Sequence[Reading]) -> Games:
  """The games of the rows that have a matrix."""
  # one call for the batch: the kernels' own NumPy calls cost some 2 ms, however many rows there are
  kept = [at for at, each in enumerate(readings) if each.numbers is not None]
  payoff_BUAR = array(chain.as_array([readings[at].numbers or () for at in kept]))
  user_type_B = array([readings[at].user_type for at in kept], int)
  named_B = array([readings[at].cell for at in kept], int)
  with np.errstate(all="ignore"):  # paper mode reads NaN and infinities
    front = payoff.front(payoff_BUAR, user_type_B)
    return Games(
      {at: index for index, at in enumerate(kept)},
      payoff_BUAR,
      payoff.score_named(front, named_B, payoff_BUAR),
      equilibrium.outcome(payoff_BUAR),
    )
