"""Intervals and tests over prompts, for means, ratios of sums, and the ICC of matrices.

A measure is a function of sums over prompts of a few numbers, its *parts* [P, S]: (sum, count) of a
ratio, where a plain mean has counts of 1, or those of `icc.parts`. So each resample is a product of
matrices, and all measures of a resample speak of the same prompts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from gtalign_jax.game import icc

LEVEL = 95  # percent, of the intervals
FEWEST = 8  # prompts of an interval, a test, a finding: fewer say which ones they happen to be
FLIPS = 9_999  # of a test with more prompts than can be enumerated: p is at least 1e-4
BLOCK = 4_000_000  # weights drawn at once: memory does not grow with the number of resamples

Parts = Mapping[str, np.ndarray]  # name -> [P, S]
Interval = dict[str, float]  # mean, low, high, and of differences p; NaN where there is none


def of_values(values_P: np.ndarray) -> np.ndarray:
  """The parts [P, 2] of a plain mean over prompts; NaN: this prompt has no number."""
  there_P = ~np.isnan(values_P)
  return np.stack([np.where(there_P, values_P, 0.0), there_P], axis=1)


def value(parts_RS: np.ndarray) -> np.ndarray:
  """[R]: the measure of R sums of parts; NaN where nothing counts."""
  if parts_RS.shape[-1] != 2:
    return icc.of_sums(parts_RS)
  total, count = np.moveaxis(parts_RS, -1, 0)
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.where(count > 0, total / count, np.nan)


def values(parts: Parts) -> dict[str, float]:
  """Each measure over all of its prompts."""
  return {name: float(value(each.sum(0))) for name, each in parts.items()}


def bootstrap(means: Mapping[str, np.ndarray], resamples: int) -> dict[str, Interval]:
  """`intervals` of plain means; means: name -> the value of each prompt."""
  return intervals({name: of_values(np.asarray(each)) for name, each in means.items()}, resamples)


def intervals(parts: Parts, resamples: int) -> dict[str, Interval]:
  """{mean, low, high}: percentile intervals, prompts drawn with replacement.

  low and high are NaN with fewer than FEWEST prompts.
  """
  joined_PS = _joined(parts) if parts else np.zeros((0, 0))
  return _drawn(
    values(parts), lambda times_RP: _each(parts, times_RP @ joined_PS), len(joined_PS), resamples
  )


def differences(a: Parts, b: Parts, resamples: int) -> dict[str, Interval]:
  """{mean, low, high, p} of a - b in each measure that both have, of the same prompts in order.

  Prompts are drawn in pairs. p: two-sided, of a permutation test in which a prompt's results may
  exchange runs (for a mean: the signs of its differences flip); exact up to 13 prompts.
  """
  shared = {name: each for name, each in a.items() if name in b}
  other = {name: b[name] for name in shared}
  ours, theirs = values(shared), values(other)
  means = {name: each - theirs[name] for name, each in ours.items()}
  if not means:
    return {}
  a_PS, b_PS = _joined(shared), _joined(other)

  def gaps(ours_RS: np.ndarray, theirs_RS: np.ndarray) -> dict[str, np.ndarray]:
    less = _each(shared, theirs_RS)
    return {name: each - less[name] for name, each in _each(shared, ours_RS).items()}

  out = _drawn(means, lambda times_RP: gaps(times_RP @ a_PS, times_RP @ b_PS), len(a_PS), resamples)
  exchanged = lambda moved_RS: gaps(a_PS.sum(0) + moved_RS, b_PS.sum(0) - moved_RS)  # noqa: E731
  for name, p in _exchanged(b_PS - a_PS, exchanged, means).items():
    out[name]["p"] = p
  return out


def holm(p_K: Sequence[float]) -> list[float]:
  """p values corrected for their number (Holm 1979); NaN stays, and counts for nothing."""
  known = sorted((p, k) for k, p in enumerate(p_K) if not math.isnan(p))
  out, worst = [math.nan] * len(p_K), 0.0
  for rank, (p, k) in enumerate(known):
    worst = max(worst, min(1.0, (len(known) - rank) * p))
    out[k] = worst
  return out


def ranged(each: Mapping[str, float], form: str = ".3f") -> str:
  """A mean with its interval as text; see `spanned`."""
  return spanned(each["mean"], (each["low"], each["high"]), form)


def spanned(mean: float | None, interval: Sequence[float] | None, form: str = ".3f") -> str:
  """`0.412 [0.380, 0.441]`, the mean alone where there are too few prompts, - without any."""
  if mean is None or math.isnan(mean):
    return "-"
  if interval is None or math.isnan(interval[0]):
    return f"{mean:{form}}"
  return f"{mean:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"


def _joined(parts: Parts) -> np.ndarray:
  """[P, all S]: one product of matrices for all measures, in place of a narrow one for each."""
  return np.concatenate(list(parts.values()), axis=1)


def _each(parts: Parts, sums_RS: np.ndarray) -> dict[str, np.ndarray]:
  """Each measure [R] of the sums of joined parts."""
  ends = np.cumsum([each.shape[1] for each in parts.values()])[:-1]
  return {name: value(each) for name, each in zip(parts, np.split(sums_RS, ends, axis=-1))}


def _drawn(
  means: Mapping[str, float],
  measured: Callable[[np.ndarray], Mapping[str, np.ndarray]],
  count: int,
  resamples: int,
) -> dict[str, Interval]:
  """Each mean with its interval. measured: from counts of drawn prompts [R, P] to values [R]."""
  out = {name: {"mean": mean, "low": math.nan, "high": math.nan} for name, mean in means.items()}
  if count < FEWEST or not means:
    return out
  rng = np.random.default_rng(0)  # a fixed seed: the same files give the same intervals
  drawn: dict[str, list[np.ndarray]] = {name: [] for name in means}
  for size in _blocks(resamples, count):
    at_RP = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
    times_RP = np.bincount(at_RP.ravel(), minlength=size * count).reshape(size, count)
    for name, each in measured(times_RP.astype(float)).items():
      drawn[name].append(each)
  for name, found in out.items():
    values_R = np.concatenate(drawn[name])
    values_R = values_R[~np.isnan(values_R)]  # a draw may hold no prompt that counts
    if len(values_R):
      ends = np.percentile(values_R, [50 - LEVEL / 2, 50 + LEVEL / 2])
      found["low"], found["high"] = ends.tolist()
  return out


def _exchanged(
  gain_PS: np.ndarray,
  measured: Callable[[np.ndarray], Mapping[str, np.ndarray]],
  means: Mapping[str, float],
) -> dict[str, float]:
  """p of each measure; NaN with fewer than FEWEST prompts, or without a difference to test.

  gain_PS: what the sums of a gain where a prompt is exchanged. measured: from such gains [R, S] to
  the differences [R].
  """
  count = len(gain_PS)
  if count < FEWEST:
    return dict.fromkeys(means, math.nan)
  as_far, tried = dict.fromkeys(means, 0), 0
  for swap_RP in _swaps(count):
    tried += len(swap_RP)
    for name, gap_R in measured(swap_RP @ gain_PS).items():
      # a share of 1e-9: sums in another order must not make an equal difference a smaller one
      as_far[name] += int((abs(gap_R) >= abs(means[name]) * (1 - 1e-9) - 1e-12).sum())
  exact = 2**count <= FLIPS
  return {
    # the files as they are count as one of the drawn exchanges, so that p is never 0
    name: math.nan if math.isnan(mean) else (as_far[name] + (not exact)) / (tried + (not exact))
    for name, mean in means.items()
  }


def _swaps(count: int) -> Iterator[np.ndarray]:
  """Which prompts exchange runs [R, P]: all ways where they are few, else FLIPS draws."""
  if 2**count <= FLIPS:
    yield np.array(list(itertools.product((0.0, 1.0), repeat=count)))
    return
  rng = np.random.default_rng(1)
  for size in _blocks(FLIPS, count):
    yield rng.integers(2, size=(size, count)).astype(float)


def _blocks(rows: int, width: int) -> Iterator[int]:
  size = max(1, BLOCK // width)
  for first in range(0, rows, size):
    yield min(size, rows - first)
