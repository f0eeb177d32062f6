"""What the matrices of a policy are worth: do they depend on the prompt, and do they come true?

Float64 NumPy on the host, over P prompts with G samples each (FORMULAS section 10). A row counts
where its mask says so and its numbers are finite; what the other rows hold, NaN included, is not
read. Where nothing can be compared the answer is NaN, never 0: nothing was measured. `Rows` holds
the same flat, for groups of any sizes.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.types import ACTIONS, CELLS, ROLES

NUMBERS = len(CELLS) * len(ROLES)  # of a matrix
HALF = 0.05 + 1e-9  # points: half a unit of the one decimal that sums are stated with
Z = 1.959964  # of the normal distribution: 95 % lie within so many standard errors
TIE = 1e-9  # points of -5..5: targets closer than this differ by the rounding of their means alone


class Rows(NamedTuple):
  """The N rows that count. prompt_N: which prompt each answers, any integers; payoff_NUAR."""

  payoff_NUAR: np.ndarray
  prompt_N: np.ndarray


def rows_of(payoff_PGUAR: Any, counted_PG: Any) -> Rows:
  """The rows that `counted_PG` marks and whose matrix is finite (paper mode reads infinities)."""
  payoff_PGUAR, counted_PG = np.asarray(payoff_PGUAR, np.float64), np.asarray(counted_PG, bool)
  if payoff_PGUAR.shape != (*counted_PG.shape, 2, 3, 2) or counted_PG.ndim != 2:
    raise ValueError(f"payoffs {payoff_PGUAR.shape} are not [P, G, 2, 3, 2] of {counted_PG.shape}")
  counted_PG = counted_PG & np.isfinite(payoff_PGUAR).all((2, 3, 4))
  return Rows(payoff_PGUAR[counted_PG], np.nonzero(counted_PG)[0])


def distinct_frac(payoff_PGUAR: Any, parsed_PG: Any) -> float:
  """Distinct matrices (exact numbers; -0 is 0) over parsed ones; NaN where none is parsed."""
  return distinct(rows_of(payoff_PGUAR, parsed_PG))


def top_matrix_frac(payoff_PGUAR: Any, parsed_PG: Any) -> float:
  """Share of the commonest matrix among the parsed ones; NaN where none is parsed."""
  return top_matrix(rows_of(payoff_PGUAR, parsed_PG))


def payoff_icc(payoff_PGUAR: Any, parsed_PG: Any) -> float:
  """Share of the matrix's variance that lies between prompts, in [0, 1]; see `icc`."""
  return icc(rows_of(payoff_PGUAR, parsed_PG))


def distinct(rows: Rows) -> float:
  """`distinct_frac` of flat rows."""
  found = _counts(rows)
  return len(found) / found.total() if found else np.nan


def top_matrix(rows: Rows) -> float:
  """`top_matrix_frac` of flat rows."""
  found = _counts(rows)
  return max(found.values()) / found.total() if found else np.nan


def _counts(rows: Rows) -> Counter[bytes]:
  # + 0.0: -0.0 and 0.0 are one number with two spellings in bytes
  return Counter(map(bytes, rows.payoff_NUAR.reshape(-1, NUMBERS) + 0.0))


