"""Sample chains for the report: the four blocks, and the payoff matrix with its marked cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gtalign_jax.game import conditions, payoff
from gtalign_jax.report.labels import TYPE_WORDS
from gtalign_jax.report.results import Row
from gtalign_jax.rewards import chain, features
from gtalign_jax.types import BLOCKS, FORMS, GAME, USER_TYPES, has_payoff

SCORES = (
  ("W", "utility"), ("U", "user_reward"), ("L", "llm_reward"), ("answer", "answer_reward"),
  ("decision", "decision"), ("choice", "choice"), ("carried out", "carried_out"),
  ("regret", "regret"),
)  # fmt: skip
Tags = list[tuple[str, str]]  # (style, word) under the numbers of a cell
Matrix = list[tuple[str, list[dict[str, Any]]]]  # question type, its cells


def samples(rows: Sequence[Row], mode: str) -> list[dict[str, Any]]:
  """Three chains: highest, middle and lowest welfare among those that parse.

  rows: of `gtalign eval`, one policy's. mode: how chains are read, strict or paper. Where fewer
  than three prompts have a chain that parses, others follow as they are, with the reason they were
  refused.
  """
  return [head(title, row) | written(row, mode) for title, row in pick(rows)]


def written(row: Row, mode: str) -> dict[str, Any]:
  """The completion of a row as the page shows it; see `shown`."""
  reason = str(row.get("parse_error") or "") if row.get("parsed") is False else ""
  return shown(row["completion"], mode, reason, form_of(row))


def form_of(row: Row) -> str:
  """The form of a row's chains (`chain.form`)."""
  form = row.get("form")
  return form if form in tuple(FORMS) else GAME


def readable(rows: Sequence[Row]) -> list[Row]:
  """The rows that have a text to show: those of `gtalign score` have none."""
  return [row for row in rows if isinstance(row.get("completion"), str)]


def pick(rows: Sequence[Row]) -> list[tuple[str, Row]]:
  """(title, row) of up to three rows of different prompts."""
  first: dict[str, Row] = {}  # each prompt's first parsed and scored completion
  other: dict[str, Row] = {}
  for row in readable(rows):
    prompt = str(row.get("id")).removesuffix(f"#{row.get('sample')}")
    good = row.get("parsed") and row.get("utility") is not None
    (first if good else other).setdefault(prompt, row)
  # by id where welfare ties, so that the same files give the same page
  ranked = sorted(first.values(), key=lambda row: (-row["utility"], str(row.get("id"))))
  titles = ("Highest welfare", "Middle welfare", "Lowest welfare")
  places = sorted({0, len(ranked) // 2, len(ranked) - 1}) if ranked else []
  found = [(titles[i], ranked[place]) for i, place in enumerate(places)]
  # a prompt whose other sample was fine is not shown as refused
  spare = [row for prompt, row in other.items() if prompt not in first][: 3 - len(found)]
  return found + [("No verdict" if row.get("parsed") else "Refused chain", row) for row in spare]


def head(title: str, row: Row) -> dict[str, Any]:
  """What the page says above a sample, by the names that the template has for it."""
  numbers = [(name, row.get(key)) for name, key in SCORES]
  # null where the judge gave no verdict, absent where the mode has no such term
  scores = [f"{name} {value:.3g}" for name, value in numbers if isinstance(value, (int, float))]
  # what the request itself said of its reward: the numbers are by it
  said = conditions.of(row.get("extra_info"), str(row.get("id"))).label
  return {
    "title": title,
    "source": row.get("data_source", ""),
    "scores": [*scores, said] if said else scores,
    "question": _question(row).strip(),
  }


def _question(row: Row) -> str:
  """What the user last said to the assistant."""
  prompt = row.get("prompt")  # chat messages, or plain text in files of other tools
  if isinstance(prompt, Sequence) and not isinstance(prompt, str):
    said = [turn for turn in prompt if isinstance(turn, Mapping) and turn.get("role") == "user"]
    return str(said[-1].get("content", "")) if said else ""
  return str(prompt or "")


def shown(completion: str, mode: str, refused: str = "", form: str = GAME) -> dict[str, Any]:
  """A completion as the page shows it: blocks and `matrix`, or `refused` and the whole text.

  refused: why the run did not take a chain that reads well, "" where it did. matrix: None in forms
  that have none.
  """
  read, plays = chain.parse(completion, mode, form), has_payoff(form)
  if refused or (read.payoff is None if plays else read.error):
    reason = read.error or refused or "no reason given"
    return {"refused": reason, "completion": completion.strip()}
  texts = {key: (getattr(read, key) or "").strip() for key in BLOCKS if key != "payoff"}
  if read.payoff is None:
    return texts | {"matrix": None}
  return texts | {
    "matrix": matrix(read.payoff, named_cell(read), features.user_type(texts["thinking"]))
  }


def named_cell(read: chain.Chain) -> int | None:
  """Index of the cell that the analysis of a parsed chain names, None where it names none."""
  # a chain that was refused has no choice to speak of, whatever its analysis says
  cell = features.named_cell(read.analyze) if read.payoff is not None and read.analyze else -1
  return cell if cell >= 0 else None


def matrix(payoff_UAR: np.ndarray, named: int | None, user_type: int) -> Matrix:
  """The table of a chain's matrix.

  named: index of the cell that the chain names. user_type: 0 DQ, 1 VQ, -1 undeclared; decides which
  cells the rule chooses from.
  """
  choice = int(payoff.front(payoff_UAR[None], np.asarray([user_type])).choice[0])
  marks = ((named, ("named", "named")), (choice, ("rule", "rule's choice")))
  return table(payoff_UAR, [[tag for at, tag in marks if at == cell] for cell in range(6)])


def table(payoff_UAR: np.ndarray, tags: Sequence[Tags], form: str = "g") -> Matrix:
  """A matrix as the page shows it; tags: of each cell. No numbers where a cell is NaN."""
  cells = [
    # "g" writes the numbers as chains do, 3 and 2.5
    {"numbers": [] if np.isnan(llm) else [f"{llm:{form}}", f"{user:{form}}"], "tags": tag}
    for (llm, user), tag in zip(payoff_UAR.reshape(-1, 2), tags, strict=True)
  ]
  return [(TYPE_WORDS[kind], cells[3 * u : 3 * u + 3]) for u, kind in enumerate(USER_TYPES)]
