"""One row of completions, read: its chain, its lengths, its task, and the verdicts that it brings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.rewards import chain, features, payoffs, tasks
from gtalign_jax.rewards.tasks.base import Example, Task
from gtalign_jax.sections import RewardConfig


class Read(NamedTuple):
  """A row as `score_rows` needs it.

  zero: paper mode gives the row nothing, and the judge is not asked. task: None where there is no
  response to judge. verdict, po: as the row brings them (NaN: no verdict), or None: to be asked.
  pay: paper mode's pay where float64 cannot tell it, else NaN. brief_chars: NaN where brief is 0.
  cell, user_type: -1 where none is named.
  """

  id: str
  numbers: payoffs.Numbers | None
  format: int
  error: str | None
  zero: bool
  analyze: str
  response_words: int
  completion_words: int
  brief_chars: float
  pay: float
  cell: int
  user_type: int
  carried_out: float
  task: Task | None
  verdict: float | None
  po: float | None


class Reader:
  """Reads rows under one config; task functions are looked up once a source."""

  def __init__(self, config: RewardConfig):
    self.config = config
    self.paper = config.mode == "paper"
    self._functions: dict[str, tasks.TaskFunction] = {}

  def __call__(self, row: dict[str, Any], place: str) -> Read:
    """Reads one row. Raises BadInput, naming `place`, where the row itself is malformed."""
    text, function = self._checked(row, place)
    found = chain.blocks(text, "paper" if self.paper else "strict")
    thinking = chain.contents(text, found.spans[0])
    analyze = chain.contents(text, found.spans[2])
    response = chain.contents(text, found.spans[3])
    lost, pay = self._paper_only(found, analyze) if self.paper else (None, math.nan)
    task = None
    if response is not None and not lost:
      task = function(self._example(row, response, place))
    cell = features.named_cell(analyze or "")
    limits = self.config.cq_max_words, self.config.aq_min_words
    count = _words if self.paper else features.words
    before_response = float(max(text.find("<response>"), 0))
    return Read(
      id=str(row.get("id")),
      numbers=found.numbers,
      format=0 if lost else found.format,
      error=lost or found.error,
      zero=lost is not None,
      analyze=analyze or "",
      response_words=count(response or ""),
      completion_words=count(text),
      brief_chars=before_response if self.paper else features.brief_chars(thinking, analyze),
      pay=pay,
      cell=cell,
      user_type=features.user_type(thinking or ""),
      carried_out=features.carried_out(cell, response or "", *limits),
      task=task,
      verdict=_given(row, "judge_score", place),
      po=_given(row, "pareto_score", place) if self.config.variant == "pareto" else 0.0,
    )

  def _paper_only(self, found: chain.Blocks, analyze: str | None) -> tuple[str | None, float]:
    """(why paper mode gives the row nothing, or None; pay where float64 cannot tell it, or NaN)."""
    if found.numbers is None:
      return found.error, math.nan
    if self.config.variant == "pareto" and analyze is None:
      return "missing_block", math.nan
    if payoffs.plain(found.numbers):
      return None, math.nan
    pay = payoffs.pay(found.numbers)
    return ("payoff_value", math.nan) if pay is None else (None, pay)

  def _checked(self, row: dict[str, Any], place: str) -> tuple[str, tasks.TaskFunction]:
    for key in ("completion", "data_source"):
      if not isinstance(row.get(key), str):
        raise BadInput(f"{place}: {key}={str(row.get(key))[:40]!r} must be text")
    source = row["data_source"]
    if source not in self._functions:
      try:
        self._functions[source] = tasks.find(source, self.config.tasks)
      except BadInput as error:
        raise BadInput(f"{place}: {error}") from None
    return row["completion"], self._functions[source]

  def _example(self, row: dict[str, Any], response: str, place: str) -> Example:
    extra = row.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    return Example(
      id=str(row.get("id")),
      data_source=row["data_source"],
      asked=_asked(row, extra),
      response=response,
      ground_truth=row.get("ground_truth"),
      extra_info=extra,
      mode=self.config.mode,
      where=place,
    )


def _words(text: str) -> int:
  return len(text.split())


def _given(row: dict[str, Any], key: str, place: str) -> float | None:
  return jsonl.number(row, key, place) if key in row else None


def _asked(row: dict[str, Any], extra: Mapping[str, Any]) -> str:
  """The user's intent in full where the row has it, else the last thing that the user said."""
  if isinstance(extra.get("single_turn_prompt"), str):
    return extra["single_turn_prompt"]
  for messages in (extra.get("chat_history"), row.get("prompt")):
    if isinstance(messages, (list, tuple)):
      for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == "user":
          return str(message.get("content") or "")
  return ""
