"""The user that replays a file of replies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.users.base import LEFT, NO_ANSWER, Reaction, Said, Talk, User


class RecordedUser(User):
  """Reads JSON lines {"id", "turn", "content"}.

  id: of the row ("…#0", of the first sample), or of the record for all its samples. turn: from 1
  on, which response is answered. content: what the user says, null where the user leaves. What the
  file does not hold is no answer. Raises BadInput, naming file and
  line, where a line is none of these, or says again what another one has said.
  """

  def __init__(self, log: str | Path):
    self._said: dict[tuple[str, int], Reaction] = {}
    for number, row in jsonl.read(log):
      where = f"{log}:{number}"
      key = _key(row, where)
      if key in self._said:
        raise BadInput(f"{where}: id={key[0]!r}, turn={key[1]} stands there twice; drop one line")
      self._said[key] = _reaction(row, where)

  def replies(self, talks: Sequence[Talk]) -> list[Reaction]:
    return [self._reply(talk) for talk in talks]

  def _reply(self, talk: Talk) -> Reaction:
    turn, of_all = len(talk.said("assistant")), talk.id.rpartition("#")[0]
    return self._said.get((talk.id, turn)) or self._said.get((of_all, turn), NO_ANSWER)


def _key(row: dict[str, object], where: str) -> tuple[str, int]:
  name, turn = row.get("id"), row.get("turn")
  if isinstance(name, bool) or not isinstance(name, (str, int)):
    raise BadInput(f"{where}: id={str(name)[:40]!r} must be the id of a row or a record")
  if isinstance(turn, bool) or not isinstance(turn, int) or turn < 1:
    raise BadInput(f"{where}: turn={str(turn)[:40]!r} must be a whole number from 1 on")
  return str(name), turn


def _reaction(row: dict[str, object], where: str) -> Reaction:
  content = row.get("content", "")
  if content is None:
    return LEFT
  if not isinstance(content, str) or not content.strip():
    raise BadInput(f"{where}: content={str(content)[:40]!r} must be a text, or null to leave")
  return Said(content)
