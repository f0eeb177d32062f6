"""What a request for a chat completion asks for, checked field by field.

A field that would change the answer and is not served is refused, so that nobody takes an answer
for one that heeded it; fields that change nothing are taken.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gtalign_jax.endpoint_sections import TOKEN_LIMITS
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import did_you_mean
from gtalign_jax.game import pricing
from gtalign_jax.game.pricing import Pricing

STOPS = 16  # stop strings of a request
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# fields that say nothing about the answer
IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
# fields that are served at these values alone, which mean what happens anyway
NEUTRAL: dict[str, tuple[Any, ...]] = {
  "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,),
  "logit_bias": ({},), "response_format": ({"type": "text"},), "modalities": (["text"],),
  "tools": ([],), "tool_choice": ("none", "auto"), "parallel_tool_calls": (True, False),
  "functions": ([],), "function_call": ("none", "auto"), "top_logprobs": (0,),
}  # fmt: skip


class Refused(Exception):
  """A request that gets an error in OpenAI's form. param: the field at fault."""

  def __init__(
    self,
    message: str,
    param: str | None = None,
    status: int = 400,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
  ):
    super().__init__(message)
    self.message, self.param, self.status, self.code = message, param, status, code
    self.headers = dict(headers or {})


class Asked(NamedTuple):
  """A request, complete. budget: None where it names none. pricing: None: the chain is left alone.

  usage: whether a stream ends with the counts of tokens.
  """

  model: str
  messages: list[dict[str, str]]
  seed: int
  n: int = 1
  budget: int | None = None
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  stop: tuple[str, ...] = ()
  logprobs: bool = False
  stream: bool = False
  usage: bool = False
  game: bool = False
  pricing: Pricing | None = None


def read(body: bytes, most: int, default: Pricing | None) -> Asked:
  """The request that `body` holds. Raises Refused, naming the field.

  most: choices of a request. default: pricing where it names none.
  """
  fields = _object(body)
  _known(fields)
  get = _Fields({name: value for name, value in fields.items() if value is not None})
  limits = [name for name in TOKEN_LIMITS if name in get.given]
  if len(limits) > 1:
    raise Refused(f"{' and '.join(limits)} mean the same; give one", limits[0])
  stream = get.flag("stream")
  options = get.table("stream_options")
  if options and not stream:
    raise Refused("stream_options is for stream=true; leave it out", "stream_options")
  for name, value in options.items():
    if name not in ("include_usage", "include_obfuscation") or not isinstance(value, bool):
      raise Refused(
        f"stream_options.{name}={_short(value)} is not served; give include_usage", "stream_options"
      )
  if "model" not in get.given:
    raise Refused("model is missing; GET /v1/models names it", "model")
  return Asked(
    model=get.text("model"),
    messages=_messages(get.given.get("messages")),
    seed=get.integer("seed", -(2**63), 2**63 - 1, secrets.randbits(63)),
    n=get.integer("n", 1, most, 1),
    budget=get.integer([*limits, *TOKEN_LIMITS][0], 1, 2**31 - 1, 0) or None,
    temperature=get.number("temperature", 0, 2, 1.0),
    # vLLM says -1 for off
    top_k=max(get.integer("top_k", -1, 2**31 - 1, 0), 0),
    top_p=get.number("top_p", 0, 1, 1.0, above=True),
    min_p=get.number("min_p", 0, 1, 0.0),
    stop=_stops(get.given.get("stop")),
    logprobs=get.flag("logprobs"),
    stream=stream,
    usage=options.get("include_usage", False),
    game=get.flag("game"),
    pricing=_pricing(get.given.get("pricing"), default),
  )


def _object(body: bytes) -> dict[str, Any]:
  def constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")

  try:
    found = json.loads(body, parse_constant=constant)
    # JSON can spell half a character, which no tokenizer takes
    json.dumps(found, ensure_ascii=False).encode()
  except UnicodeEncodeError:
    raise Refused(
      "the body holds a lone surrogate (\\ud800 to \\udfff); send whole characters"
    ) from None
  except (ValueError, RecursionError) as error:
    raise Refused(f"the body is not JSON: {str(error)[:200] or 'nested too deeply'}") from None
  if not isinstance(found, dict):
    raise Refused("the body must be a JSON object")
  return found


