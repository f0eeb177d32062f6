"""Source normalisation: puts scores of different tasks on one scale within a batch.

Stateless, over one batch, before group advantages; float64 NumPy on the host (FORMULAS: source
normalisation). Each method maps the rows of one source, given the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gtalign_jax.errors import BadInput
from gtalign_jax.fields import one_of
from gtalign_jax.reward_section import SOURCE_NORMS

E = 1e-6  # below this a spread counts as none: rounding must not be blown up to unit variance
JAMES_ROWS = 50  # rows at which james trusts source and batch equally


def _zscore(x: np.ndarray, batch: np.ndarray) -> np.ndarray:
  deviation = x.std()
  return (x - x.mean()) / (deviation + E) if deviation > E else np.zeros_like(x)


def _minmax(x: np.ndarray, batch: np.ndarray) -> np.ndarray:
  spread = np.ptp(x)
  return (x - x.min()) / spread if spread > E else np.zeros_like(x)


def _robustz(x: np.ndarray, batch: np.ndarray) -> np.ndarray:
  """Median and MAD of the source clipped to its 1st and 99th percentiles, squashed by tanh."""
  clipped = np.clip(x, *np.percentile(x, [1, 99]))
  median = np.median(clipped)
  scale = 1.4826 * np.median(np.abs(clipped - median))  # MAD of a normal is sigma / 1.4826
  scale = scale if scale > E else 1.0
  return np.tanh((clipped - median) / (2 * scale))


def _cdf(x: np.ndarray, batch: np.ndarray) -> np.ndarray:
  low, high = _ranks(x)
  return 2 * ((low + high) / 2 - 0.5) / len(x) - 1  # average rank


def _quantile(x: np.ndarray, batch: np.ndarray) -> np.ndarray:
  """The batch's value at the row's own quantile within its source (highest tied rank)."""
  _, high = _ranks(x)
  p = (high - 0.5) / len(x)
  return np.sort(batch)[np.floor(p * (len(batch) - 1)).astype(int)]


def _james(x: np.ndarray, batch: np.ndarray) -> np.ndarray:
  """James-Stein-like: small sources lean on the batch."""
  k = len(x) / (len(x) + JAMES_ROWS)
  mean = k * x.mean() + (1 - k) * batch.mean()
  variance = k * (x.std() + E) ** 2 + (1 - k) * (batch.std() + E) ** 2
  return (x - mean) / (np.sqrt(variance) + E)


def _decentralize(x: np.ndarray, batch: np.ndarray) -> np.ndarray:
  return (x - x.mean()) / (batch.std() + E)


def _selfadapt(x: np.ndarray, batch: np.ndarray) -> np.ndarray:
  return np.tanh((x - x.mean()) / 2)


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
  "none": lambda x, batch: x,
  "zscore": _zscore,
  "minmax": _minmax,
  "robustz": _robustz,
  "cdf": _cdf,
  "quantile": _quantile,
  "james": _james,
  "decentralize": _decentralize,
  "selfadapt": _selfadapt,
}


def normalize(
  scores: Sequence[float | None] | np.ndarray, sources: Sequence[str], method: str
) -> np.ndarray:
  """Normalises `scores` [N] by their `sources` [N]; float64 [N].

  Invalid rows (None, NaN or infinite) are left out of every statistic and come back as NaN.
  Raises BadInput on an unknown method or unequal lengths.
  """
  one_of("method", method, SOURCE_NORMS)
  if len(scores) != len(sources):
    raise BadInput(f"{len(scores)} scores but {len(sources)} sources; one source per score")
  scores = np.array([np.nan if x is None else x for x in scores], np.float64)
  valid = np.isfinite(scores)  # a row without verdict is no score of 0
  batch = scores[valid]
  # numbers in place of names: each source is then one comparison of integers
  codes: dict[str, int] = {}
  member = np.array([codes.setdefault(source, len(codes)) for source in sources], int)
  out = np.full(len(scores), np.nan)
  for code in range(len(codes)):
    rows = valid & (member == code)
    if rows.any():
      out[rows] = METHODS[method](scores[rows], batch)
  return out


def _ranks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Lowest and highest rank (1 … n) of each value among its ties."""
  ordered = np.sort(x)
  return np.searchsorted(ordered, x, "left") + 1, np.searchsorted(ordered, x, "right")
