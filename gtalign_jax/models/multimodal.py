"""Checkpoints of text and images: their language model alone, as the text-only model that it is.

Gemma 3 from 4B on is published in this form only. What belongs to images is left out; a policy that
was trained is exported as the text-only model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gtalign_jax.models.config_keys import bad

# model_type of the whole -> that of its language model, and what transformers assumes for keys
# that the published text_config leaves out
_TEXT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
  "gemma3": (
    "gemma3_text",
    {
      "vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4,
      "max_position_embeddings": 131072,
    },
  )
}  # fmt: skip
# names in files, and as transformers 5 holds them in memory -> names of the text-only model
_PREFIXES = {
  "language_model.model.": "model.",
  "model.language_model.": "model.",
  "language_model.lm_head.": "lm_head.",
}
_PARTS = ("vision_tower.", "multi_modal_projector.")
_OF_IMAGES = (*_PARTS, *(f"model.{part}" for part in _PARTS))


def text_config(config: Mapping[str, Any], where: str) -> Mapping[str, Any]:
  """What a config.json says of text: of a multimodal model its text_config, else all of it.

  Raises BadInput where a multimodal config has none, or one of another family.
  """
  known = _TEXT.get(str(config.get("model_type")))
  if known is None:
    return config
  kind, defaults = known
  text = config.get("text_config")
  if not isinstance(text, dict) or text.get("model_type", kind) != kind:
    raise bad(where, "text_config", text, f"must be an object, of model_type {kind}")
  whole = {"model_type": kind, "tie_word_embeddings": config.get("tie_word_embeddings")}
  return {**defaults, **whole, **text}


class LanguageModel:
  """The tensors of the language model in `source`, by the names of its text-only form.

  A `weights.Source` over another; a text-only checkpoint stays as it is.
  """

  def __init__(self, source: Any):
    self._source = source
    named = {name: _name(name) for name in source.shapes}
    if all(name == new for name, new in named.items()):
      self._stored = {name: name for name in named}
    else:
      self._stored = {n: name for name, n in named.items() if not name.startswith(_OF_IMAGES)}
    self.shapes = {name: source.shapes[stored] for name, stored in self._stored.items()}

  def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
    """Part of a tensor."""
    part: np.ndarray = self._source.read(self._stored[name], index)
    return part


def _name(name: str) -> str:
  for prefix, new in _PREFIXES.items():
    if name.startswith(prefix):
      return new + name.removeprefix(prefix)
  return name
