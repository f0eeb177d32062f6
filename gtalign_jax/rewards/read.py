"""One row of completions, read: its chain, its lengths, its task, the verdict that it brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.game import conditions
from gtalign_jax.game.conditions import NONE, Condition
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, features, tasks
from gtalign_jax.rewards.blocks import Numbers, Span
from gtalign_jax.rewards.tasks.base import Task, example_of


class Reading(NamedTuple):
  """A row as `score_rows` needs it.

  spans, numbers, format, error: as in `blocks.Blocks`.
  brief_chars: characters of reasoning, NaN where brevity earns nothing. cell, user_type: -1 where
  none is named. action: what the response does, -1 where that is none. type_label: the user type
  that the row's label says, -1 where it says none. condition: what the request says of its game.
  task: None where there is no response to judge.
  verdict: as the row brings it (NaN: no verdict), or None: to be asked.
  """

  id: str
  spans: tuple[Span | None, ...]
  numbers: Numbers | None
  format: int
  error: str | None
  response_words: int
  completion_words: int
  brief_chars: float
  cell: int
  user_type: int
  action: int
  type_label: int
  condition: Condition
  task: Task | None
  verdict: float | None

  @property
  def carried_out(self) -> float:
    """1.0 if the response does what the named cell's action says, else 0.0."""
    return float(self.cell >= 0 and self.action == self.cell % 3)


def read(
  row: dict[str, Any],
  config: RewardConfig,
  place: str,
  words: Callable[[str], int] = features.words,
) -> Reading:
  """Reads one row. words: counts those of a text.

  Raises BadInput, naming `place`, where the row itself is malformed.
  """
  text = row.get("completion")
  if not isinstance(text, str):
    raise BadInput(f"{place}: completion={str(text)[:40]!r} must be text")
  # before the text is looked at: whether a label is missing must not depend on what was sampled
  function = tasks.known(row, config.tasks, config.mode, place)
  found = chain.blocks(text, "paper" if config.mode == "paper" else "strict")
  # a special token inside a chain spells like text, but ends or begins a turn for whoever reads ids
  if config.mode != "paper" and found.error is None and row.get("control_tokens"):
    found = found._replace(numbers=None, format=0, error="stray_text")
  thinking, _, analyze, response = (chain.contents(text, span) for span in found.spans)
  task = None
  if response is not None:  # with several responses none is the answer: the chain holds none then
    task = function(example_of(row, response, config.mode, place))
  # blocks that occur once are read even where the chain fails: a broken payoff costs no answer
  cell = features.named_cell(analyze or "")
  limits = config.cq_max_words, config.aq_min_words
  return Reading(
    id=str(row.get("id")),
    **found._asdict(),
    response_words=words(response or ""),
    completion_words=words(text),
    brief_chars=features.brief_chars(thinking, analyze),
    cell=cell,
    user_type=features.user_type(thinking or ""),
    # no response does nothing; one that asks nothing answers
    action=-1 if response is None else features.action(response, cell, *limits),
    type_label=tasks.type_label(function, row.get("ground_truth")),
    # the published reward knows no conditions, and its rows may hold anything
    condition=NONE if config.mode == "paper" else conditions.of(row.get("extra_info"), place),
    task=task,
    verdict=given(row, "judge_score", place),
  )


def given(row: dict[str, Any], key: str, place: str) -> float | None:
  """The number that the row brings; NaN for null, None where it does not have the key.

  Raises BadInput, naming `place`, where it is no number.
  """
  return jsonl.number(row, key, place) if key in row else None
