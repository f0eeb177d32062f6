"""What the responses of a whole suite come to: best of k, refusals, order under a sweep.

Float64 NumPy on the host (FORMULAS sections 10 and 12). NaN where nothing can be compared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

TIE = 1e-9  # numbers closer than this differ by their rounding alone


def best_of(values_PG: Any, k: int) -> np.ndarray:
  """Expected largest of k of a prompt's n samples, drawn without replacement [P].

  Sum over the sorted samples x_i of C(i - 1, k - 1) / C(n, k) x_i: unbiased, and with less noise
  than the best of the first k. values_PG: NaN where a sample has none, and the result is NaN where
  fewer than k are there.
  """
  values_PG = np.sort(np.asarray(values_PG, np.float64), axis=1)  # NaN goes last
  n_P = (~np.isnan(values_PG)).sum(1)
  weight_PG = np.array([
    [math.comb(i, k - 1) / math.comb(n, k) if i < n else 0.0 for i in range(values_PG.shape[1])]
    if n >= k else [np.nan] * values_PG.shape[1]
    for n in n_P.tolist()
  ]).reshape(values_PG.shape)  # fmt: skip
  return (weight_PG * np.where(np.isnan(values_PG), 0.0, values_PG)).sum(1)


def f1(right: int, wrong: int, missed: int) -> float:
  """2 right / (2 right + wrong + missed): harmonic mean of precision and recall."""
  count = 2 * right + wrong + missed
  return 2 * right / count if count else math.nan


def ordered(values_PV: Any, rising: bool) -> np.ndarray:
  """bool_P: whether a prompt's values never fall (rising), or never rise, along the sweep."""
  step_PV = np.diff(np.asarray(values_PV, np.float64), axis=1)
  return np.all((step_PV if rising else -step_PV) >= -TIE, axis=1)
