"""From prompts to experience, for training and evaluation: sample, read the text, score it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from gtalign_jax.data.batches import Batch
from gtalign_jax.data.records import Record
from gtalign_jax.errors import RunFailure
from gtalign_jax.game import paired
from gtalign_jax.models import vocabulary
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.progress import Advance, WorkLog
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, score
from gtalign_jax.rewards.calibrated import calibrated
from gtalign_jax.rewards.judges.base import Judge
from gtalign_jax.rollout.engine import QUIET, Ended, Engine, stream, to_device
from gtalign_jax.rollout.stop import token_bytes
from gtalign_jax.types import BLOCKS, Experience, Rollout


def collect(
  engine: Engine,
  params: Any,
  batch: Batch,
  key: jax.Array,
  step: int,
  config: RewardConfig,
  judge: Judge,
  log: WorkLog = QUIET,
  first_row: int = 0,
) -> Experience:
  """Samples G completions for each prompt of `batch` and scores them; all of it on the host.

  params: as decoding reads them. key, step: of the draws. first_row: number of the first prompt
  within the step, likewise. Completions are scored as they end, while the device decodes the
  others: a judge behind a network takes as long as a rollout.
  """
  rows: dict[int, list[dict]] = {}
  rollouts: dict[int, Rollout] = {}
  row_P = np.arange(first_row, first_row + len(batch.ids))
  ending = stream(engine, params, batch.ids, key, step, row_P=row_P, log=log)
  while len(rows) < len(batch.ids):
    with log.phase("rollout"):
      ended = next(ending)
    with log.phase("reward"):
      rows |= scored_rows(engine, batch, ended, config, judge)
    rollouts |= dict(ended)
    log.doing(f"rollout {len(rows)}/{len(batch.ids)}")
  order = range(len(batch.ids))
  rollout = Rollout(*map(np.concatenate, zip(*(rollouts[p] for p in order))))
  return Experience(
    prompts=batch.ids,
    rollout=rollout,
    rows=calibrated([row for p in order for row in rows[p]], config),
    count_PG=rollout.mask_BC.sum(1).reshape(len(order), -1),
  )


def on_mesh(experience: Experience, engine: Engine) -> Experience:
  """Prompts, padded to the bucket of the longest, and completions go to the devices.

  So do the blocks that their tokens belong to.
  """
  mesh, ids, rollout = engine.programs.mesh, experience.prompts, experience.rollout
  rows, block_BC = sharding.rows(mesh), block_ids(engine, rollout)
  counts = [(block_BC == index).sum(1) for index in range(len(BLOCKS))]
  return experience._replace(
    prompts=to_device(mesh, ids, range(len(ids)), len(ids), engine.buckets),
    rollout=distributed.to_device(rollout, Rollout(*[rows] * len(rollout))),
    block_PGK=np.stack(counts, -1).reshape(len(ids), -1, len(BLOCKS)),
    block_BC=distributed.to_device(block_BC, rows),
  )


def evaluate(
  engine: Engine,
  params: Any,
  batch: Batch,
  key: jax.Array,
  config: RewardConfig,
  judge: Judge | None,
  *,
  first_row: int = 0,
  advance: Advance = lambda done, total: None,
) -> list[dict]:
  """Rows of `gtalign eval` for all prompts of `batch`, in order (`generate` where judge is None).

  The same key gives the same draws for every policy, so that runs are compared on equal terms.
  first_row: number of the first prompt within the job. advance: told how many prompts have ended.
  """
  rows: dict[int, list[dict]] = {}
  row_P = np.arange(first_row, first_row + len(batch.ids))
  for ended in stream(engine, params, batch.ids, key, 0, row_P=row_P):
    rows |= scored_rows(engine, batch, ended, config, judge)
    advance(len(rows), len(batch.ids))
  everyone = [row for p in range(len(batch.ids)) for row in rows[p]]
  return everyone if judge is None else calibrated(everyone, config)


def scored_rows(
  engine: Engine, batch: Batch, ended: Sequence[Ended], config: RewardConfig, judge: Judge | None
) -> dict[int, list[dict]]:
  """Prompt -> its rows of `gtalign eval` (of `gtalign generate` where judge is None).

  Each process reads and scores its share; every process gets all rows, or raises the RunFailure
  that one of them met: one that left alone would let the others wait for it.
  """
  rows: list[dict] = []
  for each in ended[distributed.share(len(ended))]:
    record, prompt_tokens = batch.records[each.prompt], len(batch.ids[each.prompt])
    eos_ids = engine.sampling.eos_ids
    rows += texts(engine.tokenizer, record, prompt_tokens, each.rollout, eos_ids)
  if judge is not None:
    try:
      scored = score.score_rows(rows, config, judge)
      rows = [row | more for row, more in zip(rows, scored, strict=True)]
    except RunFailure as error:
      rows = [{"failure": str(error)}]
  everyone, G = distributed.gather_rows(rows), engine.sampling.group_size
  for failed in (row["failure"] for row in everyone if "failure" in row):
    raise RunFailure(failed)
  return {each.prompt: everyone[i * G : (i + 1) * G] for i, each in enumerate(ended)}


def _response_tokens(tokenizer: Any, completion: str) -> int:
  """Tokens of the response block, which is all that a user reads; 0 without one.

  Of the text, not as sampled: a price per token then pays for no odd spelling of it.
  """
  response = chain.contents(completion, chain.blocks(completion).spans[-1])
  return len(tokenizer.encode(response, add_special_tokens=False)) if response else 0


def texts(
  tokenizer: Any, record: Record, prompt_tokens: int, rollout: Rollout, eos_ids: Sequence[int]
) -> list[dict]:
  """Rows of `gtalign generate` for one prompt.

  rollout: its G rows, on the host. control_tokens counts special tokens other than the EOS that
  ends a row: text does not tell `<|im_start|>` from its spelling, and other readers of the ids see
  a turn begin there.
  """
  control = vocabulary.control_ids(tokenizer)
  rows = []
  for g, (ids, stopped) in enumerate(_rows(rollout)):
    completion = vocabulary.spell(tokenizer, ids, eos_ids)
    row = {
      "id": f"{record.id}#{g}",
      "sample": g,
      "data_source": record.data_source,
      "prompt": list(record.messages),
      "ground_truth": record.ground_truth,
      "extra_info": record.extra_info,
      "completion": completion,
      "finish_reason": "stop" if stopped else "length",
      "prompt_tokens": prompt_tokens,
      "completion_tokens": len(ids),
      "control_tokens": sum(int(each) in control for each in vocabulary.body(ids, eos_ids)),
      # before a row is scored: a price per token reads it
      "response_tokens": _response_tokens(tokenizer, completion),
    }
    rows.append(row)
  return rows


def block_ids(engine: Engine, rollout: Rollout) -> np.ndarray:
  """int8 [B, C]: which of BLOCKS holds each token, -1 outside of all; rollout: on the host."""
  bytes_V = token_bytes(engine.tokenizer, engine.sampling.arch.vocab_size)
  block_BC = np.full(rollout.tokens_BC.shape, -1, np.int8)
  for own_C, (ids, _) in zip(block_BC, _rows(rollout), strict=True):
    body = vocabulary.body(ids, engine.sampling.eos_ids)
    own_C[: len(body)] = chain.token_blocks([bytes_V[each] for each in body])
  return block_BC


def _rows(rollout: Rollout) -> Iterator[tuple[np.ndarray, bool]]:
  """(token ids, whether the row stopped by itself) of each row."""
  for tokens_C, mask_C, stopped in zip(
    rollout.tokens_BC, rollout.mask_BC, rollout.stopped_B, strict=True
  ):
    yield tokens_C[mask_C.astype(bool)], bool(stopped)


def summary(rows: Sequence[dict]) -> dict[str, float]:
  """Metrics of evaluated rows: rewards, chain and game (docs/metrics.md), lengths in tokens.

  A row without verdict counts in none but `judge/invalid_frac`; NaN where all are without.
  """
  valid = [row for row in rows if row["valid"]]
  count_B = np.asarray([row["completion_tokens"] for row in valid] or [np.nan])
  cut_B = [row["finish_reason"] == "length" for row in valid] or [np.nan]
  return score.summarise(rows, rows) | {
    "W": paired.welfare(rows),
    "completions/mean_length": float(count_B.mean()),
    "completions/min_length": float(count_B.min()),
    "completions/max_length": float(count_B.max()),
    "completions/clipped_ratio": float(np.mean(cut_B)),
  }
