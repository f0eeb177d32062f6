"""Payoff matrices: Pareto front, the paper's choice rule, and how well a named cell follows it.

Cells are numbered 3*u + a (`types.CELLS`). The code works on six (LLM, user) pairs of arrays
instead of one [..., 2, 3, 2] array: fixed comparisons without sorts or gathers vectorise over rows.
`pareto_mask` and `choose` are the names that stay (INTERFACES); the rest is what they share with
the reward kernel. NumPy in, NumPy out; jax arrays and tracers in, jax out (FORMULAS: the game).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from gtalign_jax.arrays import floats, namespace
from gtalign_jax.types import Array

NUM_CELLS = 6
ROW = (0, 0, 0, 1, 1, 1)  # user type of each cell: 0 DQ, 1 VQ


class Cells(NamedTuple):
  """The matrix as six arrays [...] per role, in cell order."""

  llm: tuple[Array, ...]
  user: tuple[Array, ...]


class Front(NamedTuple):
  """optimal: per cell, an array [...]: is it Pareto-optimal among those in play. choice: index."""

  optimal: tuple[Array, ...]
  choice: Array


def split(payoff_BUAR: Array) -> Cells:
  """The matrix [..., 2, 3, 2] as its cells. Raises ValueError on another shape."""
  if payoff_BUAR.shape[-3:] != (2, 3, 2):
    raise ValueError(f"payoff has shape {payoff_BUAR.shape}; expected [..., U=2, A=3, R=2]")
  cells = [payoff_BUAR[..., u, a, :] for u in range(2) for a in range(3)]
  return Cells(tuple(c[..., 0] for c in cells), tuple(c[..., 1] for c in cells))


def pareto_mask(payoff_BUAR: Array) -> Array:
  """bool_BUA: True where no cell is at least as good for both roles and better for one.

  Comparison is exact; the front is never empty for finite input. A NaN compares as neither.
  """
  xp, payoff_BUAR = floats(payoff_BUAR)
  optimal = _optimal(split(payoff_BUAR), undeclared=True)
  return xp.stack(optimal, axis=-1).reshape(payoff_BUAR.shape[:-1])


def choose(payoff_BUAR: Array, user_type: Array | None = None) -> Array:
  """The paper's choice: the Pareto-optimal cell of largest LLM + user, then user, lowest index.

  user_type: int_B, 0 DQ, 1 VQ, -1 undeclared; None = undeclared everywhere. With a declared type
  only its row is in play. Sums within 4 eps(dtype) max(|LLM| + |user|, 1) of the best one are ties,
  the maximum being over the front. Returns the cell index_B = 3*u + a, or -1 where a number in play
  is not finite.
  """
  return front(payoff_BUAR, user_type).choice


def choice_score(payoff_BUAR: Any, named_cell: Any, user_type: Any = None) -> Any:
  """1 where `named_cell` is the choice, 1/2 where it is only Pareto-optimal in play, else 0.

  named_cell: int_B cell index, -1 = none named. dtype of the payoffs.
  """
  return score_named(front(payoff_BUAR, user_type), named_cell, payoff_BUAR)


def front(payoff_BUAR: Any, user_type: Any = None) -> Front:
  """Pareto-optimal cells among those in play, and the choice."""
  xp, payoff_BUAR = floats(payoff_BUAR)
  if user_type is not None:
    xp = namespace(payoff_BUAR, user_type)
    user_type = xp.asarray(user_type)
  return front_of(xp, split(payoff_BUAR), user_type)


def front_of(xp: ModuleType, cells: Cells, user_type: Array | None) -> Front:
  """`front` on split cells; `xp` is their namespace."""
  undeclared = True if user_type is None else user_type < 0
  rows = [undeclared if user_type is None else undeclared | (user_type == u) for u in range(2)]
  in_play = [rows[u] for u in ROW]
  optimal = tuple(o & p for o, p in zip(_optimal(cells, undeclared), in_play))
  return Front(optimal, _choice(xp, cells, optimal, in_play))


def score_named(found: Front, named_cell: Array, like: Array) -> Array:
  """`choice_score` for a front already found; `like` gives the dtype."""
  xp, like, _ = floats(like, found.choice)
  named_cell = xp.asarray(named_cell)
  hit = (named_cell == found.choice) & (named_cell >= 0)  # -1 = -1: neither names nor has a choice
  optimal = hit
  for index, each in enumerate(found.optimal):
    optimal = optimal | (each & (named_cell == index))
  finite = found.choice >= 0
  # two halves: 1 for the choice, 1/2 for another optimal cell
  return 0.5 * hit.astype(like.dtype) + 0.5 * (optimal & finite).astype(like.dtype)


def _optimal(cells: Cells, undeclared: Array | bool) -> list[Array]:
  """Not dominated; cells of different rows are rivals only where the user type is undeclared."""
  llm, user = cells
  dominated: list[Any] = [False] * NUM_CELLS
  for i in range(NUM_CELLS):
    for j in range(i + 1, NUM_CELLS):  # one pair of comparisons answers both directions
      at_least = (llm[i] >= llm[j]) & (user[i] >= user[j])
      at_most = (llm[i] <= llm[j]) & (user[i] <= user[j])
      # with a declared type the other row cannot be reached, so it cannot dominate
      rivals = True if ROW[i] == ROW[j] else undeclared
      dominated[i] = dominated[i] | (at_most & ~at_least & rivals)
      dominated[j] = dominated[j] | (at_least & ~at_most & rivals)
  return [~each for each in dominated]


def _choice(
  xp: ModuleType, cells: Cells, optimal: tuple[Array, ...], in_play: list[Array | bool]
) -> Array:
  """Argument of the maximum by elimination.

  Halves keep sums of finite numbers finite. "Then LLM" needs no step of its own: two optimal cells
  with equal user payoff have equal LLM payoff.
  """
  finite = fold(
    xp.logical_and,
    [~xp.asarray(p) | (xp.isfinite(l) & xp.isfinite(u)) for p, l, u in zip(in_play, *cells)],
  )
  llm, user = ([xp.where(finite, x, 0.0) for x in role] for role in cells)  # no inf - inf below
  floor = -xp.inf
  total = [0.5 * l + 0.5 * u for l, u in zip(llm, user)]
  size = [0.5 * abs(l) + 0.5 * abs(u) for l, u in zip(llm, user)]
  best = fold(xp.maximum, [xp.where(o, t, floor) for o, t in zip(optimal, total)])
  # over the front only: a huge cell that is dominated must not make everything a tie
  scale = fold(xp.maximum, [xp.where(o, s, 0.5) for o, s in zip(optimal, size)])
  slack = 4 * float(xp.finfo(best.dtype).eps) * xp.maximum(scale, 0.5)
  tied = [o & (best - t <= slack) for o, t in zip(optimal, total)]
  user_best = fold(xp.maximum, [xp.where(t, u, floor) for t, u in zip(tied, user)])
  index = -1
  # from the last cell to the first: the lowest index overwrites the others
  for cell in reversed(range(NUM_CELLS)):
    index = xp.where(tied[cell] & (user[cell] == user_best), cell, index)
  return xp.where(finite, index, -1)


def fold(combine: Callable, arrays: Sequence[Array]) -> Array:
  """combine(combine(a0, a1), a2) …; unlike stack-and-reduce it fuses into one loop."""
  result = arrays[0]
  for each in arrays[1:]:
    result = combine(result, each)
  return result
