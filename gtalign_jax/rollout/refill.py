"""More prompts than lanes: where all samples of a prompt have ended, a waiting one takes the lane.

Shapes stay fixed, so a long answer holds its own lane and not the batch. Lanes are refilled a few at a
time, because a prefill of few prompts costs less each than one of a single prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.parallel import distributed
from gtalign_jax.rollout.sampler import Sampler, nothing
from gtalign_jax.types import Prompts, Rollout

# Which prompts, padded to how many rows -> their tokens on the device, all of one padded length.
Place = Callable[[Sequence[int], int], Prompts]


class Ended(NamedTuple):
  """A prompt whose samples have all ended. rollout: its G rows, on the host."""

  prompt: int
  rollout: Rollout


def stream(
  sampler: Sampler,
  params: Any,
  count: int,
  place: Place,
  lanes: int,
  at_once: int,
  key: jax.Array,
  step: Any,
  under_way: Callable[[], None] = nothing,
) -> Iterator[list[Ended]]:
  """Samples prompts 0..count-1 in `lanes` lanes; yields them as they end, all in the end.

  at_once: lanes refilled by one prefill (a multiple of the mesh's data * fsdp). While the caller works
  on what it was given, the device goes on. under_way: called once the device has its first work.
  """
  P, G = lanes, sampler.plan.group_size
  if count <= P:
    whole = _host(sampler(params, place(range(count), P), key, step, under_way))
    yield [Ended(p, _rows(whole, p, G)) for p in range(count)]
    return
  holds = np.arange(P)  # which prompt is in which lane; -1: none
  table = sampler.stop_table
  context, state = sampler.start(
    params, place(range(P), P), table, key, step, slots=sampler.plan.budget
  )
  layers, following = sampler.prepare(params), P
  ended: list[Ended] = []
  while (holds >= 0).any():
    # dispatched before the caller gets what has ended: both work at the same time
    enough = min(at_once, count - following) if following < count else P
    state = sampler.segment(
      params, layers, table, key, step, context, state, sampler.put(np.int32(enough))
    )
    under_way()
    under_way = nothing
    if ended:
      yield ended
    ended, over = [], bool(jax.device_get(state.over))
    done_P = distributed.to_host(state.done_B).reshape(P, G).all(1) & (holds >= 0)
    if not over and done_P.sum() < enough:
      continue
    rollout = _host(state.rollout)
    ended = [Ended(int(holds[p]), _rows(rollout, int(p), G)) for p in np.flatnonzero(done_P)]
    holds[done_P] = -1
    for first in range(following, min(following + len(ended), count), at_once):
      new = range(first, min(first + at_once, following + len(ended), count))
      source_P = np.full(P, -1, np.int32)
      free = np.flatnonzero(holds < 0)[: len(new)]
      source_P[free], holds[free] = np.arange(len(new)), new
      context, state = sampler.refill(
        params, place(new, at_once), sampler.put(source_P), table, key, step, context, state
      )
    following = min(following + len(ended), count)
  yield ended


def _host(rollout: Rollout) -> Rollout:
  return Rollout(*map(distributed.to_host, rollout))


def _rows(rollout: Rollout, lane: int, group_size: int) -> Rollout:
  return Rollout(*(x[lane * group_size : (lane + 1) * group_size] for x in rollout))
