"""Forced play: what each action is worth to this policy, played out (FORMULAS section 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gtalign_jax.data import intents
from gtalign_jax.data.batches import Batch
from gtalign_jax.errors import RunFailure
from gtalign_jax.rollout import collect, intervene
from gtalign_jax.rollout.edit import Head
from gtalign_jax.rollout.engine import Engine
from gtalign_jax.rollout.intervene import Editable, Sampled
from gtalign_jax.rollout.talk import Environment
from gtalign_jax.types import ACTIONS

LEAD = 20  # tenths of a point by which the forced cell wins at least
STEP = 2  # of the draws: chains are sampled in step 0, and go on from other matrices in 1


def forced(found: Editable, action: int) -> np.ndarray:
  """The chain's matrix with the cell of `action`, in the row in play, ahead by 2 points or more.

  It trades pairs with the chosen cell; cells in play that are too close to it then lose as much for
  both roles. So no number lies above those that the policy wrote.
  """
  row = found.chosen // 3
  cell = 3 * row + action
  tenths_K2 = np.round(10 * found.swapped(cell)).reshape(6, 2)
  for other in range(6) if found.opening.user_type < 0 else range(3 * row, 3 * row + 3):
    if other != cell:
      over = tenths_K2[other].sum() - (tenths_K2[cell].sum() - LEAD)
      tenths_K2[other] -= max(np.ceil(over / 2), 0)
  return intervene.written(tenths_K2.reshape(found.payoff_UAR.shape) / 10)


def play(
  engine: Engine,
  params: Any,
  batch: Batch,
  sampled: Sequence[Sampled],
  key: jax.Array,
  environment: Environment,
) -> list[dict[str, Any] | None]:
  """The column `forced` of each chain (docs/steering.md); None where it cannot be edited.

  engine: of `intervene.continuing`. batch: the prompts that the chains answer, G each.
  Conversations are played to their end with the user of the environment, who means what he meant
  before.
  """
  G, rewards, seed = len(sampled) // len(batch.ids), environment.rewards, environment.data.seed
  turns = environment.conversation.turns
  records = [intents.given(each, seed, None, turns) for each in batch.records]
  heads: dict[tuple[int, int], list[int]] = {}
  for b, chain in enumerate(sampled):
    found = intervene.editable(engine.tokenizer, chain, rewards)
    heads |= {(b, a): head for a, head in enumerate(_heads(engine, found))}
  if not heads:
    return [None] * len(sampled)
  played = collect.collect(
    engine,
    params,
    Batch([records[b // G] for b, _ in heads], [sampled[b].prompt for b, _ in heads]),
    key,
    STEP,
    environment,
    heads=[Head(ids) for ids in heads.values()],
    number_P=np.asarray([len(ACTIONS) * sampled[b].number + a for b, a in heads]),
  )
  out: list[dict[str, Any] | None] = [None] * len(sampled)
  for (b, a), row in zip(heads, played.rows, strict=True):
    out[b] = (out[b] or {}) | {ACTIONS[a]: _worth(row)}
  return out


def _heads(engine: Engine, found: Editable | None) -> list[list[int]]:
  """A head for each action; none where one of them does not fit."""
  if found is None:
    return []
  try:
    heads = [found.head(engine.tokenizer, forced(found, a)) for a in range(len(ACTIONS))]
  except RunFailure:
    return []
  fit = len(found.chain.prompt) + max(map(len, heads)) <= engine.buckets[-1]
  return heads if fit else []


def _worth(row: dict[str, Any]) -> dict[str, Any]:
  """What came out: utilities (null without verdict), and what the first response did."""
  llm = row.get("llm_uncalibrated", row["llm_reward"])
  return {"LLM": llm, "user": row["user_reward"], "action": row["action"]}
