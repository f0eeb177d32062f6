"""One row of completions, read: its chain, its lengths, its task, the verdict that it brings."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game import conditions
from gtalign_jax.game.conditions import NONE, Condition
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, conversation, features, tasks
from gtalign_jax.rewards.blocks import Numbers, Span
from gtalign_jax.rewards.tasks.base import Task, example_of
from gtalign_jax.types import ACTIONS, BLOCKS, FORMS, GAME, REASONING, has_payoff


class Reading(NamedTuple):
  """A row as `score_rows` needs it.

  spans, numbers, error: as in `blocks.Blocks`; format too, its mean over the turns.
  response_words: of the last response. completion_words, response_chars: of all turns.
  brief_chars: characters of reasoning in all turns, NaN where brevity earns nothing. cell,
  user_type: -1 where none is named. action: what the response does, -1 where that is none. sums:
  (cell, number) as analyze states them. These and the matrix are those of the first turn; `later`
  has the other ones, read alike.
  type_label: the user type that the row's label says, -1 where it says none. condition: what the
  request says of its game. attention: factor on the user's terms. ended: of a conversation.
  task: of the last response, None where there is none to judge.
  verdict: as the row brings it (NaN: no verdict), or None: to be asked.
  """

  spans: tuple[Span | None, ...]
  numbers: Numbers | None
  format: float
  error: str | None
  response_words: int
  response_chars: int
  completion_words: int
  brief_chars: float
  cell: int
  user_type: int
  action: int
  sums: Sequence[tuple[int, float]] = ()
  id: str = ""
  type_label: int = -1
  condition: Condition = NONE
  attention: float = 1.0
  later: tuple[Reading, ...] = ()
  ended: str | None = None
  task: Task | None = None
  verdict: float | None = None

  @property
  def carried_out(self) -> float:
    """1.0 if the response does what the named cell's action says, else 0.0."""
    return float(self.cell >= 0 and self.action == self.cell % 3)

  @property
  def n_turns(self) -> int:
    """Turns of the assistant."""
    return 1 + len(self.later)


def read(
  row: dict[str, Any],
  config: RewardConfig,
  place: str,
  words: Callable[[str], int] = features.words,
  form: str = GAME,
) -> Reading:
  """Reads one row. words: counts those of a text.

  Raises BadInput, naming `place`, where the row itself is malformed, or says that it is of another
  form.
  """
  text = row.get("completion")
  if not isinstance(text, str):
    raise BadInput(f"{place}: completion={str(text)[:40]!r} must be text")
  said = row.get("form")
  if said != form and said in tuple(FORMS):  # foreign rows may mean something else by the name
    raise BadInput(f"{place}: form={said!r}, but it is read as {form!r}; give chain.form={said}")
  # before the text is looked at: whether a label is missing must not depend on what was sampled
  function = tasks.known(row, config.tasks, config.mode, place)
  talk = conversation.of(row, config.mode, place)
  answers = functools.partial(tasks.answers, function, row.get("extra_info"))
  rules = config, words, form, answers
  found, response = _chain(row, *rules)
  action = found.action
  if talk:
    later = [_chain(each, *rules) for each in talk.later]
    found = _whole(found, tuple(each for each, _ in later), talk.ended)
    response = [response, *(said for _, said in later)][-1]
  failed = found.ended == "invalid"  # the user gave no answer: nobody knows what the talk was worth
  task = None
  # with several responses none is the answer: the chain holds none then
  if response is not None and not failed:
    more = found.n_turns, action, talk.meant if talk else None
    task = function(example_of(row, response, config.mode, place, *more))
  return found._replace(
    id=str(row.get("id")),
    type_label=tasks.type_label(function, row.get("ground_truth")),
    # the published reward knows no conditions, and its rows may hold anything
    condition=NONE if config.mode == "paper" else conditions.of(row.get("extra_info"), place),
    attention=tasks.attention(function) if action == ACTIONS.index("AQ") else 1.0,
    task=task,
    verdict=math.nan if failed else given(row, "judge_score", place),
  )


def _chain(
  turn: Mapping[str, Any],
  config: RewardConfig,
  words: Callable[[str], int],
  form: str,
  answers: Callable[[str], bool],
) -> tuple[Reading, str | None]:
  """One completion, and its response; the reading lacks what only the row says."""
  text, cut = turn["completion"], turn.get("finish_reason") == "length"
  found = chain.blocks(text, "paper" if config.mode == "paper" else "strict", form, cut)
  # a special token inside a chain spells like text, but ends or begins a turn for whoever reads ids
  if config.mode != "paper" and found.error is None and turn.get("control_tokens"):
    found = found._replace(numbers=None, format=0, error="stray_text")
  texts = {block: chain.contents(text, span) for block, span in zip(BLOCKS, found.spans)}
  thinking, analyze, response = (texts[each] for each in (*REASONING, "response"))
  reasoning = [texts[each] for each in REASONING if each in FORMS[form]]
  # who writes no reasoning is brief, but not by saying nothing
  briefly = bool(reasoning) or response is not None
  # blocks that occur once are read even where the chain fails: a broken payoff costs no answer
  cell = features.named_cell(analyze or "")
  limits = config.cq_max_words, config.aq_min_words
  reading = Reading(
    **found._asdict(),
    response_words=words(response or ""),
    response_chars=len(response or ""),
    completion_words=words(text),
    brief_chars=features.brief_chars(*reasoning) if briefly else math.nan,
    cell=cell,
    user_type=features.user_type(thinking or ""),
    # no response does nothing; one that asks nothing answers
    action=-1 if response is None else did(response, cell, form, answers, *limits),
    sums=features.stated_sums(analyze or ""),
  )
  return reading, response


def did(response: str, cell: int, form: str, answers: Callable[[str], bool], *limits: int) -> int:
  """`features.action`, and where chains name no cell, what the task sees stands for it."""
  if not has_payoff(form) and answers(response):
    cell = ACTIONS.index("AQ")
  return features.action(response, cell, *limits)


def _whole(first: Reading, later: tuple[Reading, ...], ended: str) -> Reading:
  """The conversation that the turns make."""
  turns = (first, *later)
  return first._replace(
    format=sum(each.format for each in turns) / len(turns),
    response_words=turns[-1].response_words,
    response_chars=sum(each.response_chars for each in turns),
    completion_words=sum(each.completion_words for each in turns),
    # NaN, which earns nothing, as soon as a turn lacks its reasoning
    brief_chars=sum(each.brief_chars for each in turns),
    later=later,
    ended=ended,
  )


def given(row: dict[str, Any], key: str, place: str) -> float | None:
  """The number that the row brings; NaN for null, None where it does not have the key.

  Raises BadInput, naming `place`, where it is no number.
  """
  return jsonl.number(row, key, place) if key in row else None
