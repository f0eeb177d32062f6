"""Cutting an optimiser batch into slices of like length, so that little padding is trained on.

A slice holds `micro_prompts` prompts with `micro_samples` of their completions each. Prompts are
sorted by length and so are the samples of each prompt, so a slice's rows are about as long as each
other; its width is the smallest of a few given ones that holds them. One program is compiled per
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.parallel.sharding import constrain
from gtalign_jax.sections import GRPOConfig
from gtalign_jax.types import Experience, TrainBatch

QUARTERS = 4


class Slice(NamedTuple):
  """Which rows go together: prompts, samples of each, and the width in completion tokens."""

  prompt_p: np.ndarray
  sample_pg: np.ndarray
  width: int


def size(config: GRPOConfig, group_size: int) -> tuple[int, int]:
  """Prompts of a slice, and completions of each."""
  return (
    config.micro_prompts or config.minibatch_prompts or config.prompts_per_step,
    config.micro_samples or config.train_samples or group_size,
  )


def of(
  experience: Experience, config: GRPOConfig, prompts: np.ndarray | None = None
) -> list[Slice]:
  """The slices of an experience's trained rows, or of those of some of its prompts."""
  count_PG, budget = experience.count_PG, experience.rollout.tokens_BC.shape[1]
  p, g = size(config, count_PG.shape[1])
  return cut(count_PG, p, g, widths(config.length_buckets, budget), experience.trained_PG, prompts)


def of_later(
  experience: Experience, config: GRPOConfig, prompts: np.ndarray | None = None
) -> list[Slice]:
  """The slices of the later turns of an experience's trained rows, or of those of some prompts.

  Each row has a prompt of its own, so a slice has as many rows as one of first turns. The last one
  is filled up with a row that `on_mesh` has left empty.
  """
  later, P_G = experience.later, experience.count_PG.shape
  assert later is not None
  p, g = size(config, P_G[1])
  mine_P = np.isin(later.parent_P // P_G[1], np.arange(P_G[0]) if prompts is None else prompts)
  chosen = np.flatnonzero(mine_P & later.trained_PG[:, 0])
  chosen = chosen[np.argsort(later.count_PG[chosen, 0], kind="stable")]
  empty = later.rollout.tokens_BC.shape[0] - 1
  wide = widths(config.length_buckets, later.rollout.tokens_BC.shape[1])
  out = []
  for first in range(0, len(chosen), p * g):
    some = chosen[first : first + p * g]
    prompt_p = np.full(p * g, empty, np.int32)
    prompt_p[: len(some)] = some
    longest = later.count_PG[some[-1], 0]
    width = next(width for width in wide if width >= longest)
    out.append(Slice(prompt_p, np.zeros((p * g, 1), np.int32), width))
  return out


def cut(
  count_PG: np.ndarray,
  micro_prompts: int,
  micro_samples: int,
  widths: Sequence[int],
  trained_PG: np.ndarray | None = None,
  prompts: np.ndarray | None = None,
) -> list[Slice]:
  """Slices that cover every row once, or every one of `trained_PG`, K in each group.

  count_PG: completion tokens. micro_prompts, micro_samples: divisors of P and K (or G), 0 = all at
  once. widths: of `widths`, the last one holds every completion. prompts: which of the P take part
  (default: all); P then is their number.
  """
  trained_PG = np.ones(count_PG.shape, bool) if trained_PG is None else trained_PG
  prompts = np.arange(len(count_PG)) if prompts is None else np.sort(prompts)
  P, K = len(prompts), int(trained_PG[0].sum())
  p, g = micro_prompts or P, micro_samples or K
  by_length_P = prompts[np.argsort((count_PG * trained_PG).sum(1)[prompts], kind="stable")]
  last = np.iinfo(count_PG.dtype).max
  by_length_PG = np.argsort(np.where(trained_PG, count_PG, last), axis=1, kind="stable")
  out = []
  for first in range(0, P, p):
    prompt_p = np.sort(by_length_P[first : first + p]).astype(np.int32)
    for left in range(0, K, g):
      sample_pg = by_length_PG[prompt_p, left : left + g].astype(np.int32)
      longest = int(_counts(count_PG, prompt_p, sample_pg).max())
      width = next(width for width in widths if width >= longest)
      out.append(Slice(prompt_p, sample_pg, width))
  return out


def _counts(count_PG: np.ndarray, prompt_p: np.ndarray, sample_pg: np.ndarray) -> np.ndarray:
  return np.take_along_axis(count_PG[prompt_p], sample_pg, axis=1)


def padding(count_PG: np.ndarray, slices: list[Slice]) -> float:
  """Share of the slices' completion slots that hold no token."""
  slots = sum(each.sample_pg.size * each.width for each in slices)
  tokens = sum(_counts(count_PG, each.prompt_p, each.sample_pg).sum() for each in slices)
  return 1.0 - float(tokens) / slots


def widths(buckets: Sequence[int], budget: int) -> list[int]:
  """Ascending widths of slices: the budget, and below it `buckets` or else its quarters."""
  below = buckets or [-(-budget * part // QUARTERS) for part in range(1, QUARTERS)]
  return sorted({width for width in below if width < budget} | {budget})


def take(width: int, batch: TrainBatch, prompt_p: jax.Array, sample_pg: jax.Array) -> TrainBatch:
  """The rows of one slice, prompt-major, completions cut to `width` tokens."""
  P = batch.prompt.length_P.shape[0]

  def rows(x):
    grouped = x.reshape(P, -1, *x.shape[1:])[prompt_p]
    picked = jnp.take_along_axis(
      grouped, sample_pg.reshape(*sample_pg.shape, *[1] * (x.ndim - 1)), 1
    )
    picked = picked.reshape(-1, *x.shape[1:])
    picked = picked[:, :width] if x.ndim > 1 else picked
    return constrain(picked, ("batch",) + (None,) * (x.ndim - 1))

  prompt = jax.tree.map(
    lambda x: constrain(x[prompt_p], ("batch",) + (None,) * (x.ndim - 1)), batch.prompt
  )
  whole = {"prompt": prompt, "grammar": batch.grammar}
  cut = {name: jax.tree.map(rows, x) for name, x in batch._asdict().items() if name not in whole}
  return TrainBatch(**whole, **cut)


def put(
  prompts: int, whole_BC: jax.Array, part_BC: jax.Array, prompt_p: jax.Array, sample_pg: jax.Array
) -> jax.Array:
  """The reverse of `take`: `whole_BC`, of so many prompts, with the rows of one slice put in."""
  whole_PGC = whole_BC.reshape(prompts, -1, whole_BC.shape[1])
  width = part_BC.shape[1]
  part_pgC = part_BC.reshape(*sample_pg.shape, width)
  whole_PGC = whole_PGC.at[prompt_p[:, None], sample_pg, :width].set(part_pgC)
  return constrain(whole_PGC.reshape(whole_BC.shape), ("batch", None))
