"""Completions to rewards: chains are read, the judge is asked, and the kernel of game/ runs once.

Host side, float64. The rules are FORMULAS section 3; what paper mode (section 2) does otherwise is
in paper.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gtalign_jax.game import reward
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import paper, requests, truth
from gtalign_jax.rewards.games import array, games_of
from gtalign_jax.rewards.judges.base import Judge
from gtalign_jax.rewards.read import Reading, read
from gtalign_jax.rewards.summary import summarise
from gtalign_jax.rewards.tasks.base import NOTHING, Answer
from gtalign_jax.types import GAME, Array, has_payoff

__all__ = ["score_rows", "summarise"]

# columns of what chains decide by their matrix: None in forms that have none
DECIDED = ("payoff_reward", "decision", "choice", "carried_out")
NO_VERDICT = Answer(math.nan, math.nan, math.nan)


def score_rows(
  rows: Sequence[dict[str, Any]],
  config: RewardConfig,
  judge: Judge,
  places: Sequence[str] | None = None,
  form: str = GAME,
) -> list[dict[str, Any]]:
  """Scores rows {"id", "data_source", "completion", "ground_truth", "extra_info", …}, in order.

  Returns the columns of `gtalign score`, and what `summarise` and the report want besides: alpha
  (where the request has its own), judge_score (the verdict used), named_cell, user_type, type_label
  (of the record), action (that the response does), pareto, dilemma, equilibrium_gap, payoff (twelve
  finite numbers), sums (how many of analyze are right, and how many it states). A row with the key
  judge_score (pareto_score) is not put to the judge. Invalid rows have None in every numeric
  column. A row with `turns` is a conversation (conversation.py): its last response is judged, it
  has the columns n_turns and ended, and what is said of an action or a matrix is said of the first
  turn. A row with `true_payoffs` has the columns of truth.py. places: how errors name each row.
  form: of the chains; another than game is a column as well, and DECIDED are None without a matrix.
  Raises BadInput for a malformed row, an unknown data_source, or a label that its task does not
  know.
  """
  if not rows:
    return []
  paper_mode, config = config.mode == "paper", config.in_form(form)
  places = places or [f"row {row.get('id')!r}" for row in rows]
  readings = [_read(row, config, place, form) for row, place in zip(rows, places, strict=True)]
  # the published reward knows no true payoffs, and its rows may hold anything
  true = [None if paper_mode else truth.of(*each) for each in zip(rows, places)]
  request = requests.of(rows, readings, config, places)  # a bad row must not cost verdicts
  games = games_of(readings)
  verdicts = _verdicts(readings, judge)
  answer = paper.answer if paper_mode else _answer
  answers = [answer(*each) for each in zip(readings, verdicts, strict=True)]
  choice, carried_out = games.choices(readings)
  decision = paper.pay(readings) if paper_mode else reward.decision_score(choice, carried_out)
  features = _features(readings, answers, decision)
  if config.variant == "pareto":
    features = features._replace(pareto=paper.pareto_scores(rows, readings, games, judge))
  terms = reward.terms(features, config, config.mode, config.variant, request)
  outcome = reward.outcome(features, config, request.patience_BR)
  numbers = array([*terms, decision, choice, carried_out, outcome]).T.tolist()
  known = truth.columns(true, readings, config)
  of_form: dict[str, Any] = {} if form == GAME else {"form": form}
  of_form |= {} if has_payoff(form) else dict.fromkeys(DECIDED)
  scored = [
    _columns(*each)
    | of_form
    | requests.columns(readings[at])
    | {"judge_score": verdict}
    | games.facts(at, readings[at])
    | (known[at] if answers[at] else dict.fromkeys(known[at]))
    for at, (verdict, *each) in enumerate(zip(verdicts, rows, readings, answers, numbers))
  ]
  return [paper.columns(each) for each in scored] if paper_mode else scored


def _read(row: dict[str, Any], config: RewardConfig, place: str, form: str) -> Reading:
  if config.mode == "paper":
    return paper.reread(read(row, config, place, paper.words), row, config, place)
  return read(row, config, place, form=form)


def _verdicts(readings: Sequence[Reading], judge: Judge) -> list[float | None]:
  """The verdict of each row, None: no verdict."""
  verdicts = [
    None if each.verdict is None or math.isnan(each.verdict) else each.verdict for each in readings
  ]
  asked = {
    at: question
    for at, each in enumerate(readings)
    if each.task and each.verdict is None and (question := each.task.question())
  }
  # the whole batch at once: an endpoint answers many questions in the time of one
  for at, verdict in zip(asked, judge.judge(list(asked.values())) if asked else [], strict=True):
    verdicts[at] = verdict
  return verdicts


def _answer(reading: Reading, verdict: float | None) -> Answer | None:
  """Credit of one row; None: no verdict (the row is invalid)."""
  if reading.task is None:
    return None if reading.ended == "invalid" else NOTHING
  # a verdict off the scale is a misread one; clipped, it would be a made-up verdict
  if verdict is None or not reading.task.scale.holds(verdict):
    return None
  return reading.task.answer(verdict)


def _features(
  readings: Sequence[Reading], answers: Sequence[Answer | None], decision: Array
) -> reward.Features:
  user, llm, _ = array([answer or NO_VERDICT for answer in answers]).T

  def column(name: str) -> Array:
    return array([getattr(each, name) for each in readings])

  return reward.Features(
    answer_user=user,
    answer_llm=llm,
    response_words=column("response_words"),
    completion_words=column("completion_words"),
    brief_chars=column("brief_chars"),
    format=column("format"),
    decision=decision,
  )


def _columns(
  row: Mapping[str, Any], reading: Reading, answer: Answer | None, numbers: Sequence[float]
) -> dict[str, Any]:
  """Columns of a scored row. numbers: U, L, W, score, decision and its halves, outcome welfare."""
  user, llm, welfare, score, decision, choice, carried_out, outcome = numbers
  values: dict[str, Any] = {
    "score": score,
    "user_reward": user,
    "llm_reward": llm,
    "utility": welfare,
    "answer_reward": answer.reported if answer else None,
    "format": reading.format,
    "payoff_reward": decision,  # pay in paper mode; d stands in its place, under its name
    "decision": decision,
    "choice": choice,
    "carried_out": carried_out,
    "outcome_welfare": outcome,
  }
  if answer is None:
    # null, not NaN: JSON has no NaN, and a mean over such a column must not go through
    values = dict.fromkeys(values)
  facts = {
    "parsed": reading.error is None,
    "parse_error": reading.error,
    "valid": answer is not None,
  }
  return {"id": row.get("id")} | values | facts
