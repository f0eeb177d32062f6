"""Which key of a config a user meant who typed one that is not there. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from gtalign_jax.translate import NEAREST


def near_key(key: str, known: Sequence[str]) -> str:
  """The key of `known` that `key` most likely means; "" where none is near."""
  parts = key.split(".")
  named = NEAREST.get(".".join(parts[-2:])) or NEAREST.get(parts[-1])
  # what TRL or verl calls so, under another section: sft.learning_rate is not optim.lr, but the
  # warm start's
  if named:
    parts[-1] = named.split(".")[-1]
    section = f"{parts[0]}."
    inside = [each for each in known if each.startswith(section)] if len(parts) > 1 else []
    return _same_leaf(parts, inside) or named
  same = _same_leaf(parts, known)  # the right name in a wrong place: policy.lr for optim.lr
  if same:
    return same
  for each in known:  # data.weights.medium: a table is set whole
    if key.startswith(f"{each}."):
      return each
  # then a slip in the name, of a key of that section before one of another
  leaf = parts[-1]
  section = key.removesuffix(leaf)
  inside_of = {each.removeprefix(section): each for each in known if each.startswith(section)}
  leaves = NEAREST | {each.split(".")[-1]: each for each in reversed(known)}
  for names, cutoff in ((inside_of, 0.7), (leaves, 0.75)):
    for name in difflib.get_close_matches(leaf, names, n=1, cutoff=cutoff):
      return names[name]
  return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.9)), "")


def _same_leaf(parts: Sequence[str], known: Sequence[str]) -> str:
  """The key with the last part of `parts` that shares most with it, the first of equals."""
  same = [each for each in known if each.split(".")[-1] == parts[-1]]
  return max(same, key=lambda each: _likeness(parts, each.split(".")), default="")


def _likeness(a: Sequence[str], b: Sequence[str]) -> tuple[bool, int]:
  """Whether two names begin alike; of how many parts they end alike, less the length of `b`."""
  alike = 0
  for one, other in zip(reversed(a), reversed(b)):
    if one != other:
      break
    alike += 1
  return a[0] == b[0], 2 * alike - len(b)
