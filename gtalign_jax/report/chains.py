"""Sample chains for the report: the four blocks, and the payoff matrix with its marked cells."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

from gtalign_jax.game import payoff
from gtalign_jax.report.labels import ACTION_WORDS, TYPE_WORDS, label
from gtalign_jax.report.results import Row
from gtalign_jax.rewards import chain, features
from gtalign_jax.types import ACTIONS, USER_TYPES

SCORES = (
  ("utility", "utility"), ("U", "user_reward"), ("L", "llm_reward"), ("answer", "answer_reward"),
  ("decision", "decision"), ("choice", "choice"), ("carried out", "carried_out"),
)  # fmt: skip


def samples(rows: Mapping[str, Sequence[Row]], mode: str) -> str:
  """Three chains of the newest policy: highest, middle and lowest welfare among those that parse.

  rows: policy -> rows of `gtalign eval`, newest policy first. mode: how chains are read, strict or
  paper. Where fewer than three prompts have a chain that parses, others follow as they are, with
  the reason they were refused.
  """
  if not rows:
    return ""
  policy = next(iter(rows))
  picked = pick(rows[policy])
  note = (
    f"Of {html.escape(label(policy))}: the chains of highest, middle and lowest welfare among "
    "those that parse, one a prompt. The outlined cell is the one the analysis names; the rule's "
    "choice is the Pareto-optimal cell of largest sum for the user type that the chain declares."
  )
  articles = "".join(_article(title, row, mode) for title, row in picked)
  return f'<p class="soft">{note}</p>{articles}'


def pick(rows: Sequence[Row]) -> list[tuple[str, Row]]:
  """(title, row) of up to three rows of different prompts."""
  first: dict[str, Row] = {}  # each prompt's first parsed and scored completion
  other: dict[str, Row] = {}
  for row in rows:
    prompt = str(row["id"]).removesuffix(f"#{row.get('sample')}")
    good = row.get("parsed") and row.get("utility") is not None
    (first if good else other).setdefault(prompt, row)
  # by id where welfare ties, so that the same files give the same page
  ranked = sorted(first.values(), key=lambda row: (-row["utility"], str(row["id"])))
  titles = ("Highest welfare", "Middle welfare", "Lowest welfare")
  places = sorted({0, len(ranked) // 2, len(ranked) - 1}) if ranked else []
  found = [(titles[i], ranked[place]) for i, place in enumerate(places)]
  # a prompt whose other sample was fine is not shown as refused
  spare = [row for prompt, row in other.items() if prompt not in first]
  return found + [("Refused chain", row) for row in spare[: 3 - len(found)]]


def named_cell(read: chain.Chain) -> int | None:
  """Index of the cell that the analysis of a parsed chain names, None where it names none."""
  # a chain that was refused has no choice to speak of, whatever its analysis says
  cell = features.named_cell(read.analyze) if read.payoff is not None and read.analyze else -1
  return cell if cell >= 0 else None


def _article(title: str, row: Row, mode: str) -> str:
  read = chain.parse(row["completion"], mode)
  numbers = [(name, row.get(key)) for name, key in SCORES]
  # null where the judge gave no verdict, absent where the mode has no such term
  scores = [f"{name} {value:.3g}" for name, value in numbers if isinstance(value, (int, float))]
  source = html.escape(str(row.get("data_source", "")))
  head = f"<h3>{title} <span class='soft'>· {source}</span></h3>"
  head += f'<p class="soft">{html.escape(" · ".join(scores))}</p>'
  head += _block("prompt", question(row))
  if read.payoff is None:
    reason = row.get("parse_error") or read.error or "no reason given"
    return f"<article>{head}{_block(f'completion, refused: {reason}', row['completion'])}</article>"
  # words on the left; on the right the matrix, and what came of it
  left = _block("thinking", read.thinking) + _block("analyze", read.analyze)
  grid = matrix(read.payoff, named_cell(read), features.user_type(read.thinking or ""))
  right = f'<div class="block"><b>payoff</b>{grid}</div>' + _block("response", read.response)
  return f'<article>{head}<div class="chain"><div>{left}</div><div>{right}</div></div></article>'


def _block(name: str, text: str | None) -> str:
  return (
    f'<div class="block"><b>{html.escape(name)}</b>'
    f'<div class="text">{html.escape((text or "").strip())}</div></div>'
  )


def question(row: Row) -> str:
  """What the user last said to the assistant."""
  prompt = row.get("prompt")  # chat messages, or plain text in files of other tools
  if isinstance(prompt, Sequence) and not isinstance(prompt, str):
    said = [turn for turn in prompt if isinstance(turn, Mapping) and turn.get("role") == "user"]
    return str(said[-1].get("content", "")) if said else ""
  return str(prompt or "")


def matrix(payoff_UAR: np.ndarray, named: int | None, user_type: int) -> str:
  """The matrix as an HTML table; `named` (cell index or None) is outlined.

  user_type: 0 DQ, 1 VQ, -1 undeclared; decides which cells the rule chooses from.
  """
  choice = int(payoff.front(payoff_UAR[None], np.asarray([user_type])).choice[0])
  head = "".join(f'<th scope="col">{ACTION_WORDS[action]}</th>' for action in ACTIONS)
  lines = []
  for u, kind in enumerate(USER_TYPES):
    cells = "".join(_cell(payoff_UAR[u, a], 3 * u + a, named, choice) for a in range(len(ACTIONS)))
    lines.append(f'<tr><th scope="row">{TYPE_WORDS[kind]}</th>{cells}</tr>')
  rows = f'<tr><th scope="col">question</th>{head}</tr>{"".join(lines)}'
  return f'<div class="wide"><table class="matrix">{rows}</table></div>'


def _cell(pair_R: np.ndarray, cell: int, named: int | None, choice: int) -> str:
  tags = '<span class="tag n">named</span>' * (cell == named)
  tags += '<span class="tag r">rule\'s choice</span>' * (cell == choice)
  mark = ' class="named"' if cell == named else ""
  # :g writes the numbers as chains do, 3 and 2.5
  return f"<td{mark}>LLM {pair_R[0]:g}<br>user {pair_R[1]:g}{tags}</td>"