def icc(rows: Rows) -> float:
  """Mean over the 12 numbers of the one-way random-effects ICC(1), each clipped to [0, 1].

  (MSB - MSW) / (MSB + (n0 - 1) MSW), n0 = (N - sum n_p^2 / N) / (P - 1), over the P prompts with
  n_p >= 1 rows, N in all. A number without variance counts 0: it does not depend on the prompt. NaN
  with fewer than two prompts, or one row each: no variance between, or none within, to compare.
  Shrout and Fleiss (1979); n0 for groups of unequal size as in Donner (1986).
  """
  _, prompt_N, n_P = np.unique(rows.prompt_N, return_inverse=True, return_counts=True)
  N, P = len(prompt_N), len(n_P)
  if P < 2 or N == P:
    return np.nan
  # twice: after the first one no difference overflows, after the second no square underflows
  x_NK = _unit(rows.payoff_NUAR.reshape(N, NUMBERS))
  x_NK = _unit(x_NK - x_NK[0])
  mean_PK = _sums(x_NK, prompt_N, P) / n_P[:, None]
  between_K = (n_P[:, None] * (mean_PK - x_NK.mean(0)) ** 2).sum(0) / (P - 1)
  within_K = ((x_NK - mean_PK[prompt_N]) ** 2).sum(0) / (N - P)
  n0 = (N - (n_P**2).sum() / N) / (P - 1)
  varies_K = x_NK.any(0)  # exactly: the mean of equal numbers may round to another number
  total_K = np.where(varies_K, between_K + (n0 - 1) * within_K, 1.0)
  return float(np.where(varies_K, ((between_K - within_K) / total_K).clip(0, 1), 0.0).mean())


def _unit(x_NK: np.ndarray) -> np.ndarray:
  """Each column over a power of two (so exactly), its largest size then in [1/2, 1), or all 0."""
  return np.ldexp(x_NK, -np.frexp(abs(x_NK).max(0))[1])


def _sums(values_NK: np.ndarray, of_N: np.ndarray, size: int) -> np.ndarray:
  """[size, K]: the sum of the rows of each number of `of_N`."""
  out = np.zeros((size, *values_NK.shape[1:]))
  np.add.at(out, of_N, values_NK)
  return out


class Calibration(NamedTuple):
  """error_R, order_R: by role, in the order of ROLES. score_N: c of each row, NaN without target.

  off_NR, targets_N: of each row, the sum of |prediction - target| / 10, and how many targets it
  had: error_R is the ratio of their sums.

  error: mean |prediction - target| / 10. order: share of pairs of actions of one sample that are
  predicted in the order in which they came out. score: 1 - mean ((prediction - target) / 10)^2,
  at least 0.
  """

  error_R: np.ndarray
  order_R: np.ndarray
  score_N: np.ndarray
  off_NR: np.ndarray
  targets_N: np.ndarray


def calibration(
  payoff_PGUAR: Any, user_type_PG: Any, action_PG: Any, utility_PGR: Any, valid_PG: Any
) -> dict[str, Any]:
  """Predicted payoffs against those that the other samples of the prompt realised; see `calibrate`.

  valid_PG: parsed, with a verdict; a row whose matrix or utility is not finite counts as invalid.
  Returns {"error": [llm, user], "order": [llm, user], "score_PG": [P, G]}.
  """
  utility_PGR, valid_PG = np.asarray(utility_PGR, np.float64), np.asarray(valid_PG, bool)
  valid_PG = valid_PG & np.isfinite(utility_PGR).all(2)
  valid_PG &= np.isfinite(np.asarray(payoff_PGUAR, np.float64)).all((2, 3, 4))
  found = calibrate(
    rows_of(payoff_PGUAR, valid_PG),
    np.asarray(user_type_PG)[valid_PG],
    np.asarray(action_PG)[valid_PG],
    utility_PGR[valid_PG],
  )
  score_PG = np.full(valid_PG.shape, np.nan)
  score_PG[valid_PG] = found.score_N
  return {"error": found.error_R.tolist(), "order": found.order_R.tolist(), "score_PG": score_PG}


