"""Does the matrix decide? What edits did in the evaluations of a run (rollout/intervene.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gtalign_jax.report import chains
from gtalign_jax.report.conversations import Table
from gtalign_jax.report.labels import ACTION_WORDS, label
from gtalign_jax.report.results import Report, Row
from gtalign_jax.rewards import chain
from gtalign_jax.rewards.summary import intervened, prompt_of
from gtalign_jax.rollout.edit import REST, STOP
from gtalign_jax.types import ACTIONS, CELLS

# of an evaluation's line in metrics.jsonl, and their heads
MEASURES = {
  "game/payoff_icc": "ICC", "game/type_accuracy": "type right", "game/sums_right": "sums right",
  "game/calibration_error/user": "error, user", "game/calibration_error/llm": "error, LLM",
}  # fmt: skip
EDITS = ("follow", "carry", "hold")


def table(report: Report) -> Table | None:
  """The measures of each policy's last evaluation; None where none had its matrices edited.

  Shares that an edit measures are given with their 95 % intervals, of prompts as trials.
  """
  last = {str(row.get("policy")): row for row in report.metrics if row["phase"] == "eval"}
  head, found = ["policy", *EDITS, "swaps", *MEASURES.values()], []
  for name in reversed(report.rows):
    rows = [row for row in report.rows[name] if _edit(row)]
    if not rows:
      continue
    measured = intervened(rows)
    shares = [
      f"{measured[each]:.2f} ({low:.2f} to {high:.2f})"
      for each in EDITS
      for low, high in [measured[f"{each}_interval"]]
    ]
    others = [last.get(name, {}).get(key) for key in MEASURES]
    shown = ["-" if value is None else f"{value:.2f}" for value in others]
    found.append([label(name), *shares, f"{measured['n']}", *shown])
  return (head, found) if found else None


def _edit(row: Row) -> Mapping[str, Any]:
  """The column of the row's edit; empty where there is none, or somebody has edited it to none."""
  found = row.get("intervention")
  if not isinstance(found, Mapping) or not isinstance(row.get("completion"), str):
    return {}
  placebo, sure = found.get("placebo"), [found.get(key) for key in ("chosen", "edited")]
  if not isinstance(placebo, list) or not all(each in CELLS for each in sure):
    return {}
  named = [found.get("own", ""), found.get("named", ""), *placebo]
  known = all(each in (None, *CELLS) for each in named)
  return found if known and found.get("action", "") in (None, *ACTIONS) else {}


def samples(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Up to three edited chains as the page shows them, of different prompts.

  One that followed and one that did not, where there are both: which is the rule, the table says.
  """
  found = [
    (prompt_of(row.get("id")), shown) for row in rows if _edit(row) and (shown := _sample(row))
  ]
  kept: dict[str, dict[str, Any]] = {}
  for kinds in ([True], [False], [True, False]):
    left = [each for each in found if each[0] not in kept and each[1]["followed"] in kinds]
    kept |= dict(left[:1])
  return list(kept.values())


def _sample(row: Row) -> dict[str, Any] | None:
  edit = _edit(row)
  own, after = _matrix(row["completion"]), _matrix(str(edit.get("completion")))
  if own is None or after is None:
    return None
  chosen, new, before, named = (edit[key] for key in ("chosen", "edited", "own", "named"))
  did = ACTION_WORDS.get(str(edit["action"]), "none of the three actions")
  return chains.head(f"{chosen} and {new} exchanged", row) | {
    "followed": named == new,
    "before": chains.table(own, _tags(named=before, rule=chosen)),
    "after": chains.table(after, _tags(named=named, rule=new)),
    "words": f"Named before: {before or 'no cell'}. Named after: {named or 'no cell'}; the edit "
    f"asks for {new}. The response then: {did}.",
    "responses": [_response(text) for text in (row["completion"], str(edit.get("completion")))],
  }


def _matrix(completion: str) -> Any:
  """payoff_UAR of the opening, whatever follows it; None where it cannot be read."""
  return chain.parse(completion[: completion.find(STOP) + len(STOP)] + REST).payoff


def _tags(named: str | None, rule: str) -> list[chains.Tags]:
  marks = ((named, ("named", "named")), (rule, ("rule", "rule's choice")))
  return [[tag for at, tag in marks if at == cell] for cell in CELLS]


def _response(completion: str) -> str:
  spans = chain.blocks(completion).spans
  return (chain.contents(completion, spans[-1]) or "").strip() or "no response"
