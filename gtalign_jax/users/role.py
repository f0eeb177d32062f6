"""The user as a part that a model plays: what the model is told, and what counts as its line.

The words are in texts.toml, the project's own.
"""

from __future__ import annotations

import json
import re
import tomllib
from importlib import resources

from gtalign_jax.endpoint.fence import fenced
from gtalign_jax.endpoint.reply import spoken
from gtalign_jax.endpoint_sections import UserConfig
from gtalign_jax.users.base import LEFT, NO_ANSWER, Reaction, Said, Talk
from gtalign_jax.wording import cut

TEXTS: dict[str, str] = tomllib.loads(
  resources.files("gtalign_jax.users").joinpath("texts.toml").read_text("utf-8")
)
LEAVE = "<leave/>"
# tabs and line breaks are text, other control characters are none; nor are halves of a character
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def prompt(talk: Talk, config: UserConfig) -> str:
  """What the model is told: the part it plays, and, as data, the intent and the conversation."""
  persona = (config.persona or TEXTS["persona"]).replace("{", "{{").replace("}", "}}")
  template = TEXTS["role"].replace("{leave}", LEAVE).replace("{persona}", persona)
  # a message is one line of JSON: no response can write the user's next line
  said = "\n".join(json.dumps(each, ensure_ascii=False) for each in talk.messages)
  parts = {"intent": _wants(talk), "conversation": said}
  return fenced(template, parts, TEXTS["notice"])


def _wants(talk: Talk) -> str:
  """The intent in words. Without its answer: who asks a question does not know that."""
  intent = talk.intent or {}
  slots = intent.get("slots")
  lines = [f"{name}: {value}" for name, value in slots.items()] if isinstance(slots, dict) else []
  return "\n".join([str(intent.get("text") or talk.request), *lines])


def line(text: str) -> str | None:
  """The user's line in a model's reply, None where it holds none: blank, or thoughts alone.

  LEAVE ends a line or is all of it; anywhere else it says nothing that could be relied on.
  """
  said = _CONTROL.sub(" ", spoken(text)).strip()
  if not said or said.startswith("<think>") or LEAVE in said.removesuffix(LEAVE):
    return None
  return said


def reaction(said: str | None, max_words: int) -> Reaction:
  """What a line (None: there is none) does; more than `max_words` words are not heard."""
  if said is None:
    return NO_ANSWER
  return LEFT if said.endswith(LEAVE) else Said(cut(said, max_words))
