"""Requests, field by field: what is taken, what is refused and how it is named."""

import json

import pytest

from gtalign_jax.game import pricing
from gtalign_jax.serve import fields
from gtalign_jax.serve.fields import Refused

MESSAGES = [{"role": "user", "content": "hello"}]


def read(**changes):
  body = {"model": "m", "messages": MESSAGES} | changes
  return fields.read(json.dumps(body).encode(), most=8, default=None)


def test_what_is_taken():
  asked = read(
    n=2, max_completion_tokens=5, temperature=0, top_k=-1, top_p=0.5, stop="x", seed=-3,
    stream=True, stream_options={"include_usage": True}, logprobs=True, game=True,
    pricing="pay_per_token", user="u", metadata={"a": "b"}, frequency_penalty=0.0, tools=[],
    logit_bias=None,
  )  # fmt: skip
  assert asked.messages == MESSAGES
  assert (asked.n, asked.budget, asked.temperature, asked.top_k, asked.seed) == (2, 5, 0.0, 0, -3)
  assert asked.stop == ("x",) and asked.stream and asked.usage and asked.logprobs and asked.game
  assert asked.pricing == pricing.PRESETS["pay_per_token"]
  assert read().seed != read().seed
  own = read(pricing={"price": {"user": 0.5}}).pricing
  assert own.price == (0.0, 0.5) and own.name == "custom"
  parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
  assert read(messages=[{"role": "user", "content": parts}]).messages == MESSAGES
  developer = [{"role": "developer", "content": "be brief"}, *MESSAGES]
  assert read(messages=developer).messages[0]["role"] == "system"


@pytest.mark.parametrize(
  ("changes", "param"),
  [
    ({"model": None}, "model"), ({"model": 3}, "model"),
    ({"messages": []}, "messages"), ({"messages": "hello"}, "messages"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
    ({"messages": [*MESSAGES, {"role": "assistant", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
    ({"temperature": -0.1}, "temperature"), ({"temperature": True}, "temperature"),
    ({"temperature": "1"}, "temperature"), ({"top_p": 0}, "top_p"), ({"top_p": 1.1}, "top_p"),
    ({"min_p": 2}, "min_p"), ({"top_k": 1.5}, "top_k"), ({"n": 0}, "n"), ({"n": 9}, "n"),
    ({"max_tokens": 0}, "max_tokens"), ({"seed": 2**70}, "seed"), ({"seed": 1.0}, "seed"),
    ({"stop": [""]}, "stop"), ({"stop": ["x"] * 17}, "stop"), ({"stop": 3}, "stop"),
    ({"stream": 1}, "stream"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options"),
    ({"top_logprobs": 3}, "top_logprobs"), ({"tools": [{}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"), ({"logit_bias": {"1": 2}}, "logit_bias"),
    ({"presence_penalty": False}, "presence_penalty"),
    ({"pricing": "pay_per_tokn"}, "pricing"), ({"pricing": {"prise": {}}}, "pricing"),
    ({"pricing": {"price": {"user": "x"}}}, "pricing"), ({"pricing": "/a.toml"}, "pricing"),
    ({"game": "yes"}, "game"), ({"temprature": 1}, "temprature"),
    ({"max_tokens": 3, "max_completion_tokens": 3}, "max_tokens"),
  ],
  ids=str,
)  # fmt: skip
def test_a_bad_field_is_named(changes, param):
  with pytest.raises(Refused) as caught:
    read(**changes)
  assert caught.value.status == 400
  assert caught.value.param == param
  assert param in caught.value.message


@pytest.mark.parametrize(
  "body",
  [
    b"", b"{", b"[]", b"null", b'{"temperature": NaN}', b'{"a": "\\ud800"}', b"\xff\xfe{",
    b"[" * 99999, b'{"seed": ' + b"9" * 5000 + b"}",
  ],
  ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_what_is_not_json_is_said_in_a_line(body):
  with pytest.raises(Refused) as caught:
    fields.read(body, most=1, default=None)
  assert caught.value.status == 400 and len(caught.value.message) < 300