def calibrate(
  rows: Rows, user_type_N: np.ndarray, action_N: np.ndarray, utility_NR: np.ndarray
) -> Calibration:
  """Calibration of valid rows.

  user_type_N: 0 DQ, 1 VQ, -1 none declared. action_N: what the response did, index of ACTIONS or
  -1. utility_NR: (L, U) in [0, 1]. The target of a row and an action is the mean of 10 R - 5 over
  the *other* rows of its prompt that did it: its own draw would be a part of what it is measured
  by. The prediction is the row's number in the cell of its declared type and that action. A row
  without declared type predicts nothing, but what it realised counts for the others. Pairs with a
  tie on either side count 1/2.
  """
  _, prompt_N = np.unique(rows.prompt_N, return_inverse=True)
  did_NA = np.asarray(action_N)[:, None] == np.arange(len(ACTIONS))
  z_NR = 10 * np.asarray(utility_NR, np.float64) - 5
  done_NAR = did_NA[:, :, None] * z_NR[:, None]
  P = prompt_N.max(initial=-1) + 1
  others_NA = _sums(did_NA, prompt_N, P)[prompt_N] - did_NA
  sum_NAR = _sums(done_NAR, prompt_N, P)[prompt_N] - done_NAR
  target_NAR = sum_NAR / np.maximum(others_NA, 1)[:, :, None]
  declared_N = np.asarray(user_type_N, int)
  has_NA = (others_NA > 0) & (declared_N >= 0)[:, None]
  said_NAR = rows.payoff_NUAR[np.arange(len(declared_N)), np.maximum(declared_N, 0)]
  with np.errstate(over="ignore"):  # a matrix of 1e300 is as wrong as can be: c = 0
    off_NAR = np.where(has_NA[:, :, None], said_NAR / 10 - target_NAR / 10, 0.0)
    worth_N = 1 - (off_NAR**2).sum((1, 2)) / (len(ROLES) * np.maximum(has_NA.sum(1), 1))
  # divided before they are summed: a mean of finite numbers is finite
  error_R = (abs(off_NAR) / max(has_NA.sum(), 1)).sum((0, 1))
  return Calibration(
    error_R if has_NA.any() else np.full(len(ROLES), np.nan),
    _order(said_NAR, target_NAR, has_NA),
    np.where(has_NA.any(1), np.maximum(worth_N, 0.0), np.nan),
    abs(off_NAR).sum(1),
    has_NA.sum(1),
  )


def _order(said_NAR: np.ndarray, target_NAR: np.ndarray, has_NA: np.ndarray) -> np.ndarray:
  """Share of pairs of actions of one sample in the right order, by role; NaN without pairs."""
  right_R, pairs = np.zeros(len(ROLES)), 0
  for a, b in itertools.combinations(range(len(ACTIONS)), 2):
    both_N = has_NA[:, a] & has_NA[:, b]
    came = target_NAR[both_N, a] - target_NAR[both_N, b]
    said = np.sign(said_NAR[both_N, a] / 2 - said_NAR[both_N, b] / 2)  # halves cannot overflow
    right_R += ((1 + said * np.sign(np.where(abs(came) < TIE, 0.0, came))) / 2).sum(0)
    pairs += both_N.sum()
  return right_R / pairs if pairs else np.full(len(ROLES), np.nan)


class Realised(NamedTuple):
  """The game as it was played. mean_UAR: mean of z = 10 R - 5, NaN where n_UA counts no row."""

  mean_UAR: np.ndarray
  n_UA: np.ndarray


def realised(user_type_N: Any, action_N: Any, utility_NR: Any) -> Realised:
  """What each action was worth with each type, of rows with a verdict; -1: neither, not counted.

  action_N: of the first response. utility_NR: (L, U) in [0, 1], of the whole conversation; z is on
  the scale of the matrices (FORMULAS section 9).
  """
  cell_N = np.asarray(user_type_N, int) * len(ACTIONS) + np.asarray(action_N, int)
  there_N = (np.asarray(user_type_N) >= 0) & (np.asarray(action_N) >= 0)
  z_NR = 10 * np.asarray(utility_NR, np.float64).reshape(-1, len(ROLES)) - 5
  n_K = np.bincount(cell_N[there_N], minlength=len(CELLS))
  sum_KR = _sums(z_NR[there_N], cell_N[there_N], len(CELLS))
  mean_KR = np.where(n_K[:, None] > 0, sum_KR / np.maximum(n_K, 1)[:, None], np.nan)
  return Realised(mean_KR.reshape(2, 3, len(ROLES)), n_K.reshape(2, 3))


