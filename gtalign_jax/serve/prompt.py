"""The prompt of a request: its messages as the policy was trained to read a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gtalign_jax.data import prompts
from gtalign_jax.errors import BadInput
from gtalign_jax.sections import DataConfig
from gtalign_jax.serve.fields import Refused

Messages = Sequence[dict[str, str]]


def chat(messages: Messages, template: str, form: str) -> list[dict[str, str]]:
  """The chat that the policy sees: `data.template` as system turn, the request's own after it.

  Later turns stay turns, as in `prompts.continued`. Messages that bring the instructions of a chain
  are left as they are, and so are all with the template `released`.
  """
  own = [each["content"] for each in messages if each["role"] == "system"]
  if template == "released" or any("<payoff>" in text for text in own):
    return list(messages)
  system = "\n\n".join([prompts.template_text(template, form), *own])
  rest = [each for each in messages if each["role"] != "system"]
  return [{"role": "system", "content": system}, *rest]


def encode(messages: Messages, tokenizer: Any, data: DataConfig, form: str) -> np.ndarray:
  """Token ids of a request, int32. Raises Refused where the model's chat template does."""
  try:
    return prompts.chat_ids(chat(messages, data.template, form), tokenizer, data)
  except BadInput as error:
    raise Refused(str(error), "messages") from None
