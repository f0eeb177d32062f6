"""Dynamic sampling (Yu et al. 2025, DAPO): groups that carry no signal give way to fresh ones.

Bounded, and at fixed shapes: each round samples as many prompts as a step has. What is still
without signal after the last round is left out of the loss and of every count.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gtalign_jax.algorithms.advantages import carries_signal
from gtalign_jax.data.batches import batch_at
from gtalign_jax.rewards.reward import reward
from gtalign_jax.rollout.collect import collect
from gtalign_jax.rollout.engine import Engine
from gtalign_jax.rollout.openings import edited_openings
from gtalign_jax.train.log import StepLog
from gtalign_jax.train.services import Services
from gtalign_jax.train.setup import Setup
from gtalign_jax.types import Experience, Rollout


def resample(
  experience: Experience,
  setup: Setup,
  services: Services,
  engine: Engine,
  params: Any,
  step: int,
  log: StepLog,
) -> Experience:
  """Samples up to `grpo.resample_rounds` times more, until every group carries a signal.

  experience: on the host, with its rewards. A round has prompts of its own (`batch_at`) and draws
  of its own (row numbers go on counting), so it depends on (seed, step, round) alone.
  """
  config, recipe, P = setup.config, setup.recipe, setup.config.grpo.prompts_per_step
  if not config.grpo.resample_rounds:
    return experience
  kept_P = carries_signal(experience, recipe)
  rounds, lost, dropped = 0, 0, int((~kept_P).sum())
  while not kept_P.all() and rounds < config.grpo.resample_rounds:
    rounds += 1
    batch = batch_at(setup.train_set, config.data, P, step, rounds)
    given = (engine, params, batch, setup.train_key, step, services.environment, log)
    heads = edited_openings(*given, first_row=rounds * P)
    more = collect(*given, first_row=rounds * P, heads=heads)
    more = reward(more, config.rewards, f"step {step + 1}")
    fresh_P = carries_signal(more, recipe)
    dropped += int((~fresh_P).sum())
    lost += _tokens(experience) + _tokens(more)
    wanted = [*np.flatnonzero(kept_P), *(P + np.flatnonzero(fresh_P))]
    experience = merged(experience, more, wanted)
    lost -= _tokens(experience)
    kept_P = np.arange(P) < len(wanted)  # they come first
  # statistics of a source are those of the rows that are left
  return reward(experience, config.rewards, f"step {step + 1}")._replace(
    dropped_tokens=lost,
    statistics={
      "resample/rounds": float(rounds),
      "resample/dropped_groups": float(dropped),
      "resample/unfilled_frac": float(np.mean(~kept_P)),
    },
  )


def _tokens(experience: Experience) -> int:
  """Tokens of the completions of all turns."""
  later = experience.later
  return int(experience.count_PG.sum()) + (0 if later is None else int(later.count_PG.sum()))


def merged(one: Experience, two: Experience, wanted: list[int]) -> Experience:
  """`one` with the groups `wanted` of both (those of `two` count on from P), as many as fit.

  Where they are too few, groups of `one` that are not wanted fill the rest.
  """
  P, G = one.count_PG.shape
  rest = [p for p in range(P) if p not in wanted]
  chosen = np.asarray([*wanted, *rest][:P])
  rows_B = (chosen[:, None] * G + np.arange(G)).reshape(-1)
  rows, prompts = [*one.rows, *two.rows], [*one.prompts, *two.prompts]

  def both(x: Any, y: Any) -> Any:
    return np.concatenate([x, y])

  return one._replace(
    prompts=[prompts[p] for p in chosen],
    rollout=Rollout(*(both(x, y)[rows_B] for x, y in zip(one.rollout, two.rollout, strict=True))),
    rows=[rows[b] for b in rows_B],
    length_P=both(one.length_P, two.length_P)[chosen],
    head_P=None if one.head_P is None else both(one.head_P, two.head_P)[chosen],
    count_PG=both(one.count_PG, two.count_PG)[chosen],
    reward_PG=both(one.reward_PG, two.reward_PG)[chosen],
    utility_PGC=both(one.utility_PGC, two.utility_PGC)[chosen],
    later=None if one.later is None else _merged_turns(one.later, two.later, P * G, rows_B),
  )


def _merged_turns(one: Experience, two: Any, rows: int, kept_B: np.ndarray) -> Experience:
  """Later turns of the conversations `kept_B`, counted over the `rows` of `one` and then `two`."""
  parent_P = np.concatenate([one.parent_P, two.parent_P + rows])
  place_B = {int(b): place for place, b in enumerate(kept_B)}
  kept = [i for i, b in enumerate(parent_P) if int(b) in place_B]
  prompts = [*one.prompts, *two.prompts]
  return one._replace(
    prompts=[prompts[i] for i in kept],
    rollout=Rollout(
      *(np.concatenate(xs)[kept] for xs in zip(one.rollout, two.rollout, strict=True))
    ),
    length_P=np.concatenate([one.length_P, two.length_P])[kept],
    count_PG=np.concatenate([one.count_PG, two.count_PG])[kept],
    parent_P=np.asarray([place_B[int(parent_P[i])] for i in kept], np.int32),
  )
