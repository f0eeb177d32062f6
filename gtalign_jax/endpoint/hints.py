"""What went wrong with an endpoint, for people, and what to set."""

from __future__ import annotations

import re

from gtalign_jax.endpoint.reply import Reply
from gtalign_jax.endpoint_sections import EndpointConfig


def hint(status: int, said: str, config: EndpointConfig) -> str:
  """The fix for a refusal, as a key of the config. said: the endpoint's words."""
  section = config.SECTION
  named = set(re.findall(r"\w+", said))
  if status in (401, 403):
    return (
      f"set the environment variable {config.api_key_env}, which {section}.api_key_env names, or "
      f"correct {section}.model"
    )
  if status == 407:
    return "put the proxy's user and password into the variable that names it"
  if "max_tokens" in named and config.max_tokens is not None:
    if "max_completion_tokens" in named and config.max_tokens_key == "max_tokens":
      return f"set {section}.max_tokens_key=max_completion_tokens"
    return f"lower {section}.max_tokens, or leave it out with {section}.max_tokens=none"
  if "max_completion_tokens" in named and config.max_tokens is not None:
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
