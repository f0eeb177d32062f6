"""Prompt records: one row of any source, checked, in one shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gtalign_jax.data.plain import plain
from gtalign_jax.errors import BadInput
from gtalign_jax.game import conditions

ROLES = ("system", "user", "assistant")
# the columns that a record is made of; what else a file holds (images, embeddings) is not read
COLUMNS = (
  "id", "data_source", "prompt", "messages", "reward_model", "ground_truth", "extra_info",
)  # fmt: skip


class Record(NamedTuple):
  """One prompt.

  id: stable and unique, `<source>/<split>/<row>` unless the row brings its own.
  messages: the row's prompt field, list of {"role", "content"}; the last one is the user's.
  ground_truth: None where the row has none. extra_info: JSON-ready dict of the row, {} if absent.
  """

  id: str
  data_source: str
  messages: list[dict[str, str]]
  ground_truth: str | None
  extra_info: dict[str, Any]


def from_row(
  row: Mapping[str, Any], where: str, fallback_id: str, replaced: list[str] | None = None
) -> Record:
  """Reads a row of the released schema, of `gtalign generate`, or chat messages and data_source.

  The one border of prompts: whatever brought the row, a record holds JSON-ready values (data/plain)
  and texts that UTF-8 can carry. where: file and row, for the message. replaced: gets `where` if
  characters had to be replaced. Raises BadInput on a row that breaks the schema.
  """
  changed: list[str] = []
  try:
    row = {key: plain(row[key], changed) for key in COLUMNS if key in row}
  except BadInput as error:
    raise BadInput(f"{where}: the row {error}") from None
  if changed and replaced is not None:
    replaced.append(where)
  source = row.get("data_source")
  if not isinstance(source, str) or not source:
    raise BadInput(f"{where}: data_source={_short(source)} must be a non-empty string")
  key = "prompt" if row.get("prompt") is not None else "messages"
  extra = row.get("extra_info")
  if extra is None:
    extra = {}
  if not isinstance(extra, dict):
    raise BadInput(f"{where}: extra_info must be an object, got {type(extra).__name__}")
  if extra.get("chat_history"):
    extra["chat_history"] = _messages(extra["chat_history"], f"{where}: extra_info.chat_history")
  conditions.of(extra, where)  # raises where it is none
  return Record(
    id=_id(row.get("id"), where, fallback_id),
    data_source=source,
    messages=_messages(row.get(key), f"{where}: {key}"),
    ground_truth=_ground_truth(row, extra, where),
    extra_info=extra,
  )


def fingerprint(records: Iterable[Record]) -> str:
  """Hash of everything that the records say, in their order."""
  found = hashlib.sha256()
  for record in records:
    # sorted: the order of keys is the file format's, and says nothing
    found.update(json.dumps(record, sort_keys=True).encode() + b"\n")
  return found.hexdigest()[:16]


def _short(value: Any) -> str:
  """A value in an error's line: as Python writes it, cut."""
  text = repr(value)
  return text if len(text) <= 60 else text[:60] + "…"


def _id(value: Any, where: str, fallback: str) -> str:
  if value is None:
    return fallback
  value = _whole(value)
  # a boolean is an instance of int; the id "True" would be an accident
  if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
    raise BadInput(f"{where}: id={_short(value)} must be a non-empty string or a whole number")
  return str(value)


def _whole(value: Any) -> Any:
  """2 for 2.0: a column of whole numbers with gaps is a column of floats to pandas."""
  if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
    return int(value)
  return value


def _messages(value: Any, where: str) -> list[dict[str, str]]:
  """A chat of plain texts. Raises BadInput where a turn has no known role or no text."""
  if not isinstance(value, list) or not value:
    raise BadInput(
      f'{where} must be a non-empty list of {{"role", "content"}}, not {_short(value)}'
    )
  chat = [_message(message, f"{where}[{index}]") for index, message in enumerate(value)]
  # the turn may be empty: rows of the released prompts are, and saying nothing is vague indeed
  if chat[-1]["role"] != "user":
    raise BadInput(f"{where} must end with the user's turn, not the {chat[-1]['role']}'s")
  return chat


def _message(message: Any, where: str) -> dict[str, str]:
  if not isinstance(message, dict):
    raise BadInput(f'{where}={_short(message)} must be an object {{"role", "content"}}')
  role, content = message.get("role"), message.get("content")
  if role not in ROLES:
    raise BadInput(f"{where}: role={_short(role)} is not one of {', '.join(ROLES)}")
  if isinstance(content, list):
    content = "".join(_part(part, where) for part in content)
  if not isinstance(content, str):
    raise BadInput(f"{where}: content={_short(content)} must be a text or a list of text parts")
  return {"role": role, "content": content}


def _part(part: Any, where: str) -> str:
  """The text of one part of a content in parts, as chats with images have it."""
  text = part.get("text") if isinstance(part, dict) else part
  if not isinstance(text, str) or (isinstance(part, dict) and part.get("type", "text") != "text"):
    raise BadInput(f"{where}: the content's part {_short(part)} is not of type text; leave it out")
  return text


def _ground_truth(row: Mapping[str, Any], extra: Mapping[str, Any], where: str) -> str | None:
  reward_model = row.get("reward_model")
  if reward_model is not None and not isinstance(reward_model, dict):
    raise BadInput(f"{where}: reward_model must be an object with ground_truth")
  # the released schema, then `gtalign generate`'s rows, then what conversions of others have made
  for holder in (reward_model or {}, row, extra):
    value = holder.get("ground_truth")
    if value is None:
      continue
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
      raise BadInput(
        f"{where}: ground_truth={_short(value)} must be a text or a number; write one label"
      )
    return str(_whole(value))  # labels are text everywhere: 42 and "42" are one answer
  return None
