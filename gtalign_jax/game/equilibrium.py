"""Nash equilibria of the 2x3 bimatrix game of a chain: user type against assistant action.

A library on arrays: scoring uses `outcome`, the report `equilibria` and `strategies`;
`best_replies` is for analysis by hand (docs/game.md) and for the tests, which compare with nashpy.

Row player: the user (DQ, VQ); column player: the LLM (DA, CQ, AQ). Equilibria sit in nine fixed
slots with a mask, so that everything has static shapes: slots 0-5 are the pure cells 3*u + a, slots
6-8 are mixtures of both types and of two actions (`PAIRS`). In a game that is not degenerate every
equilibrium has supports of equal size (von Stengel 2002), so the slots hold all of them.
Functions that end in `_of` take what a caller has at hand already, so that one kernel splits the
matrix and finds its front once.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

from gtalign_jax.arrays import floats
from gtalign_jax.game import payoff as matrices
from gtalign_jax.game.payoff import Cells
from gtalign_jax.game.welfare import welfare
from gtalign_jax.types import Array

PAIRS = ((0, 1, 2), (0, 2, 1), (1, 2, 0))  # actions mixed, and the third one
NUM_SLOTS = 9
SLACK = 8  # in units of eps(dtype) and the numbers compared: rounding of mixed payoffs


class Equilibria(NamedTuple):
  """All equilibria of each game, E = 9 slots, M = 3 of them mixed.

  mask_BE: which slots are equilibria. dq_BM: probability of DQ in each mixed slot. first_BM:
  probability of the first action of its pair. value_BMR: expected (LLM, user) payoff there. All
  three are finite but mean nothing where the mask is False. degenerate_B: some strategy has more
  pure best replies than its support; then the slots hold at least one equilibrium, but part of a
  continuum may be missing, and one may appear twice.
  """

  mask_BE: Array
  dq_BM: Array
  first_BM: Array
  value_BMR: Array
  degenerate_B: Array


class Outcome(NamedTuple):
  """What the equilibria mean for welfare, arrays [B].

  gap: W of the best cell minus W of the worst equilibrium, W = sqrt(max(user, 0) max(LLM, 0)).
  price_of_anarchy: largest cell sum LLM + user over the smallest sum of an equilibrium; NaN unless
  both are positive. dilemma: every equilibrium is Pareto-dominated by a cell.
  Without an equilibrium (payoffs that are not finite) they are NaN, NaN, False.
  """

  gap: Array
  price_of_anarchy: Array
  dilemma: Array


def best_replies(payoff_BUAR: Array) -> tuple[Array, Array]:
  """(user_BUA, llm_BUA): is u a best reply of the user to a; is a a best reply of the LLM to u."""
  xp, payoff_BUAR = floats(payoff_BUAR)
  user, llm = _best_replies(xp, matrices.split(payoff_BUAR))
  shape = payoff_BUAR.shape[:-1]
  return xp.stack(user, axis=-1).reshape(shape), xp.stack(llm, axis=-1).reshape(shape)


def equilibria(payoff_BUAR: Array) -> Equilibria:
  """Pure and mixed Nash equilibria of each game; none where a payoff is not finite."""
  xp, payoff_BUAR = floats(payoff_BUAR)
  return equilibria_of(xp, matrices.split(payoff_BUAR))


def strategies(found: Equilibria) -> tuple[Array, Array]:
  """Mixed strategies (user_BEU, llm_BEA) of every slot; zeros where the mask is False."""
  xp, dq_BM, first_BM = floats(found.dq_BM, found.first_BM)
  one, zero = xp.ones_like(dq_BM[..., 0]), xp.zeros_like(dq_BM[..., 0])
  user = [[one, zero]] * 3 + [[zero, one]] * 3  # pure slots: DQ in cells 0-2, VQ in 3-5
  llm = [[one if a == cell % 3 else zero for a in range(3)] for cell in range(6)]
  for m, (a, b, _) in enumerate(PAIRS):
    user.append([dq_BM[..., m], 1 - dq_BM[..., m]])
    share = {a: first_BM[..., m], b: 1 - first_BM[..., m]}
    llm.append([share.get(action, zero) for action in range(3)])

  def stack(slots: list[list[Array]]) -> Array:
    values = xp.stack([xp.stack(slot, axis=-1) for slot in slots], axis=-2)
    return xp.where(found.mask_BE[..., None], values, 0.0)

  return stack(user), stack(llm)


def outcome(payoff_BUAR: Array) -> Outcome:
  """Gap, price of anarchy and dilemma test of each game."""
  xp, payoff_BUAR = floats(payoff_BUAR)
  cells = matrices.split(payoff_BUAR)
  optimal = matrices.front_of(xp, cells, None).optimal
  return outcome_of(xp, cells, equilibria_of(xp, cells), optimal)


def equilibria_of(xp: ModuleType, cells: Cells) -> Equilibria:
  """`equilibria` on split cells; `xp` is their namespace."""
  finite, cells = _finite(xp, cells)
  user_best, llm_best = _best_replies(xp, cells)
  pure = [u & l & finite for u, l in zip(user_best, llm_best)]
  mixed = [_mixture(xp, cells, *actions) for actions in PAIRS]
  degenerate = ~finite
  for a in range(3):  # the user has two best replies to action a
    degenerate = degenerate | (cells.user[a] == cells.user[3 + a])
  # the LLM has two best replies to a user type
  for first, second in ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)):
    degenerate = degenerate | (llm_best[first] & llm_best[second])
  for each in mixed:  # the LLM has three best replies to a mixture of types
    degenerate = degenerate | each.triple
  value = [xp.stack([each.llm, each.user], axis=-1) for each in mixed]
  return Equilibria(
    xp.stack(pure + [each.holds & finite for each in mixed], axis=-1),
    xp.stack([each.dq for each in mixed], axis=-1),
    xp.stack([each.first for each in mixed], axis=-1),
    xp.stack(value, axis=-2),
    degenerate,
  )


def outcome_of(
  xp: ModuleType, cells: Cells, found: Equilibria, optimal: tuple[Array, ...]
) -> Outcome:
  """`outcome` of equilibria already found; `optimal`: the Pareto mask per cell, all in play."""
  _, cells = _finite(xp, cells)
  llm = [*cells.llm, *(found.value_BMR[..., m, 0] for m in range(3))]
  user = [*cells.user, *(found.value_BMR[..., m, 1] for m in range(3))]
  present = [found.mask_BE[..., e] for e in range(NUM_SLOTS)]
  value = [welfare("cobb_douglas", u, l) for u, l in zip(user, llm)]
  total = [u + l for u, l in zip(user, llm)]
  some = matrices.fold(xp.logical_or, present)
  gap = matrices.fold(xp.maximum, value[:6]) - _worst(xp, value, present)
  best, worst = matrices.fold(xp.maximum, total[:6]), _worst(xp, total, present)
  llm_slack, user_slack = _slack(xp, cells)
  positive = some & (best > 0) & (worst > llm_slack + user_slack)  # not by rounding alone
  ratio = best / xp.where(positive, worst, 1.0)  # no division by 0, which has no gradient
  # a pure equilibrium is a cell, for which the exact test is done; a mixture needs slack
  dominated = [~each for each in optimal]
  dominated += [_dominated_by_cell(xp, cells, llm[e], user[e]) for e in range(6, NUM_SLOTS)]
  every = matrices.fold(xp.logical_and, [d | ~p for d, p in zip(dominated, present)])
  return Outcome(xp.where(some, gap, xp.nan), xp.where(positive, ratio, xp.nan), every & some)


class _Mixture(NamedTuple):
  holds: Array  # is an equilibrium
  triple: Array  # the third action ties with the pair
  dq: Array
  first: Array
  llm: Array  # expected payoffs
  user: Array


def _mixture(xp: ModuleType, cells: Cells, a: int, b: int, third: int) -> _Mixture:
  """The profile in which the LLM is indifferent between a and b, the user between DQ and VQ.

  Weak signs: in degenerate games one of the two mixtures may be pure (both pure is a pure slot).
  Probabilities are ratios of magnitudes, |x| / (|x| + |y|), so nothing cancels.
  """
  llm, user = cells
  llm_dq, llm_vq = llm[a] - llm[b], llm[3 + a] - llm[3 + b]  # gain of a over b for each user type
  user_a, user_b = user[a] - user[3 + a], user[b] - user[3 + b]  # gain of DQ over VQ
  dq, dq_exists, dq_inner = _indifference(xp, llm_dq, llm_vq)
  first, first_exists, first_inner = _indifference(xp, user_a, user_b)
  over_dq, over_vq = llm[a] - llm[third], llm[3 + a] - llm[3 + third]
  margin = dq * over_dq + (1 - dq) * over_vq  # of the pair over the third action
  eps = float(xp.finfo(margin.dtype).eps)
  slack = SLACK * eps * (dq * abs(over_dq) + (1 - dq) * abs(over_vq))
  holds = dq_exists & first_exists & (dq_inner | first_inner) & (margin >= -slack)
  triple = dq_exists & dq_inner & (abs(margin) <= slack)
  value_llm = dq * llm[a] + (1 - dq) * llm[3 + a]
  value_user = xp.where(
    dq > 0.5,  # both rows pay the same; read the likelier one
    first * user[a] + (1 - first) * user[b],
    first * user[3 + a] + (1 - first) * user[3 + b],
  )
  return _Mixture(holds, triple, dq, first, value_llm, value_user)


def _indifference(xp: ModuleType, x: Array, y: Array) -> tuple[Array, Array, Array]:
  """p with p x + (1 - p) y = 0: (p, whether one exists in [0, 1], whether it is inside)."""
  inside = ((x > 0) & (y < 0)) | ((x < 0) & (y > 0))
  exists = inside | ((x == 0) != (y == 0))
  size = abs(x) + abs(y)  # = |x - y|, as the signs differ; no cancellation
  return abs(y) / xp.where(exists, size, 1.0), exists, inside


def _best_replies(xp: ModuleType, cells: Cells) -> tuple[list[Array], list[Array]]:
  """Per cell: is its user type a best reply to its action, and the other way round."""
  llm, user = cells
  # cell c and cell c + 3 (mod 6) are one action under the two user types
  user_best = [user[c] >= user[(c + 3) % 6] for c in range(6)]
  row = [matrices.fold(xp.maximum, llm[:3])] * 3 + [matrices.fold(xp.maximum, llm[3:])] * 3
  return user_best, [value == best for value, best in zip(llm, row)]


def _dominated_by_cell(xp: ModuleType, cells: Cells, llm: Array, user: Array) -> Array:
  """Is (llm, user) Pareto-dominated by a cell, by more than the rounding of a mixture."""
  llm_slack, user_slack = _slack(xp, cells)
  found: Any = False
  for cell_llm, cell_user in zip(*cells):
    more_llm, more_user = cell_llm - llm, cell_user - user
    better = (more_llm > llm_slack) | (more_user > user_slack)
    found = found | (better & (more_llm >= -llm_slack) & (more_user >= -user_slack))
  return found


def _slack(xp: ModuleType, cells: Cells) -> list[Array]:
  """Rounding of a mixture of payoffs, (LLM, user)."""
  largest = [matrices.fold(xp.maximum, [abs(x) for x in role]) for role in cells]
  return [SLACK * float(xp.finfo(each.dtype).eps) * each for each in largest]


def _worst(xp: ModuleType, values: list[Array], present: list[Array]) -> Array:
  """The smallest value of the equilibria that are present; inf where there is none."""
  return matrices.fold(xp.minimum, [xp.where(p, v, xp.inf) for v, p in zip(values, present)])


def _finite(xp: ModuleType, cells: Cells) -> tuple[Array, Cells]:
  """Which games are finite, and the cells with zeros in place of the others: no inf - inf."""
  finite = matrices.fold(xp.logical_and, [xp.isfinite(x) for role in cells for x in role])
  return finite, Cells(*(tuple(xp.where(finite, x, 0.0) for x in role) for role in cells))
