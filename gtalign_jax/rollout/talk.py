"""Conversations: who has spoken, who speaks next, and how it ends (FORMULAS section 9).

A conversation is a row of `gtalign eval` that grows turn by turn. Its history holds responses
alone: neither the user nor a later turn of the assistant reads the reasoning of an earlier one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gtalign_jax import users
from gtalign_jax.conversation_section import ConversationConfig
from gtalign_jax.data import concierge, intents, prompts
from gtalign_jax.data.records import Record
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, features, judges, read, tasks
from gtalign_jax.rewards.judges.base import Judge
from gtalign_jax.sections import DataConfig
from gtalign_jax.types import ACTIONS, GAME
from gtalign_jax.users.base import LEFT, Ending, Talk, User
from gtalign_jax.users.policy import Speak

Row = dict[str, Any]
# of conversations that would go on: which have more to read than the next turn may
TooLong = Callable[[Sequence[Record], Sequence[Row]], Sequence[bool]]


def never(records: Sequence[Record], rows: Sequence[Row]) -> list[bool]:
  """`TooLong` where nothing limits what is read."""
  return [False] * len(rows)


class Environment(NamedTuple):
  """What a response meets: the reward, its judge (None: rows are not scored), and the user.

  user: None where nobody answers back, which is where conversations have one turn. data: how
  later turns are worded, and the seed of the user's private intent. form: of the chains.
  """

  rewards: RewardConfig
  judge: Judge | None = None
  user: User | None = None
  conversation: ConversationConfig = ConversationConfig()
  data: DataConfig = DataConfig()
  form: str = GAME

  def statistics(self) -> dict[str, float]:
    """Metrics of judge and user since the last call."""
    asked = [each for each in (self.judge, self.user) if each is not None]
    return {name: x for each in asked for name, x in each.statistics().items()}


@contextlib.contextmanager
def environment(
  rewards: RewardConfig,
  conversation: ConversationConfig,
  data: DataConfig,
  folder: Path | None,
  speak: Speak | None = None,
  *,
  form: str = GAME,
) -> Iterator[Environment]:
  """The environment of a run or a job, closed at the end.

  folder: where the caches of verdicts and replies lie, unless the config names others; None: none.
  speak: the model of a user of kind policy.
  """
  with contextlib.ExitStack() as stack:
    judge, user = judges.make(rewards.judge, folder), None
    stack.callback(judge.close)
    if conversation.turns > 1:
      user = users.connect(conversation.user, folder, speak)
      stack.callback(user.close)
    yield Environment(rewards, judge, user, conversation, data, form)


def opened(record: Record, samples: int, environment: Environment) -> list[Row]:
  """Conversations about a record before their first turn, one for each sample.

  Where they have one turn, they are plain rows of one completion. The record has its intent. The
  true payoffs stand in the row where the game's solution is known and the row will be scored.
  """
  turns, form = environment.conversation.turns, environment.form
  row: Row = {
    "data_source": record.data_source,
    "prompt": list(record.messages),
    "ground_truth": record.ground_truth,
    "extra_info": record.extra_info,
  }
  if form != GAME:
    row["form"] = form
  scored = environment.judge is not None and environment.rewards.mode == "corrected"
  if scored and record.data_source == concierge.SOURCE:
    known = concierge.true_payoffs(record, environment.rewards, turns=turns, form=form)
    row["true_payoffs"] = known.tolist()
  if turns > 1:
    intent = record.extra_info.get(intents.KEY)
    row |= {"turns": [], "n_turns": 0, "intent": intent, "ended": None}
  return [{"id": f"{record.id}#{g}", "sample": g} | row for g in range(samples)]


def is_over(row: Row) -> bool:
  """Whether nobody speaks any more."""
  return row.get("ended", "answered") is not None


def spoken(row: Row, written: Row, config: RewardConfig, form: str = GAME) -> Row:
  """The conversation after the assistant's next turn. written: of `text.written`.

  Its columns are those of the first turn, whose matrix is the game that is played; counts of tokens
  are sums over the turns.
  """
  if "turns" not in row:
    return row | written
  text, cut = written["completion"], written["finish_reason"] == "length"
  did = decided(text, config, form, cut, lambda response: _answers(row, response, config))
  turn = {
    "role": "assistant",
    "response": did.response,
    "action": ACTIONS[did.action] if did.action >= 0 else None,
    **{k: written[k] for k in ("completion", "completion_tokens", "finish_reason")},
    "control_tokens": written["control_tokens"],
  }
  first = written if not row["turns"] else {}
  counts = {
    key: row.get(key, 0) + written[key]
    for key in ("prompt_tokens", "completion_tokens", "response_tokens")
  }
  talk = {"turns": [*row["turns"], turn], "n_turns": row["n_turns"] + 1}
  return row | first | counts | talk


def _answers(row: Row, response: str, config: RewardConfig) -> bool:
  task = tasks.find(row["data_source"], config.tasks)
  return tasks.answers(task, row["extra_info"], response)


class Decision(NamedTuple):
  """What one chain decides. cell: that it names, action: that its response does; -1 for none."""

  cell: int
  action: int
  response: str | None


def decided(
  completion: str,
  config: RewardConfig,
  form: str = GAME,
  cut: bool = False,
  answers: Callable[[str], bool] = lambda response: False,
) -> Decision:
  """Read from the blocks that occur once, also where the text is no chain.

  cut: as in `chain.blocks`. answers: what the task sees in a response, for chains without cells.
  """
  spans = chain.blocks(completion, form=form, cut=cut).spans
  analyze, response = (chain.contents(completion, span) for span in spans[2:])
  cell, action = features.named_cell(analyze or ""), -1
  if response is not None:
    limits = config.cq_max_words, config.aq_min_words
    action = read.did(response, cell, form, answers, *limits)
  return Decision(cell, action, response)


def answered(
  rows: Sequence[Row],
  records: Sequence[Record],
  environment: Environment,
  too_long: TooLong,
) -> list[Row]:
  """The conversations after the user's turn, `ended` where they are over; records: of each."""
  turns, user = environment.conversation.turns, environment.user
  assert user is not None
  rows = [row | {"ended": _end(row, turns, user)} if "turns" in row else row for row in rows]
  asking = [i for i, row in enumerate(rows) if not is_over(row)]
  talks = [_talk(records[i], rows[i]) for i in asking]
  going = []
  for i, reply in zip(asking, user.replies(talks) if talks else [], strict=True):
    if isinstance(reply, Ending):
      rows[i]["ended"] = "left" if reply is LEFT else "invalid"
      continue
    rows[i] = rows[i] | {"turns": [*rows[i]["turns"], {"role": "user", "content": reply.text}]}
    going.append(i)
  long = too_long([records[i] for i in going], [rows[i] for i in going]) if going else []
  for i, over in zip(going, long, strict=True):
    if over:  # the next turn could not read it, and nothing is cut
      rows[i]["ended"] = "turns"
  return rows


def _end(row: Row, turns: int, user: User) -> str | None:
  """How the conversation ends with the assistant's newest turn; None: the user is to reply."""
  response = row["turns"][-1]["response"]
  if response is None:
    return "unreadable"
  if not features.asking(response).questions:
    return "answered"
  if row["n_turns"] >= turns or user.ends(row["data_source"]):
    return "turns"
  return None


def _talk(record: Record, row: Row) -> Talk:
  own = prompts.conversation(record)[1]  # a chat that may have had turns before the request
  return Talk(row["id"], row["data_source"], row["intent"], [*own, *said(row)], len(own))


def said(row: Row) -> list[dict[str, str]]:
  """What has been said since the prompt, as chat messages: responses and replies."""
  return [
    {"role": "assistant", "content": turn["response"]}
    if turn["role"] == "assistant"
    else {"role": "user", "content": turn["content"]}
    for turn in row.get("turns", ())
  ]
