"""Conversations for the report: how they ended, and samples turn by turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gtalign_jax.report import chains
from gtalign_jax.report.labels import ACTION_WORDS, ENDED_WORDS, label
from gtalign_jax.report.results import Report, Row

Table = tuple[list[str], list[list[str]]]  # head, rows


def turns(row: Row) -> list[dict[str, Any]]:
  """The turns of a conversation; [] where the row is none, or somebody has edited it to none."""
  found = row.get("turns")
  if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
    return []
  return [each for each in found if isinstance(_text(each), str)]


def _text(turn: Mapping[str, Any]) -> Any:
  return turn.get("completion" if turn.get("role") == "assistant" else "content")


def table(report: Report) -> Table | None:
  """How long each policy's held-out conversations were and how they ended; None without any."""
  head, found = ["policy", "conversations", "turns", *ENDED_WORDS.values()], []
  for name in reversed(report.rows):
    talks = [row for row in report.rows[name] if turns(row)]
    if talks:
      mean = sum(_length(row) for row in talks) / len(talks)
      count = Counter(str(row.get("ended")) for row in talks)
      shares = [f"{100 * count[each] / len(talks):.0f} %" for each in ENDED_WORDS]
      found.append([label(name), str(len(talks)), f"{mean:.2f}", *shares])
  return (head, found) if found else None


def _length(row: Row) -> int:
  """Turns of the assistant."""
  return sum(turn.get("role") == "assistant" for turn in turns(row))


def samples(rows: Sequence[Row], mode: str) -> list[dict[str, Any]]:
  """Up to three conversations as the page shows them: highest, middle and lowest welfare.

  Those with a reply of the user come first; without any, others follow. mode: how chains are read.
  """
  talks = [row for row in rows if turns(row)]
  answered_back = [row for row in talks if _length(row) > 1]
  return [_sample(title, row, mode) for title, row in chains.pick(answered_back or talks)]


def _sample(title: str, row: Row, mode: str) -> dict[str, Any]:
  intent, ended = row.get("intent"), str(row.get("ended"))
  return chains.head(title, row) | {
    "intent": str(intent.get("text", "")) if isinstance(intent, Mapping) else "",
    "ended": ENDED_WORDS.get(ended, ended),
    "turns": shown_turns(row, mode),
  }


def shown_turns(row: Row, mode: str) -> list[dict[str, Any]]:
  """The turns of a conversation as the page shows them; [] where the row is none."""
  return [_turn(turn, mode, chains.form_of(row)) for turn in turns(row)]


def _turn(turn: Mapping[str, Any], mode: str, form: str) -> dict[str, Any]:
  """A turn of the assistant as its chain, one of the user as `said`."""
  if turn.get("role") != "assistant":
    return {"said": turn["content"].strip()}
  # null where the rollout could read no response; a response may stand in a chain that is refused
  said = turn.get("response", "")
  refused = "" if said is not None else "no response"
  found = chains.shown(turn["completion"], mode, refused, form)
  did = ACTION_WORDS.get(str(turn.get("action")))
  return {"response": said} | found | {"action": f": {did}" if did else ""}
