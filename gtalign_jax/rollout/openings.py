"""Intervened rollouts: completions that continue edited payoffs of the policy's own (FORMULAS 13).

A drawn part of a step's prompts (`rollout.intervene`): for each, the policy writes one opening, up
to `</payoff>`; its matrix is edited so that the rule takes another cell of the declared row, and
the G completions go on from there. What is trained on is what comes after the edit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.data.batches import Batch
from gtalign_jax.errors import RunFailure
from gtalign_jax.game import edits
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.progress import WorkLog
from gtalign_jax.rollout import intervene
from gtalign_jax.rollout.collect import ROWS_OF_TURN
from gtalign_jax.rollout.edit import Head
from gtalign_jax.rollout.engine import QUIET, Engine
from gtalign_jax.rollout.intervene import Editable, Sampled
from gtalign_jax.rollout.talk import Environment
from gtalign_jax.types import ACTIONS, CELLS

FIRST_ROW = 31 * ROWS_OF_TURN  # of their draws: the last that fit an int32, and turns stay below


def edited_openings(
  engine: Engine,
  params: Any,
  batch: Batch,
  key: jax.Array,
  step: int,
  environment: Environment,
  log: WorkLog = QUIET,
  first_row: int = 0,
) -> list[Head] | None:
  """What the completions of each prompt of `batch` begin with; None where nothing is edited.

  Arguments as of `collect`. A function of (seed, step, prompt) alone. A prompt whose opening cannot
  be read or edited is left to whole chains, as are those that are not drawn.
  """
  if engine.opening is None:
    return None
  seed = environment.data.seed
  names = [f"{step}/{first_row + p}/{record.id}" for p, record in enumerate(batch.records)]
  chosen = drawn(names, engine.opening.most, seed)
  ids, numbers = [batch.ids[p] for p in chosen], [FIRST_ROW + first_row + p for p in chosen]
  with log.phase("rollout"):
    log.doing("openings")
    new = intervene.completions(engine.opening, params, key, step, ids, numbers)
  heads = [Head()] * len(names)
  for p, prompt, opening in zip(chosen, ids, new, strict=True):
    sampled = Sampled(names[p], p, prompt, opening)
    heads[p] = edited(engine, sampled, environment, seed) or heads[p]
  return heads


def drawn(names: Sequence[str], count: int, seed: int) -> list[int]:
  """Which `count` of the prompts are edited, in their order; names: of prompts in their step."""
  # a number and not a probability: shapes stay, and so does what a step costs
  draws = [random.Random(f"{seed}/intervened/{name}").random() for name in names]
  return sorted(np.argsort(draws, kind="stable")[:count].tolist())


def edited(engine: Engine, sampled: Sampled, environment: Environment, seed: int) -> Head | None:
  """The opening with another matrix; None where it cannot be read, edited or spelled.

  Half of them by a pricing policy, half by a swap, drawn by (seed, id); swaps alone where the
  thinking declares no type.
  """
  found = intervene.editable(engine.tokenizer, sampled, environment.rewards)
  if found is None:
    return None
  rng = random.Random(f"{seed}/edit/{sampled.id}")
  made = _priced(found, rng) if rng.random() < 0.5 else None
  made = made or _swapped(found, seed)
  if made is None:
    return None
  try:
    ids = found.head(engine.tokenizer, made.payoff_UAR)
  except RunFailure:
    return None
  # of what is configured, not of the padded lengths: those may change between two starts of a run
  longest = environment.data.max_prompt_tokens + engine.sampling.budget
  if len(sampled.prompt) + len(ids) > longest:
    return None
  return Head(ids, CELLS[made.cell], charge(found.payoff_UAR, made))


class Edit(NamedTuple):
  """cell: what the rule takes on the matrix. name: of a pricing policy, or swap."""

  payoff_UAR: np.ndarray
  cell: int
  name: str


def charge(own_UAR: np.ndarray, made: Edit) -> Pricing:
  """What the edit has added to each action of the row in play, for (LLM, user), as a shift.

  Of the numbers, not the policy's own terms: its tokens are nominal, and a swap has none. Where
  concierge's perfect speaker wrote the matrix, the new choice then has a larger W than the old one
  in 88 of 100 edits of either kind. By the policy's terms it was 48, of swaps without a charge 41:
  training would have taught to ignore the matrix.
  """
  u = made.cell // len(ACTIONS)
  shift_AR = np.round(made.payoff_UAR[u] - own_UAR[u], 1).tolist()
  return Pricing(name=made.name, shift=tuple((llm, user) for llm, user in shift_AR))


def _priced(found: Editable, rng: random.Random) -> Edit | None:
  declared, own = found.opening.user_type, found.chosen % len(ACTIONS)
  if declared < 0:
    return None
  action = rng.choice([a for a in range(len(ACTIONS)) if a != own])
  matrix, policy = edits.priced(found.payoff_UAR, declared, action, rng)
  if np.abs(matrix).max() > edits.LARGEST:  # longer numbers than chains write
    return None
  return Edit(matrix, len(ACTIONS) * declared + action, policy.name)


def _swapped(found: Editable, seed: int) -> Edit | None:
  cell = intervene.drawn(found, seed)
  return None if cell is None else Edit(found.swapped(cell), cell, "swap")
