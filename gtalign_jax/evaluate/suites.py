"""Running a policy on prompts: sample, read back text, score. Used by evaluation and by training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gtalign_jax.data import batches
from gtalign_jax.data.sources import Record
from gtalign_jax.errors import RunFailure
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.rewards import score
from gtalign_jax.rollout.generate import Sampler
from gtalign_jax.sections import RewardConfig
from gtalign_jax.types import Prompts, Rollout


class Actor(NamedTuple):
  """All that turns prompts into scored completions, except the parameters.

  buckets: padded prompt lengths. width: prompts per device batch, over all processes.
  """

  tokenizer: Any
  sampler: Sampler
  reward: RewardConfig
  judge: Any
  buckets: tuple[int, ...]
  width: int
  mesh: Mesh


class Sampled(NamedTuple):
  """One device batch of completions with its text and scores, rows prompt-major over all processes.

  prompts, rollout: device arrays. rows: input record plus completion (all processes' rows).
  scored: columns of `gtalign score`. seconds: {"rollout": s, "reward": s}.
  """

  prompts: Prompts
  rollout: Rollout
  rows: list[dict]
  scored: list[dict]
  seconds: dict[str, float]


def to_device(
  actor: Actor, ids: Sequence[np.ndarray], first_row: int, bucket: int | None = None
) -> Prompts:
  """Pads `ids` (at most `actor.width`) to one bucket and to `width` rows, and shards them.

  first_row: global index of the first prompt in its step.
  """
  padded = list(ids) + [np.zeros(0, np.int32)] * (actor.width - len(ids))
  tokens_PT, length_P = batches.pad(padded, (bucket,) if bucket else actor.buckets)
  row_P = np.arange(first_row, first_row + actor.width, dtype=np.int32)
  rows = sharding.sharding(actor.mesh, ("batch",))
  return distributed.to_device(Prompts(tokens_PT, length_P, row_P), Prompts(rows, rows, rows))


def texts(
  actor: Actor, records: Sequence[Record], prompts: Prompts, rollout: Rollout
) -> list[dict]:
  """Rows of `gtalign generate` for this process's share of `records`; padding prompts give none."""
  arrays = (rollout.tokens_BC, rollout.mask_BC, rollout.stopped_B, prompts.length_P)
  tokens_BC, mask_BC, stopped_B, length_P = map(distributed.to_host, arrays)
  mine = distributed.share(len(records))
  G = actor.sampler.plan.group_size
  rows = []
  for p, record in enumerate(records[mine], start=mine.start):
    for g in range(G):
      b = p * G + g
      ids = tokens_BC[b][mask_BC[b].astype(bool)]
      rows.append(
        {
          "id": f"{record.id}#{g}",
          "sample": g,
          "data_source": record.data_source,
          "prompt": list(record.messages),
          "ground_truth": record.ground_truth,
          "extra_info": record.extra_info,
          "completion": actor.tokenizer.decode(ids, skip_special_tokens=True),
          "finish_reason": "stop" if stopped_B[b] else "length",
          "prompt_tokens": int(length_P[p]),
          "completion_tokens": len(ids),
        }
      )
  return rows


def sample_and_score(
  actor: Actor,
  params: Any,
  records: Sequence[Record],
  ids: Sequence[np.ndarray],
  key: jax.Array,
  step: jax.Array,
  first_row: int = 0,
  bucket: int | None = None,
  phase: Callable[[str], AbstractContextManager] = nullcontext,
) -> Sampled:
  """Samples G completions for each prompt and scores them; every process gets all rows.

  phase: books the time inside it to "rollout" and "reward".
  """
  began = time.perf_counter()
  with phase("rollout"):
    prompts = to_device(actor, ids, first_row, bucket)
    rollout = jax.block_until_ready(actor.sampler(params, prompts, key, step))
  sampled = time.perf_counter()
  with phase("reward"):
    rows = texts(actor, records, prompts, rollout)
    scored = score.score_rows(rows, actor.reward, actor.judge)
    pairs = [{"row": row, "scored": each} for row, each in zip(rows, scored, strict=True)]
    both = distributed.gather_rows(pairs)
  seconds = {"rollout": sampled - began, "reward": time.perf_counter() - sampled}
  return Sampled(
    prompts, rollout, [each["row"] for each in both], [each["scored"] for each in both], seconds
  )


def check_verdicts(scored: Sequence[dict], reward: RewardConfig, where: str) -> None:
  """Raises RunFailure where too few rows have a verdict: the judge is gone, and means would lie."""
  share = float(np.mean([not row["valid"] for row in scored]))
  limit = reward.judge.max_invalid_frac
  if share > limit:
    raise RunFailure(
      f"{where}: {share:.0%} of the rows have no verdict, more than "
      f"rewards.judge.max_invalid_frac={limit:g}; mend the judge and run the same command again"
    )


def evaluate(
  actor: Actor,
  params: Any,
  records: Sequence[Record],
  ids: Sequence[np.ndarray],
  key: jax.Array,
  on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict]:
  """Rows of `gtalign eval` for all `records`: sampled, scored, in order.

  key: the same key gives the same draws for every policy, so that runs are compared on equal terms.
  on_batch: called with prompts done and in all after each device batch.
  """
  out: list[dict] = []
  for first in range(0, len(records), actor.width):
    part = slice(first, first + actor.width)
    sampled = sample_and_score(
      actor, params, records[part], ids[part], key, np.int32(0), first_row=first
    )
    out += [row | scored for row, scored in zip(sampled.rows, sampled.scored, strict=True)]
    on_batch(min(first + actor.width, len(records)), len(records))
  return out


def summary(rows: Sequence[dict]) -> dict[str, float]:
  """Metrics of evaluated rows: rewards, chain and game (docs/metrics.md), lengths."""
  return score.summarise(rows, rows) | lengths(rows)


def lengths(rows: Sequence[dict]) -> dict[str, float]:
  """Completion lengths in tokens, and the share that ran out of budget."""
  count_B = np.asarray([row["completion_tokens"] for row in rows])
  return {
    "completions/mean_length": float(count_B.mean()),
    "completions/min_length": float(count_B.min()),
    "completions/max_length": float(count_B.max()),
    "completions/clipped_ratio": float(np.mean([row["finish_reason"] == "length" for row in rows])),
  }
