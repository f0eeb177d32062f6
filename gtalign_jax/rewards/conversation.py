"""Rows of conversations: what must stand in them, and what scoring takes from them.

FORMULAS section 9. A row is a conversation if it has `turns`; its completion is the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gtalign_jax.errors import BadInput
from gtalign_jax.types import ACTIONS

SPEAKERS = ("assistant", "user")  # who speaks, by turns
# the last response asks nothing; the user went; a chain shows no response; the turns are used up;
# the user failed
ENDED = ("answered", "left", "unreadable", "turns", "invalid")


class Conversation(NamedTuple):
  """later: the assistant's turns after the first, with the columns of a completion.

  ended: one of ENDED. meant: the user's intent, None where the record has none.
  """

  later: tuple[Mapping[str, Any], ...]
  ended: str
  meant: dict[str, Any] | None


def of(row: Mapping[str, Any], mode: str, place: str) -> Conversation | None:
  """The conversation of a row; None for a plain row (no `turns`, or null).

  Raises BadInput, naming `place`, where a field of it is malformed or contradicts another, and in
  paper mode, which has no conversations.
  """
  turns = row.get("turns")
  if turns is None:
    return None
  if mode == "paper":
    raise BadInput(
      f"{place}: turns: rewards.mode='paper' scores no conversations; take corrected, or leave "
      "turns out to score the first response alone"
    )
  if not isinstance(turns, (list, tuple)) or not turns:
    raise BadInput(f"{place}: turns={_shown(turns)} must be a list of turns, or null")
  for at, turn in enumerate(turns):
    _check_turn(turn, SPEAKERS[at % 2], f"{place}: turns[{at}]")
  said = tuple(turns[::2])
  if said[0]["completion"] != row.get("completion"):
    raise BadInput(f"{place}: turns[0].completion must be the completion of the row")
  count = row.get("n_turns")
  if count is not None and not (_is_count(count) and count == len(said)):
    raise BadInput(f"{place}: n_turns={_shown(count)} must be {len(said)}, as turns has them")
  if row.get("ended") not in ENDED:
    raise BadInput(f"{place}: ended={_shown(row.get('ended'))} must be one of {', '.join(ENDED)}")
  return Conversation(said[1:], row["ended"], _intent(row, place))


def _check_turn(turn: Any, role: str, where: str) -> None:
  if not isinstance(turn, Mapping):
    raise BadInput(f"{where}={_shown(turn)} must be an object with role and text")
  if turn.get("role") != role:
    raise BadInput(
      f"{where}.role={_shown(turn.get('role'))} must be {role}: assistant and user take turns, the "
      "assistant first"
    )
  text = "completion" if role == "assistant" else "content"
  if not isinstance(turn.get(text), str):
    raise BadInput(f"{where}.{text}={_shown(turn.get(text))} must be text")
  for key, (rule, holds) in _READ_BY_OTHERS.items() if role == "assistant" else ():
    if turn.get(key) is not None and not holds(turn[key]):
      raise BadInput(f"{where}.{key}={_shown(turn[key])} must be {rule}, or null")


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# fields of the assistant's turns that may be absent: scoring reads the completion itself
_READ_BY_OTHERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
  "response": ("text", _is_text),
  "finish_reason": ("text", _is_text),
  "action": (" or ".join(ACTIONS), lambda value: value in ACTIONS),
  "completion_tokens": ("an integer of at least 0", _is_count),
  "control_tokens": ("an integer of at least 0", _is_count),
}


def _intent(row: Mapping[str, Any], place: str) -> dict[str, Any] | None:
  """extra_info.intent, else the column `intent`."""
  extra = row.get("extra_info")
  found = extra.get("intent") if isinstance(extra, dict) else None
  found = row.get("intent") if found is None else found
  if found is None:
    return None
  if not isinstance(found, dict):
    raise BadInput(f"{place}: intent={_shown(found)} must be an object, or null")
  # what the built-in tasks read of it
  read = {"meaning": ("text", "answer"), "statement": ("text",)}
  for key in read.get(str(found.get("kind")), ()):
    if not isinstance(found.get(key), str):
      raise BadInput(f"{place}: intent.{key}={_shown(found.get(key))} must be text")
  return found


def _shown(value: Any) -> str:
  return repr(value[:40] if isinstance(value, str) else value)[:60]
