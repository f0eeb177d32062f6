"""Do chains follow their own matrix? They go on from other ones, and from the same (FORMULAS 10).

The opening of a chain, up to `</payoff>`, is the policy's own; two cells of its matrix trade their
pairs, so that the rule's choice is another one. Placebos write the matrix as it was, and scaled.
To the engine each of these is a prompt that ends with `</payoff>`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.errors import RunFailure
from gtalign_jax.game import edits, payoff
from gtalign_jax.models.vocabulary import body, spell
from gtalign_jax.parallel.mesh import row_shards
from gtalign_jax.parallel.programs import Table
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rollout import edit, talk
from gtalign_jax.rollout.edit import Opening
from gtalign_jax.rollout.engine import Engine, stream, table
from gtalign_jax.types import ACTIONS, CELLS, Experience

HEADS = 3  # of a chain: the swap and two placebos
SCALE = 0.9  # of the second placebo
STEP = 1  # of the draws: chains themselves are sampled in step 0
ROUND = 64  # tokens: padded lengths are multiples of this

# go_on(ids of each row, number that its draws are derived from) -> new ids of each row
GoOn = Callable[[Sequence[np.ndarray], Sequence[int]], list[list[int]]]


class Sampled(NamedTuple):
  """A chain as it was sampled. number: of its draws. ids: without what ends a row."""

  id: str
  number: int
  prompt: np.ndarray
  ids: list[int]


class Editable(NamedTuple):
  """A chain whose opening can be edited.

  payoff_UAR: its matrix as it is written with one decimal. chosen: the cell that the rule takes on
  it. named, done: what the chain went on to, the cell and the action of its response; -1: none.
  """

  chain: Sampled
  opening: Opening
  payoff_UAR: np.ndarray
  chosen: int
  named: int
  done: int

  def choice(self, payoff_UAR: Any) -> int:
    """The rule's choice on another matrix."""
    user_type: Any = self.opening.user_type
    return int(payoff.choose(payoff_UAR, user_type))

  def swapped(self, cell: int) -> np.ndarray:
    """The matrix with the pairs of the chosen cell and of another one of its row exchanged."""
    return edits.swapped(self.payoff_UAR, *divmod(cell, len(ACTIONS)))

  def head(self, tokenizer: Any, payoff_UAR: np.ndarray) -> list[int]:
    """Ids of the opening with this matrix. Raises RunFailure where they cannot be spelled."""
    own = self.opening.text[slice(*self.opening.span)]
    return edit.splice(tokenizer, self.opening, edit.rewrite(own, payoff_UAR))


