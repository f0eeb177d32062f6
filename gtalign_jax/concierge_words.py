"""The words of the concierge (FORMULAS 11): read by its records, its judge and its chains."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from typing import Any, NamedTuple

_WORDS: dict[str, Any] = tomllib.loads(
  resources.files("gtalign_jax").joinpath("concierge_words.toml").read_text("utf-8")
)
_SLOT = re.compile(r"\{(\w+)\}")
# list -> its values: a slot is called as the list of its values
VALUES: dict[str, tuple[str, ...]] = {name: tuple(each) for name, each in _WORDS["lists"].items()}


class Kind(NamedTuple):
  """One kind of request; concierge_words.toml says what each field is."""

  q: float
  open: str
  default: str
  called: str
  words: tuple[str, ...]
  ask: str
  say: str
  line: str
  requests: tuple[str, ...]

  @property
  def slots(self) -> list[str]:
    """Names of the slots, in the order of the confirmation."""
    return _SLOT.findall(self.line)

  @property
  def others(self) -> list[str]:
    """Values of the open slot that are not its default."""
    return [each for each in VALUES[self.open] if each != self.default]

  @property
  def sure(self) -> str:
    """How often the default is meant, in words."""
    found = zip(_WORDS["sure"]["words"], _WORDS["sure"]["least"], strict=True)
    return next(words for words, least in found if self.q >= least)


def _kind(fields: dict[str, Any]) -> Kind:
  # tuples for lists, so that kinds are hashable
  return Kind(**fields | {key: tuple(fields[key]) for key in ("words", "requests")})


KINDS = {name: _kind(fields) for name, fields in _WORDS["kinds"].items()}
