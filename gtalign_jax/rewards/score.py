"""Completions to rewards: chains are read, the judge is asked, and the kernel of game/ is called once.

Host side, float64. The numeric rules are FORMULAS sections 2 (paper mode) and 3 (corrected mode).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.game import equilibrium, payoff, reward
from gtalign_jax.rewards import chain
from gtalign_jax.rewards.judges.base import Judge, Question, Scale
from gtalign_jax.rewards.read import Read, Reader
from gtalign_jax.rewards.rules import pareto
from gtalign_jax.rewards.summary import summarise
from gtalign_jax.rewards.tasks.base import Answer
from gtalign_jax.sections import RewardConfig
from gtalign_jax.types import CELLS, USER_TYPES, Array

__all__ = ["score_rows", "summarise"]

NAN = float("nan")
NOTHING = Answer(0.0, 0.0, 0.0)
PARETO_RUBRIC = """A matrix of payoffs has these Pareto-optimal cells (user type before the underscore, the \
assistant's action after it):
{truth}

An analyst wrote:
{response}

Does the analysis name an action of one of these cells as its choice? 1: it does, clearly. 0.5: only \
vaguely, or beside another action that it prefers. 0: it does not. Think briefly, then end with one line:
VERDICT: 1, VERDICT: 0.5 or VERDICT: 0"""
_PARETO_SCALE = Scale(0.0, 1.0)


def score_rows(
  rows: Sequence[dict[str, Any]],
  config: RewardConfig,
  judge: Judge,
  places: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
  """Scores rows {"id", "data_source", "completion", "ground_truth", "extra_info", …}, in order.

  Returns the columns of `gtalign score`, and what `summarise` and the report want besides: judge_score
  (the verdict used), named_cell, user_type, pareto, dilemma, equilibrium_gap. A row with the key
  judge_score (pareto_score) is not put to the judge. Invalid rows have None in every numeric column.
  places: how errors name each row. Raises BadInput for a malformed row or an unknown data_source.
  """
  reader = Reader(config)
  places = places or [f"row {row.get('id')!r}" for row in rows]
  read = [reader(row, place) for row, place in zip(rows, places, strict=True)]
  if not read:
    return []
  games = _games(read)
  verdicts, po = _ask(read, games, judge)
  answers = [
    _answer(each, verdict, config.mode) for each, verdict in zip(read, verdicts, strict=True)
  ]
  decision, choice, carried_out = _decisions(read, games, config.mode)
  terms = _terms(read, answers, decision, po, config)
  columns = [each.tolist() for each in (*terms, decision, choice, carried_out)]
  extras = [
    {"judge_score": verdict, **_play(each, games, row)}
    for row, (each, verdict) in enumerate(zip(read, verdicts, strict=True))
  ]
  return [
    _columns(row, each, answer, numbers, config.mode) | extra
    for row, each, answer, *numbers, extra in zip(
      rows, read, answers, *columns, extras, strict=True
    )
  ]


# ---------------------------------------------------------------- the judge


def _ask(read: Sequence[Read], games: _Games, judge: Judge) -> tuple[list[float | None], Array]:
  """(verdict of each row, po of each row); the judge sees all questions of the batch at once."""
  questions: list[Question] = []
  places: list[tuple[str, int]] = []
  for at, each in enumerate(read):
    if each.task and each.verdict is None:
      questions.append(each.task.question())
      places.append(("answer", at))
    if each.po is None and not each.zero:
      questions.append(_pareto_question(each, games.optimal(at)))
      places.append(("pareto", at))
  found = dict(zip(places, judge.judge(questions) if questions else [], strict=True))
  verdicts = [
    found.get(("answer", at)) if each.verdict is None else _number(each.verdict)
    for at, each in enumerate(read)
  ]
  po = [
    found.get(("pareto", at)) if each.po is None else _number(each.po)
    for at, each in enumerate(read)
  ]
  return verdicts, _array([each or 0.0 for each in po])


def _number(value: float) -> float | None:
  return None if math.isnan(value) else value


def _pareto_question(each: Read, optimal: str) -> Question:
  return Question(
    each.id, "pareto", "", optimal, each.analyze, _PARETO_SCALE, PARETO_RUBRIC, pareto.judge
  )


def _answer(each: Read, verdict: float | None, mode: str) -> Answer | None:
  """Credit of one row; None: no verdict (the row is invalid)."""
  if each.task is None:
    return NOTHING
  if mode == "paper":
    return each.task.answer(verdict or 0.0)
  if verdict is None or not each.task.scale.holds(verdict):
    return None
  return each.task.answer(verdict)


# ---------------------------------------------------------------- the game


class _Games(NamedTuple):
  """The rows with a matrix. row: index in the batch -> index here. Arrays are float64."""

  row: dict[int, int]
  payoff_BUAR: Array
  front: payoff.Front
  named: Array
  outcome: equilibrium.Outcome

  def optimal(self, at: int) -> str:
    """Pareto-optimal cells of a row of the batch, all cells in play."""
    mask_UA = payoff.pareto_mask(self.payoff_BUAR[self.row[at]])
    return ", ".join(cell for cell, kept in zip(CELLS, mask_UA.ravel(), strict=True) if kept)


def _games(read: Sequence[Read]) -> _Games:
  kept = [at for at, each in enumerate(read) if each.numbers is not None]
  payoff_BUAR: Any = chain.as_array([read[at].numbers or () for at in kept])
  user_type_B = _array([read[at].user_type for at in kept], int)
  named_B = _array([read[at].cell for at in kept], int)
  with np.errstate(all="ignore"):  # paper mode reads NaN and infinities
    front = payoff.front(payoff_BUAR, user_type_B)
    named = payoff.score_named(front, named_B, payoff_BUAR)
    outcome = equilibrium.outcome(payoff_BUAR)
  return _Games({at: index for index, at in enumerate(kept)}, payoff_BUAR, front, named, outcome)


def _decisions(read: Sequence[Read], games: _Games, mode: str) -> tuple[Array, Array, Array]:
  """(decision, choice, carried_out) of all rows; decision is pay in paper mode."""
  decision, choice, carried_out = _array([[0.0] * len(read)] * 3)
  kept = list(games.row)
  choice[kept] = games.named
  carried_out[kept] = [read[at].carried_out for at in kept]
  if mode != "paper":
    return reward.decision_score(choice, carried_out), choice, carried_out
  with np.errstate(all="ignore"):
    decision[kept] = reward.pay_score(games.payoff_BUAR)
  for at, each in enumerate(read):
    if not math.isnan(each.pay):
      decision[at] = each.pay
  return decision, choice, carried_out


def _array(values: Sequence[Any], dtype: type = float) -> Any:
  """NumPy, typed loosely: the kernels take NumPy and jax alike."""
  return np.array(values, dtype=dtype)


def _play(each: Read, games: _Games, at: int) -> dict[str, Any]:
  """What the chain's game says, for metrics and reports; None where there is no matrix."""
  index = games.row.get(at)
  facts = {
    "named_cell": CELLS[each.cell] if each.cell >= 0 else None,
    "user_type": USER_TYPES[each.user_type] if each.user_type >= 0 else None,
  }
  if index is None:
    return facts | {"pareto": None, "dilemma": None, "equilibrium_gap": None}
  gap = float(games.outcome.gap[index])
  return facts | {
    "pareto": bool(games.named[index] > 0),
    "dilemma": bool(games.outcome.dilemma[index]),
    "equilibrium_gap": gap if math.isfinite(gap) else None,
  }


# ---------------------------------------------------------------- the reward


def _terms(
  read: Sequence[Read],
  answers: Sequence[Answer | None],
  decision: Array,
  po: Array,
  config: RewardConfig,
) -> reward.Terms:
  none = Answer(NAN, NAN, NAN)
  user, llm, _ = _array([answer or none for answer in answers]).T
  column = lambda name: _array([getattr(each, name) for each in read])  # noqa: E731
  inputs = reward.Features(
    answer_user=user,
    answer_llm=llm,
    response_words=column("response_words"),
    completion_words=column("completion_words"),
    brief_chars=column("brief_chars"),
    format=column("format"),
    decision=decision,
    pareto=po,
  )
  terms = reward.terms(inputs, config, config.mode, config.variant)
  keep = 1.0 - column("zero")
  return reward.Terms(*(each * keep for each in terms))


def _columns(
  row: Mapping[str, Any],
  each: Read,
  answer: Answer | None,
  numbers: Sequence[float],
  mode: str,
) -> dict[str, Any]:
  """The columns of `gtalign score`."""
  user, llm, welfare, score, decision, choice, carried_out = numbers
  values: dict[str, Any] = {
    "score": score,
    "user_reward": user,
    "llm_reward": llm,
    "utility": welfare,
    "answer_reward": answer.reported if answer else None,
    "format": 0 if each.zero else each.format,
    "payoff_reward": 0.0 if each.zero else decision,
  }
  if mode != "paper":
    values |= {"decision": decision, "choice": choice, "carried_out": carried_out}
  if answer is None:
    values = dict.fromkeys(values)
  facts = {"parsed": each.error is None, "parse_error": each.error, "valid": answer is not None}
  return {"id": row.get("id")} | values | facts