def chains(experience: Experience, eos_ids: Sequence[int], first_row: int = 0) -> list[Sampled]:
  """The first turns of an experience that is on the host, in the order of its rows."""
  rollout, G = experience.rollout, experience.count_PG.shape[1]
  return [
    Sampled(
      row["id"],
      first_row * G + b,
      experience.prompts[b // G],
      body(rollout.tokens_BC[b][rollout.mask_BC[b].astype(bool)], eos_ids),
    )
    for b, row in enumerate(experience.rows)
  ]


def editable(tokenizer: Any, chain: Sampled, rewards: RewardConfig) -> Editable | None:
  """The chain with its opening; None where that cannot be read."""
  opening = edit.read(tokenizer, edit.opening_of(tokenizer, chain.ids))
  if isinstance(opening, str):
    return None
  own = talk.decided(spell(tokenizer, chain.ids), rewards)
  found = Editable(chain, opening, written(opening.payoff_UAR), 0, own.cell, own.action)
  return found._replace(chosen=found.choice(found.payoff_UAR))


def written(payoff_UAR: np.ndarray) -> np.ndarray:
  """The numbers as they are written: one decimal, no -0.0."""
  return np.round(payoff_UAR, 1) + 0.0


def drawn(found: Editable, seed: int) -> int | None:
  """The cell a' that a swap makes the choice, drawn by (seed, id); None where there is none.

  Of the chosen cell's row, but neither that one nor what the chain had named or done anyway: a
  chain that ignores its matrix then never goes with the swap, in word or in deed.
  """
  first = 3 * (found.chosen // 3)
  cells = [
    first + action
    for action in range(3)
    if first + action not in (found.chosen, found.named)
    and action != found.done
    and found.choice(found.swapped(first + action)) == first + action
  ]
  return random.Random(f"{seed}/intervene/{found.chain.id}").choice(cells) if cells else None


class _Plan(NamedTuple):
  """What one chain goes on from. other: a'. heads: of the swap, then of the placebos."""

  found: Editable
  other: int
  heads: list[list[int]]


def _plan(
  tokenizer: Any, chain: Sampled, rewards: RewardConfig, seed: int, longest: int
) -> _Plan | None:
  """None where the chain has no matrix, no other cell can be the choice, or no ids fit."""
  found = editable(tokenizer, chain, rewards)
  other = None if found is None else drawn(found, seed)
  if found is None or other is None:
    return None
  own = found.payoff_UAR
  scaled = written(SCALE * own)
  # rounding may make another choice of it, and then it is no placebo
  placebos = [own, *[scaled] * (found.choice(scaled) == found.chosen)]
  try:
    matrices = [found.swapped(other), *placebos]
    heads = [found.head(tokenizer, each) for each in matrices]
  except RunFailure:
    return None
  return _Plan(found, other, heads) if len(chain.prompt) + max(map(len, heads)) <= longest else None


def intervene(
  tokenizer: Any,
  sampled: Sequence[Sampled],
  go_on: GoOn,
  rewards: RewardConfig,
  seed: int,
  longest: int,
) -> list[dict[str, Any] | None]:
  """The column `intervention` of each chain (docs/steering.md); None where it cannot be edited.

  All heads go on in one call; those of one chain draw the same random numbers. seed: of a'.
  longest: prompt and opening that the engine takes, tokens.
  """
  plans = [_plan(tokenizer, each, rewards, seed, longest) for each in sampled]
  kept = [each for each in plans if each is not None]
  prompts = [
    np.asarray([*each.found.chain.prompt, *head], np.int32) for each in kept for head in each.heads
  ]
  numbers = [each.found.chain.number for each in kept for _ in each.heads]
  new = iter(go_on(prompts, numbers))
  out: list[dict[str, Any] | None] = []
  for plan in plans:
    texts = [spell(tokenizer, [*head, *next(new)]) for head in plan.heads] if plan else []
    out.append(_column(plan, texts, rewards) if plan else None)
  return out


def _column(plan: _Plan, texts: list[str], rewards: RewardConfig) -> dict[str, Any]:
  swap, *placebos = (talk.decided(text, rewards) for text in texts)

  def name(cell: int) -> str | None:
    return CELLS[cell] if cell >= 0 else None

  return {
    "chosen": CELLS[plan.found.chosen],
    "edited": CELLS[plan.other],
    "own": name(plan.found.named),
    "named": name(swap.cell),
    "action": ACTIONS[swap.action] if swap.action >= 0 else None,
    "placebo": [name(each.cell) for each in placebos],
    "completion": texts[0],
  }


# ---------------------------------------------------------------- the engine


def continuing(engine: Engine, lengths: Iterable[int], heads: int) -> Engine:
  """`engine` for the heads of chains that it sampled: prompts of a row each, longer by its budget.

  lengths: padded lengths of the prompts of those chains. heads: how many there are at most.
  """
  shards, G = row_shards(engine.programs.mesh), engine.sampling.group_size
  return engine._replace(
    sampling=engine.sampling._replace(group_size=1),
    slots=-(-min(engine.slots * G, heads) // shards) * shards,
    buckets=tuple(sorted(-(-(n + engine.sampling.budget) // ROUND) * ROUND for n in lengths)),
    prefix=f"{engine.prefix}head_",
  )


def head_tables(engine: Engine, params: Any, heads: int) -> list[Table]:
  """The programs of a `continuing` engine; how many heads there will be is not known."""
  more = (False, True) if heads > engine.slots else (False,)
  return [table(engine, params, bucket, each) for bucket in engine.buckets for each in more]


def completions(
  engine: Engine,
  params: Any,
  key: jax.Array,
  step: int,
  prompts: Sequence[np.ndarray],
  numbers: Sequence[int],
) -> list[list[int]]:
  """New ids of each row, without what ends it; `GoOn` once it has a policy and a key."""
  found = branch(engine, params, key, step, prompts, numbers, None)
  return [new for (new,) in found]


def branch(
  engine: Engine,
  params: Any,
  key: jax.Array,
  step: int,
  prompts: Sequence[np.ndarray],
  numbers: Sequence[int],
  branches: Sequence[Sequence[Sequence[int]]] | None,
) -> list[list[list[int]]]:
  """New ids of each row of each prompt, without what ends it; `branches` as of `engine.stream`."""
  out: list[list[list[int]]] = [[] for _ in prompts]
  row_P = np.asarray(numbers, np.int32)
  for ended in stream(engine, params, prompts, key, step, row_P=row_P, branches=branches):
    for each in ended:
      out[each.prompt] = [
        body(ids[mask], engine.sampling.eos_ids)
        for ids, mask in zip(each.rollout.tokens_BC, each.rollout.mask_BC.astype(bool))
      ]
  return out


def forked(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
  """(what `rows` begin with alike, what each goes on with)."""
  shortest = min(map(len, rows))
  same_RT = np.stack([ids[:shortest] for ids in rows]) == rows[0][:shortest]
  alike = int(np.logical_and.accumulate(same_RT.all(0)).sum())
  return rows[0][:alike], [ids[alike:] for ids in rows]
