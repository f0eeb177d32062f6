"""What endpoints answer, in their dialects, read in one place."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

CUT = ("length", "max_tokens", "model_length", "max_output_tokens")
FILTERED = ("content_filter", "safety", "refusal", "blocklist", "prohibited_content", "recitation")
BROKEN = ("error", "abort", "aborted", "cancelled", "insufficient_system_resource")
FINAL = ("refused", "filtered", "tool_call")  # asking again would not help


class Reply(NamedTuple):
  """What a model said.

  fault: why `text` is not to be used: "" (it is), truncated, empty, refused, filtered, tool_call,
  or http_<status> for a prompt that the endpoint does not take. detail: in the endpoint's words.
  seconds: from the first request to this reply.
  """

  text: str
  fault: str = ""
  detail: str = ""
  seconds: float = 0.0

  @property
  def is_final(self) -> bool:
    return self.fault in FINAL or self.fault.startswith("http_")


class NoReply(Exception):
  """The endpoint answered with something else. status: the HTTP status it stands for, if known."""

  def __init__(self, why: str, status: int = 0):
    super().__init__(why)
    self.status = status


def read(body: str) -> Reply:
  """The reply in the body of a chat completion. Raises NoReply where it holds none."""
  data = _json(body)
  choices = data.get("choices")
  choice = choices[0] if isinstance(choices, list) and choices else None
  message = choice.get("message") if isinstance(choice, dict) else None
  if data.get("error") or not isinstance(choice, dict) or choice.get("error"):
    raise NoReply(error_text(body) or "the reply has no choices", _status(data.get("error")))
  finish = str(choice.get("finish_reason") or "").lower()
  if finish in BROKEN:
    raise NoReply(f"the reply broke off (finish_reason={finish!r})")
  if finish in FILTERED:
    return Reply("", "filtered", finish)
  if not isinstance(message, dict):
    raise NoReply("the reply has no message")
  text, refusal = _content(message.get("content"))
  refusal = message.get("refusal") or refusal
  if refusal:
    return Reply("", "refused", str(refusal)[:200])
  if finish in CUT:  # the last number of a cut text may be half of one
    return Reply(text, "truncated")
  if text.strip():
    return Reply(text)
  called = message.get("tool_calls") or message.get("function_call")
  return Reply("", "tool_call" if called else "empty")


def error_text(body: str) -> str:
  """What an error says, in one line; "" where it says nothing."""
  try:
    data = _json(body)
  except NoReply:
    return " ".join(re.sub(r"<[^<>]*>", " ", body[:2000]).split())[:300]
  error = data.get("error") or data.get("detail") or data.get("message") or ""
  if isinstance(error, dict):
    error = error.get("message") or error
  try:
    text = error if isinstance(error, str) else json.dumps(error)
  except RecursionError:  # it could just be read, and has one level too many to be written
    text = ""
  return " ".join(text.split())[:300]


def _json(body: str) -> dict:
  try:
    data = json.loads(body)
  except (ValueError, RecursionError):  # a number of 5,000 digits is a ValueError, too
    page = body.lstrip()[:1] == "<"
    raise NoReply(
      "a web page instead of JSON (a sign-in page, or no API at this address)"
      if page
      else "the reply is no JSON"
    ) from None
  if isinstance(data, list) and data:  # one vendor wraps its errors
    data = data[0]
  if not isinstance(data, dict):
    raise NoReply("the reply is no chat completion")
  return data


def _status(error: object) -> int:
  """The HTTP status that an error object brings along under a 200."""
  code = error.get("code") if isinstance(error, dict) else None
  return code if isinstance(code, int) and 400 <= code < 600 else 0


def _content(content: object) -> tuple[str, str]:
  """(text, refusal) of a message's content: text, or parts of which those of text are joined."""
  if content is None:
    return "", ""
  if isinstance(content, str):
    return content, ""
  parts = content if isinstance(content, list) else [content]
  text: list[str] = []
  refusal = ""
  for part in parts:
    if isinstance(part, str):
      text.append(part)
    elif isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"):
      value = part.get("text")
      value = value.get("value") if isinstance(value, dict) else value
      text.append(value if isinstance(value, str) else "")
    elif isinstance(part, dict) and part.get("type") == "refusal":
      refusal = str(part.get("refusal") or "refused")
    # other parts are thoughts, sources, pictures: none of them is what the model says
  return "\n".join(text), refusal