def _known(fields: Mapping[str, Any]) -> None:
  for name, value in fields.items():
    if name in NEUTRAL:
      if value is not None and not any(_same(value, each) for each in NEUTRAL[name]):
        raise Refused(
          f"{name}={_short(value)} is not served; leave it out", name, code="not_served"
        )
    elif name not in IGNORED and name not in _SERVED:
      hint = did_you_mean(name, tuple(_SERVED))
      raise Refused(f"unknown field {name[:60]!r}{hint}", name[:60], code="unknown_field")


def _same(value: Any, neutral: Any) -> bool:
  # by type: False is 0 to Python
  return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


class _Fields:
  """The fields that are given (null: not), each read as a type within bounds."""

  def __init__(self, given: Mapping[str, Any]):
    self.given = given

  def flag(self, name: str) -> bool:
    return self._read(name, lambda x: isinstance(x, bool), "true or false", False)

  def text(self, name: str) -> str:
    return self._read(name, lambda x: isinstance(x, str) and x != "", "a text", "")

  def table(self, name: str) -> dict[str, Any]:
    return self._read(name, lambda x: isinstance(x, dict), "an object", {})

  def integer(self, name: str, low: int, high: int, default: int) -> int:
    rule = f"an integer from {low} to {high}"
    return self._read(name, lambda x: type(x) is int and low <= x <= high, rule, default)

  def number(self, name: str, low: float, high: float, default: float, above=False) -> float:
    def within(x: Any) -> bool:
      number = isinstance(x, (int, float)) and not isinstance(x, bool)
      return number and low <= x <= high and not (above and x == low)

    rule = (
      f"a number {'above' if above else 'from'} {low}{' and at most' if above else ' to'} {high}"
    )
    return float(self._read(name, within, rule, default))

  def _read(self, name: str, valid: Callable[[Any], bool], rule: str, default: Any) -> Any:
    if name not in self.given:
      return default
    if not valid(self.given[name]):
      raise Refused(f"{name}={_short(self.given[name])} must be {rule}", name)
    return self.given[name]


def _messages(value: Any) -> list[dict[str, str]]:
  if not isinstance(value, list) or not value:
    raise Refused("messages must be a list of at least one message", "messages")
  found = [_message(each, f"messages[{n}]") for n, each in enumerate(value)]
  if found[-1]["role"] != "user":
    raise Refused(
      f"messages[{len(found) - 1}].role: the last message must be the user's", "messages"
    )
  return found


def _message(value: Any, where: str) -> dict[str, str]:
  if not isinstance(value, dict):
    raise Refused(f"{where} must be an object with role and content", "messages")
  role, content = value.get("role"), value.get("content")
  if role not in ROLES:
    raise Refused(f"{where}.role={_short(role)} must be one of {', '.join(ROLES)}", "messages")
  if isinstance(content, list):
    parts = [part.get("text") if isinstance(part, dict) else None for part in content]
    if not all(isinstance(part, str) for part in parts):
      raise Refused(f"{where}.content: only parts of type text are served", "messages")
    content = "".join(map(str, parts))
  if not isinstance(content, str) or not content.strip():
    raise Refused(f"{where}.content must be a text that is not empty", "messages")
  return {"role": ROLES[role], "content": content}


def _stops(value: Any) -> tuple[str, ...]:
  found = [] if value is None else [value] if isinstance(value, str) else value
  valid = isinstance(found, list) and all(isinstance(x, str) and x for x in found)
  if not valid or len(found) > STOPS:
    raise Refused(f"stop={_short(value)} must be a text, or a list of at most {STOPS}", "stop")
  return tuple(found)


def _pricing(value: Any, default: Pricing | None) -> Pricing | None:
  if value is None:
    return default
  try:
    if isinstance(value, str):
      if value not in pricing.PRESETS:  # never a file of the server's
        known = ", ".join(pricing.PRESETS)
        hint = did_you_mean(value, tuple(pricing.PRESETS))
        raise BadInput(f"pricing={_short(value)} is not one of {known}, or an object{hint}")
      return pricing.PRESETS[value]
    if isinstance(value, dict):
      return pricing.from_table("pricing", value)
  except BadInput as error:
    raise Refused(str(error), "pricing") from None
  raise Refused(f"pricing={_short(value)} must be a name or an object", "pricing")


def _short(value: Any) -> str:
  """A value as it is quoted: short, on one line."""
  text = json.dumps(value)
  return text if len(text) <= 60 else f"{text[:60]}…"


_SERVED = frozenset({*Asked._fields, *TOKEN_LIMITS, "stream_options"} - {"budget", "usage"})