def regret(welfare_NA: Any, action_N: Any) -> np.ndarray:
  """Largest W over the actions less that of the one taken [N], W being their true worth.

  action_N: -1 where a response did none of them, which counts as the worst one: else being unclear
  were a way out.
  """
  welfare_NA, action_N = np.asarray(welfare_NA, np.float64), np.asarray(action_N, int)
  taken_N = np.take_along_axis(welfare_NA, np.maximum(action_N, 0)[:, None], 1)[:, 0]
  return welfare_NA.max(1) - np.where(action_N < 0, welfare_NA.min(1), taken_N)


def true_error(payoff_NUAR: Any, user_type_N: Any, true_NAR: Any) -> np.ndarray:
  """Mean |prediction - (10 R - 5)| / 10 over the actions [N, R], R the true utility of each.

  The prediction is the number in the cell of the declared type; NaN where none is declared (-1).
  """
  declared_N = np.asarray(user_type_N, int)
  payoff_NUAR, true_NAR = np.asarray(payoff_NUAR, np.float64), np.asarray(true_NAR, np.float64)
  said_NAR = payoff_NUAR[np.arange(len(declared_N)), np.maximum(declared_N, 0)]
  error_NR = (abs(said_NAR / 10 - (true_NAR - 0.5)) / len(ACTIONS)).sum(1)
  return np.where(declared_N[:, None] >= 0, error_NR, np.nan)


def sums(payoff_UAR: Any, user_type: int, stated: Sequence[tuple[int, float]]) -> list[int]:
  """[right, all] of the sums LLM + user that an analysis states, of cells in play.

  user_type: -1 undeclared: all cells are in play. stated: (cell, number), number right within half
  a tenth.
  """
  with np.errstate(invalid="ignore"):  # paper mode reads infinities of both signs
    sum_K = np.asarray(payoff_UAR, np.float64).sum(-1).ravel()
  ours = [each for each in stated if user_type < 0 or each[0] // len(ACTIONS) == user_type]
  right = sum(bool(abs(number - sum_K[cell]) <= HALF) for cell, number in ours)
  return [right, len(ours)]  # of Python: rows are written as JSON


def wilson(share: float, count: int) -> tuple[float, float]:
  """95 % interval of a share of `count` independent trials (Wilson 1927); NaN without any."""
  if not count:
    return math.nan, math.nan
  own = Z * Z / count
  spread = Z * math.sqrt(share * (1 - share) / count + own / (4 * count))
  low, high = ((share + own / 2 + side * spread) / (1 + own) for side in (-1, 1))
  return max(low, 0.0), min(high, 1.0)


def intervention(followed_N: Any, carried_N: Any, prompt_N: Any, held_M: Any, of_M: Any) -> dict:
  """What edits of the matrix did: follow, carry, hold, effect = follow - (1 - hold), and intervals.

  followed_N, carried_N: of each swap, whether the named cell, and the response, went with it.
  prompt_N: any integers. held_M, of_M: of each placebo, whether the action stayed, and its prompt.
  The intervals (`…_interval`, 95 %) take prompts for the trials, because the samples of one are
  alike. That of the effect is made of those of its two shares, as if they were independent (MOVER,
  Zou and Donner 2008). Also n, swaps, and prompts. NaN where nothing was edited.
  """
  out: dict[str, Any] = {}
  for name, right, of in (
    ("follow", followed_N, prompt_N), ("carry", carried_N, prompt_N), ("hold", held_M, of_M)
  ):  # fmt: skip
    out[name] = float(np.mean(right)) if len(right) else math.nan
    out[f"{name}_interval"] = list(wilson(out[name], len(np.unique(of))))
  effect = out["follow"] + out["hold"] - 1
  gaps = [
    math.hypot(*(out[name] - out[f"{name}_interval"][side] for name in ("follow", "hold")))
    for side in (0, 1)
  ]
  out["effect"] = effect
  out["effect_interval"] = [max(effect - gaps[0], -1.0), min(effect + gaps[1], 1.0)]
  return out | {"n": len(followed_N), "prompts": len(np.unique(prompt_N))}
