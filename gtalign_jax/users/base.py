"""What a user is told, and how it reacts: it says something, leaves, or gives no answer."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple


class Talk(NamedTuple):
  """A conversation in which it is the user's turn.

  id: of the row. intent: what only the user knows (`extra_info.intent`), None where the record has
  none. messages: {"role", "content"}; of the assistant the responses alone, as no user sees the
  reasoning. The last one is the assistant's. opening: so many of them are the record's own chat,
  which ends with the user's request.
  """

  id: str
  data_source: str
  intent: dict[str, Any] | None
  messages: list[dict[str, str]]
  opening: int = 1

  def said(self, role: str) -> list[str]:
    """What the user or the assistant has said since the request."""
    return [each["content"] for each in self.messages[self.opening :] if each["role"] == role]

  @property
  def request(self) -> str:
    """All that the user has said up to the request."""
    before = self.messages[: self.opening]
    return "\n".join(each["content"] for each in before if each["role"] == "user")


class Said(NamedTuple):
  """The user's next message; never blank."""

  text: str


class Ending(enum.Enum):
  """How a conversation ends with the user."""

  LEFT = "left"  # the user is content, or has had enough
  NO_ANSWER = "no answer"  # the user failed: the conversation is invalid, whatever was said in it


LEFT, NO_ANSWER = Ending.LEFT, Ending.NO_ANSWER
Reaction = Said | Ending


class User:
  """Answers assistants; holds what it needs (a connection, a cache, a log) until closed."""

  def reply(self, talk: Talk) -> Reaction:
    """The reaction to one talk."""
    return self.replies([talk])[0]

  def replies(self, talks: Sequence[Talk]) -> list[Reaction]:
    """A reaction to each talk, in order; a function of the talk and the config, not of the batch.

    Does not raise for a user that fails (NO_ANSWER). Raises RunFailure where an endpoint would
    refuse every talk (a wrong key, a parameter).
    """
    raise NotImplementedError

  def ends(self, data_source: str) -> bool:
    """Whether nobody answers for this source: its conversations end after the first turn."""
    return False

  def statistics(self) -> dict[str, float]:
    """Metrics `user/…` since the last call; {} where nothing was measured."""
    return {}

  def close(self) -> None:
    """Gives back connections and files."""
