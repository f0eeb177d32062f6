"""Running a policy on prompts: sample, read back text, score. Used by evaluation and by training."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
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
from gtalign_jax.rollout import refill
from gtalign_jax.rollout.sampler import Sampler, nothing
from gtalign_jax.sections import RewardConfig
from gtalign_jax.types import Prompts, Rollout

REFILLS = 8  # prefills that renew all lanes: an ended lane waits until an eighth of them have ended


class Actor(NamedTuple):
  """All that turns prompts into scored completions, except the parameters.

  buckets: padded prompt lengths. width: prompts decoded at once, over all processes. judge: None where
  rows are not scored.
  """

  tokenizer: Any
  sampler: Sampler
  reward: RewardConfig
  judge: Any
  buckets: tuple[int, ...]
  width: int
  mesh: Mesh


class Sampled(NamedTuple):
  """A batch of completions with its text and scores, rows prompt-major.

  prompts, rollout: device arrays. rows: all processes' rows of `gtalign eval`.
  seconds: {"rollout": s, "reward": s}.
  """

  prompts: Prompts
  rollout: Rollout
  rows: list[dict]
  seconds: dict[str, float]


def to_device(
  mesh: Mesh, ids: Sequence[np.ndarray], row_P: Sequence[int], width: int, buckets: Sequence[int]
) -> Prompts:
  """Pads `ids` to the smallest bucket that holds all and to `width` rows, and shards them.

  row_P: global index of each prompt within its step.
  """
  rest = width - len(ids)
  tokens_PT, length_P = batches.pad([*ids, *[np.zeros(0, np.int32)] * rest], buckets)
  local = Prompts(tokens_PT, length_P, np.asarray([*row_P, *[0] * rest], np.int32))
  rows = sharding.sharding(mesh, ("batch",))
  return distributed.to_device(local, Prompts(rows, rows, rows))


def at_once(width: int, mesh: Mesh) -> int:
  """Lanes that one prefill renews, of `width` in all."""
  shards = mesh.shape["data"] * mesh.shape["fsdp"]
  return shards * -(-width // (shards * REFILLS))


def groups(actor: Actor, ids: Sequence[np.ndarray]) -> list[tuple[int, np.ndarray]]:
  """(padded length, prompts) that go through the lanes together, the longest first."""
  bucket_P = np.asarray([batches.bucket(len(each), actor.buckets) for each in ids])
  for small, large in itertools.pairwise(sorted(set(bucket_P.tolist()))):
    if (bucket_P == small).sum() < actor.width:  # lanes left empty cost more than padding
      bucket_P[bucket_P == small] = large
  return [(each, np.flatnonzero(bucket_P == each)) for each in sorted(set(bucket_P), reverse=True)]


def compile(actor: Actor, params: Any, ids: Sequence[np.ndarray], key: jax.Array) -> None:
  """Makes every program that sampling for the prompts `ids` runs."""
  for bucket, chosen in groups(actor, ids):
    compile_bucket(actor, params, bucket, key, refilled=len(chosen) > actor.width)


def compile_bucket(actor: Actor, params: Any, bucket: int, key: jax.Array, refilled: bool) -> None:
  """Makes every program for prompts of one padded length; refilled: more prompts than lanes."""
  sampler, P = actor.sampler, actor.width
  prompts = to_device(actor.mesh, [], [], P, (bucket,))
  number = sampler.put(np.int32(0))
  if not refilled:
    sampler.compile(params, prompts, key, number)
    return
  waiting = to_device(actor.mesh, [], [], at_once(P, actor.mesh), (bucket,))
  lanes = sampler.put(np.zeros(P, np.int32))
  sampler.compile_refills(params, prompts, waiting, lanes, number, key, number)


def stream(
  actor: Actor,
  params: Any,
  ids: Sequence[np.ndarray],
  key: jax.Array,
  step: Any,
  first_row: int = 0,
  under_way: Callable[[], None] = nothing,
) -> Iterator[list[refill.Ended]]:
  """Samples G completions for each prompt; yields prompts (by index into `ids`) as they end.

  Prompts of one bucket go through the lanes together, the longest first. first_row: global index of
  the first prompt. under_way: called once the device has its first work.
  """
  step = actor.sampler.put(np.int32(step))
  few = at_once(actor.width, actor.mesh)
  for bucket, chosen in groups(actor, ids):

    def place(some: Sequence[int], width: int, chosen=chosen, bucket=bucket) -> Prompts:
      picked = chosen[list(some)]
      rows_P = first_row + picked
      return to_device(actor.mesh, [ids[i] for i in picked], rows_P, width, (bucket,))

    for ended in refill.stream(
      actor.sampler, params, len(chosen), place, actor.width, few, key, step, under_way
    ):
      under_way = nothing
      yield [each._replace(prompt=int(chosen[each.prompt])) for each in ended]


def texts(actor: Actor, record: Record, prompt_tokens: int, rollout: Rollout) -> list[dict]:
  """Rows of `gtalign generate` for one prompt. rollout: its G rows, on the host."""
  rows = []
  for g, (tokens_C, mask_C) in enumerate(zip(rollout.tokens_BC, rollout.mask_BC, strict=True)):
    ids = tokens_C[mask_C.astype(bool)]
    rows.append(
      {
        "id": f"{record.id}#{g}",
        "sample": g,
        "data_source": record.data_source,
        "prompt": list(record.messages),
        "ground_truth": record.ground_truth,
        "extra_info": record.extra_info,
        "completion": actor.tokenizer.decode(ids, skip_special_tokens=True),
        "finish_reason": "stop" if rollout.stopped_B[g] else "length",
        "prompt_tokens": prompt_tokens,
        "completion_tokens": len(ids),
      }
    )
  return rows


def read_back(
  actor: Actor,
  records: Sequence[Record],
  ids: Sequence[np.ndarray],
  ended: Sequence[refill.Ended],
) -> dict[int, list[dict]]:
  """Prompt -> its rows of `gtalign eval` (of `gtalign generate` where there is no judge).

  Each process reads and scores its share; every process gets all rows.
  """
  rows: list[dict] = []
  for each in ended[distributed.share(len(ended))]:
    rows += texts(actor, records[each.prompt], len(ids[each.prompt]), each.rollout)
  if actor.judge is not None:
    scored = score.score_rows(rows, actor.reward, actor.judge)
    rows = [row | more for row, more in zip(rows, scored, strict=True)]
  everyone, G = distributed.gather_rows(rows), actor.sampler.plan.group_size
  return {each.prompt: everyone[i * G : (i + 1) * G] for i, each in enumerate(ended)}


def sample_and_score(
  actor: Actor,
  params: Any,
  records: Sequence[Record],
  ids: Sequence[np.ndarray],
  key: jax.Array,
  step: Any,
  phase: Callable[[str], AbstractContextManager] = nullcontext,
  under_way: Callable[[], None] = nothing,
) -> Sampled:
  """Samples G completions for each prompt and scores them; every process gets all rows.

  phase: books the time inside it to "rollout" and "reward". under_way: as in `stream`.
  """
  rows: dict[int, list[dict]] = {}
  rollouts: dict[int, Rollout] = {}
  seconds = {"rollout": 0.0, "reward": 0.0}

  def told() -> None:
    began = time.perf_counter()
    under_way()
    seconds["rollout"] -= time.perf_counter() - began  # what the caller waited for is not sampling

  ending = stream(actor, params, ids, key, step, under_way=told)
  while len(rows) < len(ids):
    began = time.perf_counter()
    with phase("rollout"):
      ended = next(ending)
    sampled = time.perf_counter()
    with phase("reward"):
      rows |= read_back(actor, records, ids, ended)
      rollouts |= dict(ended)
    seconds["rollout"] += sampled - began
    seconds["reward"] += time.perf_counter() - sampled
  order = range(len(ids))
  split = sharding.sharding(actor.mesh, ("batch",))
  rollout = Rollout(*map(np.concatenate, zip(*(rollouts[p] for p in order))))
  return Sampled(
    to_device(actor.mesh, ids, order, len(ids), actor.buckets),
    distributed.to_device(rollout, Rollout(*[split] * len(rollout))),
    [row for p in order for row in rows[p]],
    seconds,
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
  first_row: int = 0,
) -> list[dict]:
  """Rows of `gtalign eval` for all `records`: sampled, scored, in order.

  key: the same key gives the same draws for every policy, so that runs are compared on equal terms.
  on_batch: called with prompts done and in all, as they end. first_row: as in `stream`.
  """
  rows: dict[int, list[dict]] = {}
  for ended in stream(actor, params, ids, key, np.int32(0), first_row):
    rows |= read_back(actor, records, ids, ended)
    on_batch(len(rows), len(records))
  return [row for p in range(len(records)) for row in rows[p]]


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
