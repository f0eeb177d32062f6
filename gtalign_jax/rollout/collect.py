"""From prompts to experience, for training and evaluation: sample, read the text, score it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.config import Config
from gtalign_jax.data import intents, prompts
from gtalign_jax.data.batches import Batch
from gtalign_jax.data.records import Record, from_row
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.game import conditions, paired
from gtalign_jax.parallel import distributed
from gtalign_jax.progress import Advance, WorkLog
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import score
from gtalign_jax.rewards.calibrated import calibrated
from gtalign_jax.rollout import talk
from gtalign_jax.rollout.edit import Head
from gtalign_jax.rollout.engine import QUIET, Ended, Engine, stream
from gtalign_jax.rollout.talk import Environment, Row
from gtalign_jax.rollout.text import uncounted, written
from gtalign_jax.types import Experience, Rollout
from gtalign_jax.users.policy import Speak

ROWS_OF_TURN = 2**26  # more than a step or an evaluation has; 16 turns of them fit an int32


def collect(
  engine: Engine,
  params: Any,
  batch: Batch,
  key: jax.Array,
  step: int,
  environment: Environment,
  log: WorkLog = QUIET,
  first_row: int = 0,
  advance: Advance = lambda done, total: None,
  heads: Sequence[Head] | None = None,
  number_P: np.ndarray | None = None,
) -> Experience:
  """Samples G completions for each prompt of `batch` and scores them; all of it on the host.

  params: as decoding reads them. key, step: of the draws. first_row: number of the first prompt
  within the step, likewise; number_P: of each, where they do not follow one another. heads: what
  the completions of each prompt begin with; rows that continue edited payoffs have the column
  `intervened`, and the condition of their extra_info holds what they are charged by. Where the
  engine has later turns, each completion opens a conversation, and each turn is a batch of those
  that still go on. Completions are scored, and users reply, as turns end, while the device decodes
  the others: a model behind a network takes as long as a rollout. advance: told how many prompts
  have been answered.
  """
  P, G, K = len(batch.ids), engine.sampling.group_size, environment.conversation.turns
  seed = environment.data.seed
  records = [intents.given(record, seed, step, K) for record in batch.records]
  begun = [Head()] * P if heads is None else heads
  opening = [
    [_begun(row, head, environment.rewards) for row in talk.opened(record, G, environment)]
    for record, head in zip(records, begun, strict=True)
  ]
  number_P = np.arange(first_row, first_row + P) if number_P is None else number_P
  ids = [np.asarray([*each, *head.ids], np.int32) for each, head in zip(batch.ids, begun)]
  turn = Turn(opening, records, ids, number_P, [head.ids for head in begun])
  rows_PG, rollout = _take_turn(engine, params, turn, key, step, environment, log, advance)
  rows = [row for rows_G in rows_PG for row in rows_G]
  later = []
  for number in range(2, K + 1):
    going = [b for b, row in enumerate(rows) if not talk.is_over(row)]
    if not going:
      break
    assert engine.later is not None
    turn = Turn(
      before=[[rows[b]] for b in going],
      records=[records[b // G] for b in going],
      ids=_contexts(
        engine, environment, [records[b // G] for b in going], [rows[b] for b in going]
      ),
      # numbers that no other row of the step has: a draw depends on (seed, step, row, turn, t)
      row_P=(number - 1) * ROWS_OF_TURN + np.asarray([number_P[b // G] * G + b % G for b in going]),
    )
    found, more = _take_turn(engine.later, params, turn, key, step, environment, log)
    later.append(_Later(turn.ids, more, going))
    for b, (row,) in zip(going, found, strict=True):
      rows[b] = row
  if environment.judge is not None:
    rows = calibrated(rows, environment.rewards.in_form(environment.form))
  return Experience(
    prompts=ids,
    rollout=rollout,
    rows=rows,
    length_P=np.asarray([len(each) for each in ids]),
    head_P=None if heads is None else np.asarray([len(head.ids) for head in heads]),
    count_PG=rollout.mask_BC.sum(1).reshape(P, G),
    later=_joined(engine, later) if K > 1 else None,
  )


def _begun(row: Row, head: Head, rewards: RewardConfig) -> Row:
  """A row before its first turn, with what an edit of its payoffs says of it."""
  if head.edited is None:
    return row
  # in the row alone: in the record it would be said in the prompts of later turns
  extra, charge = row["extra_info"], head.charge
  own = conditions.of(extra, row["id"])
  if (stated := conditions.prices(own, rewards.pricing)) is not None:
    both = zip(stated.shift, charge.shift, strict=True)
    shift = tuple((a[0] + b[0], a[1] + b[1]) for a, b in both)
    charge = dataclasses.replace(stated, shift=shift)
  return row | {
    "intervened": {"edited": head.edited, "by": head.charge.name},
    "extra_info": extra | {conditions.KEY: own._replace(pricing=charge).table()},
  }


class Turn(NamedTuple):
  """A turn of some conversations. before: their rows so far, G for each prompt of the engine.

  records, ids: of each prompt. row_P: what its draws are derived from. heads: the end of `ids`
  that belongs to the completions of each prompt; none by default.
  """

  before: list[list[Row]]
  records: list[Record]
  ids: list[np.ndarray]
  row_P: np.ndarray
  heads: Sequence[Sequence[int]] = ()


class _Later(NamedTuple):
  """The rows of a later turn. going: the conversation, counted over P * G, of each."""

  ids: list[np.ndarray]
  rollout: Rollout
  going: list[int]


def _take_turn(
  engine: Engine,
  params: Any,
  turn: Turn,
  key: jax.Array,
  step: int,
  environment: Environment,
  log: WorkLog,
  advance: Advance = lambda done, total: None,
) -> tuple[list[list[Row]], Rollout]:
  """(rows after the turn, G for each prompt; what was sampled, rows in the same order)."""
  rows: dict[int, list[Row]] = {}
  rollouts: dict[int, Rollout] = {}
  ending = stream(engine, params, turn.ids, key, step, row_P=turn.row_P, log=log)
  count = len(turn.ids)
  while len(rows) < count:
    with log.phase("rollout"):
      ended = next(ending)
    with log.phase("reward"):
      rows |= heard(engine, turn, ended, environment)
    rollouts |= dict(ended)
    log.doing(f"rollout {len(rows)}/{count}")
    advance(len(rows), count)
  order = range(count)
  rollout = Rollout(*map(np.concatenate, zip(*(rollouts[p] for p in order))))
  return [rows[p] for p in order], rollout


def heard(
  engine: Engine, turn: Turn, ended: Sequence[Ended], environment: Environment
) -> dict[int, list[Row]]:
  """Prompt -> its rows after this turn: read, answered by the user, scored where they are over.

  Each process takes its share; every process gets all rows, or raises the RunFailure that one of
  them met: one that left alone would let the others wait for it.
  """
  rows: list[Row] = []
  records: list[Record] = []
  mine = ended[distributed.share(len(ended))]
  for each in mine:
    head = turn.heads[each.prompt] if turn.heads else ()
    read = len(turn.ids[each.prompt]) - len(head)
    eos_ids, form = engine.sampling.eos_ids, environment.form
    texts = written(engine.tokenizer, read, each.rollout, eos_ids, head, form)
    for before, text in zip(turn.before[each.prompt], texts, strict=True):
      rows.append(talk.spoken(before, text, environment.rewards, form))
      records.append(turn.records[each.prompt])
  try:
    rows = _met(rows, records, environment, lambda *them: _too_long(engine, environment, *them))
  except RunFailure as error:
    rows = [{"failure": str(error)}]
  everyone, G = distributed.gather_rows(rows), engine.sampling.group_size
  for failed in (row["failure"] for row in everyone if "failure" in row):
    raise RunFailure(failed)
  return {each.prompt: everyone[i * G : (i + 1) * G] for i, each in enumerate(ended)}


def _met(
  rows: list[Row],
  records: Sequence[Record],
  environment: Environment,
  too_long: talk.TooLong = talk.never,
) -> list[Row]:
  """Rows after the user has replied, with the columns of `score` where they are over."""
  if environment.judge is None:
    return rows
  if environment.user is not None:
    rows = talk.answered(rows, records, environment, too_long)
  over = [i for i, row in enumerate(rows) if talk.is_over(row)]
  ended = [rows[i] for i in over]
  given = environment.rewards, environment.judge
  scored = score.score_rows(ended, *given, form=environment.form)
  for i, more in zip(over, scored, strict=True):
    rows[i] = rows[i] | more
  return rows


def _contexts(
  engine: Engine, environment: Environment, records: Sequence[Record], rows: Sequence[Row]
) -> list[np.ndarray]:
  """What the next turn of each conversation reads, as token ids."""
  said = [talk.said(row) for row in rows]
  return prompts.continued(records, said, engine.tokenizer, environment.data, environment.form)


def _too_long(
  engine: Engine, environment: Environment, records: Sequence[Record], rows: Sequence[Row]
) -> list[bool]:
  limit = environment.conversation.max_context_tokens
  return [len(ids) > limit for ids in _contexts(engine, environment, records, rows)]


def _joined(engine: Engine, later: Sequence[_Later]) -> Experience:
  """The rows of all later turns as one experience of groups of one."""
  C = engine.sampling.budget
  nothing = Rollout(
    np.zeros((0, C), np.int32), np.zeros((0, C), bool), np.zeros((0, C), np.float32),
    np.zeros(0, bool),
  )  # fmt: skip
  rollout = Rollout(*map(np.concatenate, zip(nothing, *(each.rollout for each in later))))
  ids = [ids for each in later for ids in each.ids]
  return Experience(
    prompts=ids,
    rollout=rollout,
    rows=[],
    length_P=np.asarray([len(each) for each in ids], np.int64),
    count_PG=rollout.mask_BC.sum(1)[:, None],
    parent_P=np.asarray([b for each in later for b in each.going], np.int32),
  )


def evaluate(
  engine: Engine,
  params: Any,
  batch: Batch,
  key: jax.Array,
  environment: Environment,
  *,
  number_P: np.ndarray | None = None,
  advance: Advance = lambda done, total: None,
) -> Experience:
  """Rows of `gtalign eval` for all prompts of `batch`, in order (`generate` where judge is None).

  The same key gives the same draws for every policy, so that runs are compared on equal terms.
  number_P: of each prompt within the job; draws are derived from it. advance: told how many prompts
  have ended.
  """
  turns, seed = environment.conversation.turns, environment.data.seed
  batch = batch._replace(records=[intents.given(each, seed, None, turns) for each in batch.records])
  return collect(engine, params, batch, key, 0, environment, advance=advance, number_P=number_P)


# from chats, which end with the user's turn, to a completion of each: text, or what `written` says
Assistant = Callable[[list[list[dict[str, str]]]], Sequence[str | Row]]


def play(
  assistant: Assistant,
  records: Sequence[Record | dict[str, Any]],
  config: Config,
  seed: int,
  speak: Speak | None = None,
) -> list[Row]:
  """Conversations of any assistant with the user of `config`, scored: rows of `gtalign eval`.

  assistant: from chats (lists of messages that end with the user's) to a completion of each, as a
  script, an endpoint or a policy gives them. One conversation for each record, or row of a prompt.
  seed: of the users' private intents. speak: the model that plays a user of kind policy. There is
  no tokenizer, so counts of tokens are counts of words. Raises BadInput where the assistant does
  not answer every chat.
  """
  sections, K = (config.rewards, config.conversation, config.data), config.conversation.turns
  read = [
    each if isinstance(each, Record) else from_row(each, f"records[{i}]", f"records/{i}")
    for i, each in enumerate(records)
  ]
  played = [intents.given(record, seed, None, K) for record in read]
  with talk.environment(*sections, None, speak, form=config.chain.form) as environment:
    return converse(assistant, played, environment)


def converse(
  assistant: Assistant, records: Sequence[Record], environment: Environment, samples: int = 1
) -> list[Row]:
  """`play` in an environment that is there, `samples` conversations for each record, in order."""
  rewards, data, form = environment.rewards, environment.data, environment.form
  played = [record for record in records for _ in range(samples)]
  rows = [row for record in records for row in talk.opened(record, samples, environment)]
  for _ in range(environment.conversation.turns):
    going = [i for i, row in enumerate(rows) if "completion" not in row or not talk.is_over(row)]
    own = [prompts.messages(played[i], data.template, form=form) for i in going]
    chats = [[*chat, *talk.said(rows[i])] for i, chat in zip(going, own, strict=True)]
    said = assistant(chats) if chats else []
    if len(said) != len(chats):
      raise BadInput(
        f"the assistant was given {len(chats)} chats and gave {len(said)} completions; it must "
        "give one for each"
      )
    for i, each in zip(going, said, strict=True):
      each = uncounted(each, form) if isinstance(each, str) else each
      rows[i] = talk.spoken(rows[i], each, rewards, form)
    new = _met([rows[i] for i in going], [played[i] for i in going], environment)
    for i, row in zip(going, new, strict=True):
      rows[i] = row
  return calibrated(rows, rewards.in_form(form))


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
