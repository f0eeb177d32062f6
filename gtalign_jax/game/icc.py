"""The ICC of matrices from sums over prompts, so that prompts can be resampled at no cost.

`measures.icc` is the same of numbers of any size, which it scales first; a scale of its own would
part the runs that a comparison exchanges prompts between.
"""

from __future__ import annotations

import numpy as np

NUMBERS = 12  # of a matrix
SCALE = 10.0  # of payoffs, -5 to 5
LARGEST = 1e3  # times the scale; what is written beyond counts as this, or squares overflow
LEAST = 1e-12  # of a sum of squares: less is the rounding of numbers that are all the same


def parts(payoff_NUAR: np.ndarray, prompt_N: np.ndarray, prompts: int) -> np.ndarray:
  """[prompts, 39]: what each prompt adds; rows are finite, prompt_N below `prompts`.

  1 where it has rows, n, n^2, then for each number n times the mean, n times its square, and the
  sum of squares within.
  """
  x_NK = np.clip(payoff_NUAR.reshape(-1, NUMBERS) / SCALE, -LARGEST, LARGEST)
  n_P = np.bincount(prompt_N, minlength=prompts).astype(float)
  sum_PK = np.zeros((prompts, NUMBERS))
  np.add.at(sum_PK, prompt_N, x_NK)
  mean_PK = sum_PK / np.maximum(n_P, 1)[:, None]
  within_PK = np.zeros((prompts, NUMBERS))
  np.add.at(within_PK, prompt_N, (x_NK - mean_PK[prompt_N]) ** 2)
  counts_PS = np.stack([n_P > 0, n_P, n_P**2], axis=1)
  return np.concatenate([counts_PS, sum_PK, sum_PK * mean_PK, within_PK], axis=1)


def of_sums(sums_RS: np.ndarray) -> np.ndarray:
  """[R]: the measure (`measures.icc`) of R sums of parts; NaN where nothing can be compared."""
  P, N, squares = np.moveaxis(sums_RS[..., :3], -1, 0)[..., None]
  sum_K, own_K, within_K = np.split(sums_RS[..., 3:], 3, axis=-1)
  with np.errstate(divide="ignore", invalid="ignore"):
    between_K = np.maximum(own_K - sum_K**2 / N, 0.0)
    varies_K = between_K + within_K > LEAST
    msb_K, msw_K = between_K / (P - 1), within_K / (N - P)
    n0 = (N - squares / N) / (P - 1)
    share_K = (msb_K - msw_K) / (msb_K + (n0 - 1) * msw_K)
  mean_K = np.where(varies_K, share_K.clip(0, 1), 0.0).mean(-1, keepdims=True)
  return np.where((P < 2) | (N == P), np.nan, mean_K)[..., 0]
