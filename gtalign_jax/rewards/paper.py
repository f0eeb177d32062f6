"""Paper mode: what scoring does otherwise to reproduce the published runs (FORMULAS section 2).

`score.score_rows` comes here three times: for each row that is read, for the terms of the reward,
and for the columns. How the mode can be gamed: docs/paper_vs_corrected.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, paper_text
from gtalign_jax.rewards.games import Games, array
from gtalign_jax.rewards.judges.base import Judge, Question, Scale
from gtalign_jax.rewards.read import Reading, given
from gtalign_jax.rewards.rules import pareto
from gtalign_jax.rewards.tasks.base import NOTHING, Answer
from gtalign_jax.types import Array

PARETO_RUBRIC = """A matrix of payoffs has these Pareto-optimal cells (user type before the \
underscore, the assistant's action after it):
{truth}

An analyst wrote:
{response}

Does the analysis name an action of one of these cells as its choice? 1: it does, clearly. 0.5: \
only vaguely, or beside another action that it prefers. 0: it does not. Think briefly, then end \
with one line:
VERDICT: 1, VERDICT: 0.5 or VERDICT: 0"""
_PARETO_SCALE = Scale(0.0, 1.0)


def words(text: str) -> int:
  """Words separated by white space; a Chinese sentence is one."""
  return len(text.split())


def reread(reading: Reading, row: dict[str, Any], config: RewardConfig, place: str) -> Reading:
  """The row as paper mode counts it. A row with an error gets nothing and is not judged.

  Raises BadInput where the pareto variant finds a pareto_score that is no number.
  """
  text = row["completion"]
  if config.variant == "pareto":
    given(row, "pareto_score", place)  # checked here: before the judge is asked, and paid
  error = _error(reading, config.variant)
  return reading._replace(
    format=0 if error else reading.format,
    error=error,
    # what stands before the first tag counts, even if that tag is a decoy at the start of thinking
    brief_chars=float(max(text.find("<response>"), 0)),
    task=None if error else reading.task,
  )


def _error(reading: Reading, variant: str) -> str | None:
  if reading.numbers is None:
    return reading.error
  if variant == "pareto" and reading.spans[2] is None:
    return "missing_block"
  if all(type(each) is float for each in reading.numbers):
    return None  # nearly always: only integers are of any size
  # the sum of an integer that no float holds and a float raises in the released code, which then
  # gives the row up
  return "payoff_value" if paper_text.pay(reading.numbers) is None else None


def answer(reading: Reading, verdict: float | None) -> Answer:
  """Credit of one row; no verdict counts as 0, as there."""
  found = reading.task.answer(verdict or 0.0) if reading.task else NOTHING
  return found or NOTHING


def pay(readings: Sequence[Reading]) -> Array:
  """pay of each row [B], the term that corrected mode replaces by the decision score."""
  return array([paper_text.pay(each.numbers or ()) or 0.0 for each in readings])


def pareto_scores(
  rows: Sequence[dict[str, Any]], readings: Sequence[Reading], games: Games, judge: Judge
) -> Array:
  """po of each row [B], for the pareto variant: as the row brings it, else the judge's, else 0."""
  # after the first judge, in a batch of its own; rows that get nothing are not put to either
  asked = [
    at
    for at, (row, each) in enumerate(zip(rows, readings, strict=True))
    if "pareto_score" not in row and not each.error
  ]
  questions = [_pareto_question(rows[at], readings[at], games.optimal(at)) for at in asked]
  said = dict(zip(asked, judge.judge(questions) if questions else [], strict=True))
  return array([said.get(at) or row.get("pareto_score") or 0.0 for at, row in enumerate(rows)])


def _pareto_question(row: dict[str, Any], reading: Reading, optimal: str) -> Question:
  analysis = chain.contents(row["completion"], reading.spans[2]) or ""
  return Question(
    reading.id, "pareto", "", optimal, analysis, _PARETO_SCALE, PARETO_RUBRIC, pareto.judge
  )


_UNKNOWN = ("decision", "choice", "carried_out", "outcome_welfare")
_REWARD = (
  "score", "user_reward", "llm_reward", "utility", "answer_reward", "format", "payoff_reward",
)  # fmt: skip


def columns(scored: dict[str, Any]) -> dict[str, Any]:
  """The columns of one row: none for what the mode does not know; 0 where it gives nothing."""
  kept = {key: value for key, value in scored.items() if key not in _UNKNOWN}
  if scored["parse_error"]:
    kept |= {key: type(kept[key])(0) for key in _REWARD}  # format stays an integer
  return kept
