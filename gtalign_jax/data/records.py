"""Prompt records: one row of any source, checked, in one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gtalign_jax.errors import BadInput

ROLES = ("system", "user", "assistant")


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


def from_row(row: Mapping[str, Any], where: str, fallback_id: str) -> Record:
  """Reads a row of the released schema, of `gtalign generate`, or chat messages and data_source.

  where: file and row, for the message. Raises BadInput on a row that breaks the schema.
  """
  source = row.get("data_source")
  if not isinstance(source, str) or not source:
    raise BadInput(f"{where}: data_source={source!r} must be a non-empty string")
  key = "prompt" if row.get("prompt") is not None else "messages"
  extra = row.get("extra_info")
  if extra is None:
    extra = {}
  if not isinstance(extra, Mapping):
    raise BadInput(f"{where}: extra_info must be an object, got {type(extra).__name__}")
  extra = dict(extra)  # a row of the caller's is not written into
  if extra.get("chat_history"):
    extra["chat_history"] = _messages(extra["chat_history"], f"{where}: extra_info.chat_history")
  return Record(
    id=_id(row.get("id"), where, fallback_id),
    data_source=source,
    messages=_messages(row.get(key), f"{where}: {key}"),
    ground_truth=_ground_truth(row, extra, where),
    extra_info=extra,
  )


def _id(value: Any, where: str, fallback: str) -> str:
  if value is None:
    return fallback
  # a boolean is an instance of int; the id "True" would be an accident
  if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
    raise BadInput(f"{where}: id={value!r} must be a non-empty string or a whole number")
  return str(value)


def _messages(value: Any, where: str) -> list[dict[str, str]]:
  if not isinstance(value, (list, tuple)) or not value:
    raise BadInput(f'{where} must be a non-empty list of {{"role", "content"}}')
  for index, message in enumerate(value):
    good = isinstance(message, Mapping) and isinstance(message.get("content"), str)
    if not good or message.get("role") not in ROLES:
      raise BadInput(
        f"{where}[{index}] must have a role of {', '.join(ROLES)} and a text as content"
      )
  if value[-1]["role"] != "user":
    raise BadInput(f"{where} must end with the user's turn, not the {value[-1]['role']}'s")
  return [{"role": message["role"], "content": message["content"]} for message in value]


def _ground_truth(row: Mapping[str, Any], extra: Mapping[str, Any], where: str) -> str | None:
  reward_model = row.get("reward_model")
  if reward_model is not None and not isinstance(reward_model, Mapping):
    raise BadInput(f"{where}: reward_model must be an object with ground_truth")
  # the released schema, then `gtalign generate`'s rows, then what conversions of others have made
  for holder in (reward_model or {}, row, extra):
    value = holder.get("ground_truth")
    if value is None:
      continue
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
      raise BadInput(f"{where}: ground_truth must be a text or a number")
    return str(value)  # labels are text everywhere: 42 and "42" are one answer
  return None
