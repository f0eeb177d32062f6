"""Runs as clouds of points (U, L): Pareto fronts, hypervolume, coverage, regret, dominance.

Exact and in float64 NumPy on the host: sizes of fronts depend on the data, and these run once a
comparison; lists serve as arrays. N points cost O(N log N) (FORMULAS: comparing runs).
"""

from __future__ import annotations

from typing import Any

import numpy as np


def front_mask(points_N2: np.ndarray) -> np.ndarray:
  """bool_N: no other point is at least as good in both and better in one; equal points stay."""
  points_N2 = _points(points_N2)
  unique, inverse = np.unique(points_N2, axis=0, return_inverse=True)  # sorted by U, then by L
  llm = unique[::-1, 1]  # falling user utility, then falling LLM utility
  best_before = np.maximum.accumulate(np.concatenate([[-np.inf], llm[:-1]]))
  # reshape: some versions of NumPy 2 return the inverse as [N, 1]
  return (llm > best_before)[::-1][inverse.reshape(-1)]


def front(points_N2: np.ndarray) -> np.ndarray:
  """The distinct points of the strict Pareto front [F, 2], by rising U (so by falling L)."""
  points_N2 = _points(points_N2)
  return np.unique(points_N2[front_mask(points_N2)], axis=0)


def hypervolume(points_N2: np.ndarray, reference: np.ndarray) -> float:
  """Area that the points' own front dominates above `reference` (U, L); 0 without such points.

  Sum over the front by falling U of (u_i - u_ref)(l_i - l_{i-1}), l_0 = l_ref.
  """
  points_N2 = _points(points_N2)
  u_ref, l_ref = np.asarray(reference, np.float64)
  # a point below the reference in one axis would enter as a negative area
  inside = points_N2[(points_N2[:, 0] > u_ref) & (points_N2[:, 1] > l_ref)]
  if not len(inside):
    return 0.0
  u, llm = front(inside)[::-1].T
  return float(np.sum((u - u_ref) * np.diff(llm, prepend=l_ref)))


def coverage(
  points_N2: np.ndarray, front_F2: np.ndarray, ranges: np.ndarray, epsilon: float
) -> float:
  """Share of points p with some front point q: (q - p)/range <= epsilon in both axes.

  front_F2: by rising U, as `front` returns it.
  """
  points_N2, front_F2 = _points(points_N2), _points(front_F2)
  # Of the front points that are close enough in U the last one is the lowest in L.
  step = lambda i: (front_F2[i, 0] - points_N2[:, 0]) / ranges[0] <= epsilon  # noqa: E731
  last = _count_true(step, len(points_N2), len(front_F2)) - 1
  gap_l = (front_F2[np.maximum(last, 0), 1] - points_N2[:, 1]) / ranges[1]
  return float(np.mean((last >= 0) & (gap_l <= epsilon)))


def regret(points_N2: np.ndarray, front_F2: np.ndarray, ranges: np.ndarray) -> float:
  """Mean over points p of min over front points q of max((q - p)+ / range) over the axes."""
  points_N2, front_F2 = _points(points_N2), _points(front_F2)

  def shortfall(i, axis):
    return np.maximum(front_F2[i, axis] - points_N2[:, axis], 0.0) / ranges[axis]

  # Along the front the shortfall in U rises and that in L falls: the minimum is where they cross.
  crossing = _count_true(lambda i: shortfall(i, 0) < shortfall(i, 1), len(points_N2), len(front_F2))
  after, before = np.minimum(crossing, len(front_F2) - 1), np.maximum(crossing - 1, 0)
  worst = [np.maximum(shortfall(i, 0), shortfall(i, 1)) for i in (before, after)]
  return float(np.mean(np.minimum(*worst)))


def dominance(a_N2: np.ndarray, b_N2: np.ndarray) -> dict[str, int]:
  """Rows in which a dominates b, b dominates a, both are equal, or neither; comparison is exact."""
  a_N2, b_N2 = _points(a_N2), _points(b_N2)
  at_least, at_most = (a_N2 >= b_N2).all(axis=1), (a_N2 <= b_N2).all(axis=1)
  equal = int((at_least & at_most).sum())
  a, b = int(at_least.sum()) - equal, int(at_most.sum()) - equal
  return {"a": a, "b": b, "equal": equal, "incomparable": len(a_N2) - a - b - equal}


def compare(a_N2: np.ndarray, b_N2: np.ndarray, epsilon: float) -> dict[str, Any]:
  """Hypervolume, coverage, regret and dominance of two runs on the same N >= 1 prompts.

  Front, ranges (max - min; 0 counts as 1) and the reference point (min U, min L) are those of both
  runs together.
  """
  a_N2, b_N2 = _points(a_N2), _points(b_N2)
  both = np.concatenate([a_N2, b_N2])
  low, ranges = both.min(axis=0), np.ptp(both, axis=0)
  ranges = np.where(ranges == 0, 1.0, ranges)  # all points on a line: nothing to scale by
  shared = front(both)
  runs = {"a": a_N2, "b": b_N2}
  return {
    "hypervolume": {name: hypervolume(points, low) for name, points in runs.items()},
    "coverage": {name: coverage(points, shared, ranges, epsilon) for name, points in runs.items()},
    "regret": {name: regret(points, shared, ranges) for name, points in runs.items()},
    "dominance": dominance(a_N2, b_N2),
  }


def per_point(user_N: np.ndarray, llm_N: np.ndarray) -> dict[str, np.ndarray]:
  """W = sqrt(max(U, 0) max(L, 0)), U, L, min(U, L), |U - L| of each point; a run reports means."""
  user_N, llm_N = np.asarray(user_N, np.float64), np.asarray(llm_N, np.float64)
  return {
    # two roots, since the product of large utilities could overflow
    "welfare": np.sqrt(np.maximum(user_N, 0.0)) * np.sqrt(np.maximum(llm_N, 0.0)),
    "user": user_N,
    "llm": llm_N,
    "min": np.minimum(user_N, llm_N),
    "gap": np.abs(user_N - llm_N),
  }


def _count_true(test, rows: int, size: int) -> np.ndarray:
  """Per row the number of leading i < size with test(i); test must be true first, then false."""
  # bisection for all rows at once: N points against F of the front in O(N log F)
  low, high = np.zeros(rows, np.int64), np.full(rows, size, np.int64)
  while (open_ := low < high).any():
    middle = (low + high) // 2
    holds = test(np.minimum(middle, size - 1))
    low = np.where(open_ & holds, middle + 1, low)
    high = np.where(open_ & ~holds, middle, high)
  return low


def _points(points_N2: np.ndarray) -> np.ndarray:
  points_N2 = np.asarray(points_N2, np.float64)
  if points_N2.ndim != 2 or points_N2.shape[1] != 2:
    raise ValueError(f"points have shape {points_N2.shape}; expected [N, 2] of (U, L)")
  return points_N2 + 0.0  # -0.0 and 0.0 are one point
