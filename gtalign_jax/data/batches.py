"""Which prompts a step sees: a pure function of the step, so that a resumed run needs no cursor."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gtalign_jax.data import conditions
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import did_you_mean
from gtalign_jax.sections import DataConfig

if TYPE_CHECKING:
  from grain import MapDataset


class Batch(NamedTuple):
  """The prompts of one step. ids: token ids of each record, int32 arrays."""

  records: list[Record]
  ids: list[np.ndarray]


def batch_at(
  encoded: Encoded, data_config: DataConfig, prompts_per_step: int, step: int, attempt: int = 0
) -> Batch:
  """The prompts of rollout `step` (from 0). attempt: round of dynamic sampling, in another order.

  Each source is shuffled anew every epoch (data.seed); sources are mixed by `data.weights`.
  Where prompts have conditions to draw from, each gets one for this step (data.seed, step, id).
  Depends on nothing but the arguments. Raises BadInput on weights of sources that are not there.
  """
  order = _mixed(encoded, data_config, attempt)
  first = step * prompts_per_step
  chosen = [int(order[first + k]) for k in range(prompts_per_step)]
  parts, size = [encoded] * len(chosen), len(encoded.choices)
  if size:
    names = [encoded.records[i].id for i in chosen]
    parts = [encoded.choices[conditions.draw(data_config, name, size, step)] for name in names]
  return Batch(
    [part.records[i] for part, i in zip(parts, chosen)],
    [part.ids[i] for part, i in zip(parts, chosen)],
  )


def _mixed(encoded: Encoded, data_config: DataConfig, attempt: int) -> MapDataset[int]:
  """An endless data set of indices into `encoded`; nothing is drawn before it is indexed."""
  import grain  # deferred: the import takes a second

  groups, weights = _groups(encoded.records), shares(encoded, data_config)
  kept = [source for source in groups if weights[source] > 0]
  parts = []
  for source in kept:
    # each source in an order of its own, which adding another source leaves as it is. crc32, as
    # Python's hash() of a text differs from process to process
    name = f"{data_config.seed}/{source}" + (f"/{attempt}" if attempt else "")
    seed = zlib.crc32(name.encode())
    parts.append(grain.MapDataset.source(groups[source]).shuffle(seed=seed).repeat())
  return grain.MapDataset.mix(parts, weights=[weights[source] for source in kept])


def shares(encoded: Encoded, data_config: DataConfig) -> dict[str, float]:
  """Relative share of each source: its entry in `data.weights`, else its part of the prompts."""
  groups = _groups(encoded.records)
  for source in data_config.weights:
    if source not in groups:
      # not ignored: a run that mixes other shares than were asked for looks the same from outside
      known = ", ".join(groups) + did_you_mean(source, tuple(groups))
      raise BadInput(f"data.weights names {source!r}, but there are prompts of {known}")
  total = len(encoded.records)
  # a source that is not named keeps its share by size
  found = {s: float(data_config.weights.get(s, len(part) / total)) for s, part in groups.items()}
  if not any(found.values()):
    raise BadInput(f"data.weights={dict(data_config.weights)}: at least one must be positive")
  return found


def _groups(records: Sequence[Record]) -> dict[str, list[int]]:
  """Indices of each source, in order. Sources come in the order in which they first appear."""
  groups: dict[str, list[int]] = {}
  for index, record in enumerate(records):
    groups.setdefault(record.data_source, []).append(index)
  return groups


def held_out(encoded: Encoded, n: int, seed: int) -> Encoded:
  """`n` prompts (or all, if fewer) spread evenly over the sources, the same ones every time."""
  chosen = _spread(encoded.records, n, seed)
  return Encoded(
    [encoded.records[i] for i in chosen], [encoded.ids[i] for i in chosen], encoded.left_out
  )


def spread(records: Sequence[Record], n: int, seed: int) -> list[Record]:
  """`held_out` for records that have no token ids yet."""
  return [records[i] for i in _spread(records, n, seed)]


def _spread(records: Sequence[Record], n: int, seed: int) -> list[int]:
  """Indices, one source after the other in turn, each in an order drawn from `seed`."""
  # in turn, not a sample of all: 24 prompts of the smallest source then say something about it, and
  # a larger n contains the smaller one, so that evaluations of two sizes can be compared
  queues = []
  for source, part in _groups(records).items():
    order = np.random.default_rng((seed, zlib.crc32(source.encode()))).permutation(len(part))
    queues.append([part[k] for k in order])
  turns = max(map(len, queues), default=0)
  return [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)][:n]


def bucket(length: int, buckets: Sequence[int]) -> int:
  """The smallest bucket that holds `length` tokens. Raises BadInput where there is none."""
  # few lengths, so that few programs are compiled; the next one up wastes the least
  for size in sorted(buckets):
    if size >= length:
      return size
  raise BadInput(
    f"a prompt of {length} tokens is longer than the largest of rollout.prompt_buckets="
    f"{tuple(buckets)}; lower data.max_prompt_tokens or add a bucket"
  )


def pad(ids: Sequence[np.ndarray], buckets: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """(tokens_PT, length_P), int32, padded on the right with 0 to the smallest bucket for all.

  Raises BadInput where a row is longer than the largest bucket.
  """
  # on the right: positions then count from the row's own start, whatever else is in the batch
  length_P = np.asarray([len(row) for row in ids], np.int32)
  tokens_PT = np.zeros((len(ids), bucket(int(length_P.max(initial=0)), buckets)), np.int32)
  for row, each in zip(tokens_PT, ids):
    row[: len(each)] = each
  return tokens_PT, length_P
