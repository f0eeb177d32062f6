"""Experience on the devices: padded to fixed shapes, with the block of every token."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from gtalign_jax.models import vocabulary
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.rewards import chain
from gtalign_jax.rollout.engine import Engine, to_device
from gtalign_jax.rollout.stop import token_bytes
from gtalign_jax.rollout.text import rows_of
from gtalign_jax.types import BLOCKS, GAME, Experience, Rollout


def on_mesh(experience: Experience, engine: Engine, form: str = GAME) -> Experience:
  """Prompts, padded to the bucket of the longest, and completions go to the devices.

  So do the blocks, of chains of this form, that their tokens belong to. Later turns are padded to
  as many rows as there may be, so that one program fits every step.
  """
  rows = len(experience.prompts)
  placed = _placed(experience, engine, rows, engine.buckets, form)
  if experience.later is None:
    return placed
  assert engine.later is not None
  return placed._replace(
    later=_placed(experience.later, engine.later, engine.later.most, engine.later.buckets, form)
  )


def _placed(
  experience: Experience, engine: Engine, most: int, buckets: Sequence[int], form: str
) -> Experience:
  """An experience with prompts, completions and blocks on the devices, padded to `most` prompts."""
  mesh, ids, rollout = engine.programs.mesh, experience.prompts, experience.rollout
  rows, block_BC = sharding.rows(mesh), block_ids(engine, rollout, _heads(experience), form)
  counts = [(block_BC == index).sum(1) for index in range(len(BLOCKS))]
  empty = (most - len(ids)) * engine.sampling.group_size
  rollout, block_BC = jax.tree.map(
    lambda x: np.concatenate([x, np.zeros((empty, *x.shape[1:]), x.dtype)]), (rollout, block_BC)
  )
  return experience._replace(
    # one token: attention over none would be 0 / 0
    prompts=to_device(mesh, ids, range(len(ids)), most, buckets, 1, engine.constraint),
    grammar=engine.grammar,
    rollout=distributed.to_device(rollout, Rollout(*[rows] * len(rollout))),
    # not -1: a step may have no later turn
    block_PGK=np.stack(counts, -1).reshape(len(ids), engine.sampling.group_size, len(BLOCKS)),
    block_BC=distributed.to_device(block_BC, rows),
  )


def _heads(experience: Experience) -> list[np.ndarray]:
  """The ids that each row of the chains begins with and that stand in its prompt."""
  head_P, (P, G) = experience.head_P, experience.count_PG.shape
  head_P = np.zeros(P, int) if head_P is None else head_P
  heads = [ids[len(ids) - n :] for ids, n in zip(experience.prompts, head_P, strict=True)]
  return [each for each in heads for _ in range(G)]


def block_ids(
  engine: Engine, rollout: Rollout, heads: Sequence[np.ndarray], form: str = GAME
) -> np.ndarray:
  """int8 [B, C]: which of BLOCKS holds each token, -1 outside of all.

  rollout: on the host. heads: ids before each row, whose last one may begin a tag that it ends.
  """
  bytes_V = token_bytes(engine.tokenizer, engine.sampling.arch.vocab_size)
  block_BC = np.full(rollout.tokens_BC.shape, -1, np.int8)
  for own_C, (ids, _), head in zip(block_BC, rows_of(rollout), heads, strict=True):
    body = vocabulary.body(ids, engine.sampling.eos_ids)
    blocks = chain.token_blocks([bytes_V[each] for each in (*head, *body)], form)
    own_C[: len(body)] = blocks[len(head) :]
  return block_BC
