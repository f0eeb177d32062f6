"""Steering (docs/steering.md): stop at `</payoff>`, edit the payoffs, let the model go on.

One opening is sampled for each question; every pricing policy edits that one. To the engine each
edited opening is a prompt that ends with `</payoff>`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.errors import RunFailure
from gtalign_jax.game import payoff, pricing
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.models.vocabulary import spell
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.mesh import row_shards
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain
from gtalign_jax.rollout import intervene, stop, talk
from gtalign_jax.rollout.edit import STOP, Opening, opening_of, read, rewrite, splice
from gtalign_jax.rollout.engine import Engine
from gtalign_jax.rollout.text import response_tokens
from gtalign_jax.types import ACTIONS, CELLS, ROLES, USER_TYPES

TAIL = 0  # draw of what follows the payoffs; openings have draws 1, 2, …, so none is used twice
ROWS = 32  # continuations decoded at once, where the engine does not decode more prompts

# complete(ids of each row, number that its draws are derived from, draw) -> new ids of each row:
# in draw TAIL to the end of the chain, else to the end of the payoffs
Complete = Callable[[Sequence[np.ndarray], Sequence[int], int], list[list[int]]]


class Question(NamedTuple):
  """prompt: ids. number: of its draws. policies: what its payoffs are edited by."""

  prompt: np.ndarray
  number: int
  policies: Sequence[Pricing]


class Steered(NamedTuple):
  """results: one a policy, keys as in `gtalign steer --json` (docs/steering.md); none where no
  chain could be edited. reasons: why each try before failed."""

  results: list[dict[str, Any]]
  reasons: list[str]


class Sampler(NamedTuple):
  """A policy, on the mesh of its engines. Draws are a function of (key, draw, number, token)."""

  opening: Engine
  tail: Engine
  params: Any
  key: jax.Array

  @property
  def longest(self) -> int:
    """Prompt and opening that are taken, tokens."""
    return self.tail.buckets[-1]

  def complete(
    self, prompts: Sequence[np.ndarray], numbers: Sequence[int], draw: int
  ) -> list[list[int]]:
    """`Complete`. Continuations of one number are computed from one prefill of what they share."""
    with jax.set_mesh(self.opening.programs.mesh):
      if draw != TAIL:
        return intervene.completions(self.opening, self.params, self.key, draw, prompts, numbers)
      return self._go_on(prompts, numbers)

  def _go_on(self, prompts: Sequence[np.ndarray], numbers: Sequence[int]) -> list[list[int]]:
    rows_of: dict[int, list[int]] = {}
    for row, number in enumerate(numbers):
      rows_of.setdefault(number, []).append(row)
    forks = [intervene.forked([prompts[row] for row in rows]) for rows in rows_of.values()]
    longest = max(len(ids) for _, tails in forks for ids in tails)
    engine = self.tail._replace(branch=-(-max(longest, 1) // intervene.ROUND) * intervene.ROUND)
    stems = [stem for stem, _ in forks]
    tails = [[ids.tolist() for ids in each] for _, each in forks]
    new = intervene.branch(engine, self.params, self.key, TAIL, stems, list(rows_of), tails)
    out: list[list[int]] = [[] for _ in prompts]
    for rows, each in zip(rows_of.values(), new, strict=True):
      for row, ids in zip(rows, each):
        out[row] = ids
    return out


def sampler(
  engine: Engine, params: Any, key: jax.Array, stops: Sequence[str], policies: int
) -> Sampler:
  """engine: a completion a prompt, with the stop strings `stops`. policies: of each question."""
  table = stop.stop_table(engine.tokenizer, (STOP, *stops), engine.sampling.arch.vocab_size)
  table = distributed.to_device(table, sharding.replicated(engine.programs.mesh))
  opening = engine._replace(stop_table=table, prefix=f"{engine.prefix}open_")
  tail = intervene.continuing(engine, engine.buckets, max(engine.slots, ROWS))
  group = policies + 1
  shards = row_shards(engine.programs.mesh)
  slots = -(-max(tail.slots // group, 1) // shards) * shards
  tail = tail._replace(sampling=tail.sampling._replace(group_size=group), slots=slots)
  return Sampler(opening, tail, params, key)


class _Plan(NamedTuple):
  """What one question goes on from. heads: of the opening as it was written, then edited."""

  opening: Opening
  tries: int
  matrices: list[Any]
  heads: list[tuple[int, ...]]


def steer(
  tokenizer: Any,
  complete: Complete,
  questions: Sequence[Question],
  rewards: RewardConfig,
  tries: int,
  longest: int = 2**31,
) -> list[Steered]:
  """Each question's chain as it went on by itself, and as it went on from the edits.

  Continuations of a question draw the same random numbers, so equal openings go on once. longest:
  prompt and opening that `complete` takes, tokens.
  """
  plans: list[_Plan | None] = [None] * len(questions)
  reasons: list[list[str]] = [[] for _ in questions]
  for draw in range(1, tries + 1):
    left = [i for i, each in enumerate(plans) if each is None]
    asked = [questions[i] for i in left]
    new = complete([q.prompt for q in asked], [q.number for q in asked], draw) if left else []
    for i, ids in zip(left, new, strict=True):
      plan = _plan(tokenizer, questions[i], ids, draw, longest)
      if isinstance(plan, str):
        reasons[i].append(plan)
      else:
        plans[i] = plan
  heads = [(i, head) for i, plan in enumerate(plans) if plan for head in dict.fromkeys(plan.heads)]
  prompts = [np.asarray([*questions[i].prompt, *head], np.int32) for i, head in heads]
  new = complete(prompts, [questions[i].number for i, _ in heads], TAIL) if heads else []
  texts = {
    (i, head): spell(tokenizer, [*head, *ids]) for (i, head), ids in zip(heads, new, strict=True)
  }
  return [
    Steered(
      _results(tokenizer, questions[i], plan, [texts[i, head] for head in plan.heads], rewards)
      if plan
      else [],
      reasons[i],
    )
    for i, plan in enumerate(plans)
  ]


def _plan(
  tokenizer: Any, question: Question, ids: Sequence[int], tries: int, longest: int
) -> _Plan | str:
  """How the question goes on from the opening that `ids` hold, or why it cannot."""
  opening = read(tokenizer, opening_of(tokenizer, ids))
  if isinstance(opening, str):
    return opening
  own = opening.text[slice(*opening.span)]
  matrices = [pricing.apply(each, opening.payoff_UAR) for each in question.policies]
  try:
    edited = [tuple(splice(tokenizer, opening, rewrite(own, each))) for each in matrices]
  except RunFailure as error:
    return str(error)
  heads = [tuple(opening.ids), *edited]
  if len(question.prompt) + max(map(len, heads)) > longest:
    return f"over {longest} tokens"
  return _Plan(opening, tries, matrices, heads)


def _results(
  tokenizer: Any, question: Question, plan: _Plan, texts: Sequence[str], rewards: RewardConfig
) -> list[dict[str, Any]]:
  opening, declared = plan.opening, (*USER_TYPES, None)[plan.opening.user_type]  # -1: undeclared
  before = _outcome(tokenizer, opening.payoff_UAR, opening.user_type, texts[0], rewards)
  results = []
  for policy, matrix, text in zip(question.policies, plan.matrices, texts[1:], strict=True):
    after = _outcome(tokenizer, matrix, opening.user_type, text, rewards)
    edited = {"edited" if k == "payoff" else f"edited_{k}": v for k, v in after.items()}
    head = {"pricing": policy.name, "user_type": declared, "try": plan.tries}
    results.append(head | before | edited)
  return results


def _outcome(
  tokenizer: Any, payoff_UAR: Any, user_type: Any, text: str, rewards: RewardConfig
) -> dict[str, Any]:
  """What one chain says: its matrix, the choice on it, and what the model made of it."""
  did = talk.decided(text, rewards)
  return {
    "payoff": {c: dict(zip(ROLES, p)) for c, p in zip(CELLS, payoff_UAR.reshape(6, 2).tolist())},
    "choice": CELLS[int(payoff.choose(payoff_UAR, user_type))],
    "named": CELLS[did.cell] if did.cell >= 0 else None,
    "action": ACTIONS[did.action] if did.action >= 0 else None,
    "parse_error": chain.parse(text).error,
    "response": did.response,
    "response_tokens": response_tokens(tokenizer, text) or None,  # of nothing there is no length
    "completion": text,
  }
