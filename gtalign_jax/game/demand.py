"""How the length of responses answers to a price, as economics states it: the price elasticity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gtalign_jax.game.resampling import FEWEST, LEVEL


def elasticity(price_K: Sequence[float], tokens_NK: Any, resamples: int) -> dict[str, Any]:
  """d log tokens / d log price: the slope of log(mean tokens) on log(price), least squares.

  tokens_NK: of the response of prompt n at price k, NaN where there is none. Prices of 0 have no
  logarithm and are left out, as are prompts without a response at one of the others. -0.5: one per
  cent more on the price, half a per cent fewer tokens. The interval is a percentile bootstrap over
  prompts, NaN with fewer than FEWEST. None with fewer than two different prices above 0 or without
  any prompt; elasticity_prompts counts them.
  """
  log_K = np.log([each for each in price_K if each > 0])
  tokens_NK = np.asarray(tokens_NK, np.float64).reshape(-1, len(price_K))
  tokens_NK = tokens_NK[:, np.asarray(price_K) > 0]
  tokens_NK = tokens_NK[np.isfinite(tokens_NK).all(1)]
  out: dict[str, Any] = {"elasticity": None, "elasticity_interval": None}
  count, centred_K = len(tokens_NK), log_K - (log_K.mean() if len(log_K) else 0)
  if count and centred_K.any():
    # a prompt enters a resample as often as it is drawn; row 0 is the sample itself
    rng = np.random.default_rng(0)  # a fixed seed: the same rows give the same interval
    drawn_RN = rng.multinomial(count, np.full(count, 1 / count), resamples)
    mean_RK = np.concatenate([np.ones((1, count)), drawn_RN]) @ tokens_NK / count
    # rounded: tokens that never change have the elasticity 0, not -6e-16
    slope_R = np.round(np.log(mean_RK) @ centred_K / (centred_K**2).sum(), 12) + 0.0
    ends = np.percentile(slope_R[1:], [50 - LEVEL / 2, 50 + LEVEL / 2]).tolist()
    interval = ends if count >= FEWEST else [np.nan, np.nan]
    out = {"elasticity": float(slope_R[0]), "elasticity_interval": interval}
  return out | {"elasticity_prompts": count}
