"""What endpoints answer, in their dialects, read in one place, and what to do about it."""

import json
import re
from typing import NamedTuple

from gtalign_jax.endpoint_sections import TOKEN_LIMITS, EndpointConfig

# of OpenAI, Anthropic and Gemini, Mistral, and OpenAI's newer interface
CUT = ("length", "max_tokens", "model_length", "max_output_tokens")
FILTERED = ("content_filter", "safety", "refusal", "blocklist", "prohibited_content", "recitation")
BROKEN = ("error", "abort", "aborted", "cancelled", "insufficient_system_resource")
# reasoning models think aloud first; some chat templates eat the opening tag
_THOUGHT = re.compile(r"\A\s*(?:<think>)?.*?</think>\s*", re.S)
COUNTS = ("prompt_tokens", "completion_tokens")
FINAL = ("refused", "filtered", "tool_call")  # asking again would not help


class Reply(NamedTuple):
  """What a model said.

  fault: why `text` is not to be used: "" (it is), truncated, empty, refused, filtered, tool_call,
  or http_<status> for a prompt that the endpoint does not take. detail: in the endpoint's words.
  seconds: from the first request to this reply. prompt_tokens, completion_tokens: as the endpoint
  counts them, 0 where it does not.
  """

  text: str
  fault: str = ""
  detail: str = ""
  seconds: float = 0.0
  prompt_tokens: int = 0
  completion_tokens: int = 0

  @property
  def is_final(self) -> bool:
    return self.fault in FINAL or self.fault.startswith("http_")


def spoken(text: str) -> str:
  """A reply without the thoughts before it."""
  return _THOUGHT.sub("", text).strip()


class NoReply(Exception):
  """The endpoint answered with something else. status: the HTTP status it stands for, if known."""

  def __init__(self, why: str, status: int = 0):
    super().__init__(why)
    self.status = status


def read(body: str) -> Reply:
  """The reply in the body of a chat completion. Raises NoReply where it holds none."""
  data = _json(body)
  prompt, completion = (_count(data.get("usage"), key) for key in COUNTS)
  return _read(data, body)._replace(prompt_tokens=prompt, completion_tokens=completion)


def _count(usage: object, key: str) -> int:
  value = usage.get(key) if isinstance(usage, dict) else 0
  return value if type(value) is int and value > 0 else 0


def _read(data: dict, body: str) -> Reply:
  choices, error = data.get("choices"), data.get("error")
  choice = choices[0] if isinstance(choices, list) and choices else None
  if error or not isinstance(choice, dict) or choice.get("error"):
    code = error.get("code") if isinstance(error, dict) else None
    # an error under a 200 may bring the status that it should have had
    status = code if isinstance(code, int) and 400 <= code < 600 else 0
    raise NoReply(error_text(body) or "the reply has no choices", status)
  message = choice.get("message")
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
    # a page says what is wrong in its title
    return " ".join(re.sub(r"<[^<>]*>", " ", body[:2000]).split())[:300]
  # OpenAI's form, FastAPI's, and that of gateways
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
    page = "a web page instead of JSON (a sign-in page, or no API at this address)"
    raise NoReply(page if body.lstrip()[:1] == "<" else "the reply is no JSON") from None
  if isinstance(data, list) and data:  # one vendor wraps its errors
    data = data[0]
  if not isinstance(data, dict):
    raise NoReply("the reply is no chat completion")
  return data


def _content(content: object) -> tuple[str, str]:
  """(text, refusal) of a message's content: text, or parts of which those of text are joined."""
  text: list[str] = []
  refusal = ""
  for each in content if isinstance(content, list) else [content]:
    part = {"text": each} if isinstance(each, str) else each
    if not isinstance(part, dict):
      continue
    kind = part.get("type", "text")
    if kind in ("text", "output_text"):
      value = part.get("text")
      value = value.get("value") if isinstance(value, dict) else value
      text.append(value if isinstance(value, str) else "")
    elif kind == "refusal":
      refusal = str(part.get("refusal") or "refused")
    # other parts are thoughts, sources, pictures: none of them is what the model says
  return "\n".join(text), refusal


def hint(status: int, said: str, config: EndpointConfig) -> str:
  """The fix for a refusal, as a key of the config. said: the endpoint's words."""
  section, named = config.SECTION, set(re.findall(r"\w+", said))
  limited = named if config.max_tokens is not None else set()
  if status in (401, 403):
    return (
      f"set the environment variable {config.api_key_env}, which {section}.api_key_env names, or "
      f"correct {section}.model"
    )
  if status == 407:
    return "put the proxy's user and password into the variable that names it"
  if limited >= {*TOKEN_LIMITS} and config.max_tokens_key == "max_tokens":
    return f"set {section}.max_tokens_key=max_completion_tokens"
  if "max_tokens" in limited:
    return f"lower {section}.max_tokens, or leave it out with {section}.max_tokens=none"
  if "max_completion_tokens" in limited:
    return f"set {section}.max_tokens_key=max_tokens, or {section}.max_tokens=none"
  if "temperature" in named and config.temperature is not None:
    return f"leave it out with {section}.temperature=none"
  for key in config.extra_body:
    if key in named:
      return f"take {key} out of {section}.extra_body"
  if status == 404:
    return f"correct {section}.base_url (most end in /v1) or {section}.model"
  return f"correct {section}.base_url, {section}.model or {section}.extra_body"


def trouble(reply: Reply, section: str) -> str:
  """Why a reply is of no use."""
  what = {
    "": "a reply does not hold what was asked for",
    "truncated": f"a reply was cut at its limit of tokens; raise {section}.max_tokens",
    "empty": "a reply had no text (all of it may have been thoughts)",
    "refused": "the model refused to reply",
    "filtered": "a filter kept a reply back",
    "tool_call": "the model called a tool instead of replying",
  }.get(reply.fault, f"a prompt was not taken ({reply.fault.replace('_', ' ')})")
  return f"{what}: {reply.detail}" if reply.detail else what
