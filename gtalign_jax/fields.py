"""What every field of a config has: a role, a kind, and rules for its values.

The sections (sections.py) are made of these. Standard library only, as they are.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import field, fields
from typing import Any, TypeVar

from gtalign_jax.errors import BadInput

T = TypeVar("T")

# Metadata of a field, or of a whole section where `Config` holds it.
PLACEMENT = {"role": "placement"}
# A number of steps: more of them extend a run and are placement (config.differences has the rule).
EXTENDABLE = {"role": "extendable"}


def placed(default: T) -> T:
  """The default of a knob of placement."""
  return field(default=default, metadata=PLACEMENT)


class Table(dict):
  """A dict that is hashable, so that it can sit in a frozen config; treat as read-only."""

  def __hash__(self) -> int:  # type: ignore[override]
    return hash(json.dumps(self, sort_keys=True))  # values may be tables themselves


class JsonTable(Table):
  """A table of whatever JSON can hold."""


def did_you_mean(given: str, known: Sequence[str]) -> str:
  """A hint that ends an error: the name that is nearest to `given`, or nothing."""
  near = difflib.get_close_matches(given, known, n=1)
  return f"; did you mean {near[0]}?" if near else ""


def one_of(key: str, value: str, allowed: Sequence[str]) -> None:
  """Raises BadInput where `value` is not one of the names that `key` can take."""
  if value not in allowed:
    hint = did_you_mean(str(value), allowed)
    raise BadInput(f"{key}={value!r} is not one of {', '.join(allowed)}{hint}")


# ---------------------------------------------------------------- what holds for every section


def settle(section: str, config: Any) -> None:
  """Each value has the type of its key, and each number is finite and fits into 64 bits.

  The first rule of every section, so that the others meet no text and no NaN. Lists become tuples
  and whole numbers floats where the key holds those. Raises BadInput.
  """
  for name, kind in _kinds(config.__class__).items():
    key, value = f"{section}.{name}".lstrip("."), getattr(config, name)
    if not _fits(value, kind):
      raise BadInput(f"{key}={value}: expected {_describe(kind)}")
    for part in _parts(value):
      # NaN and infinities slip through rules and make every reward equal or NaN; and JSON, so
      # config.json, knows neither. Where "no limit" is meant, a large number says it
      if isinstance(part, float) and not math.isfinite(part):
        raise BadInput(f"{key}={value}: must be a finite number")
      if isinstance(part, int) and abs(part) >= 2**63:
        raise BadInput(f"{key}={value}: must be at least 0 and below 2**63")
    object.__setattr__(config, name, _convert(value, kind))  # frozen, but not finished


def _parts(value: Any) -> typing.Iterable[Any]:
  if isinstance(value, dict):
    return value.values()
  return value if isinstance(value, (tuple, list)) else (value,)


@functools.cache
def _kinds(section: Any) -> dict[str, Any]:
  hints = typing.get_type_hints(section)
  return {each.name: hints[each.name] for each in fields(section)}


def _describe(kind: Any) -> str:
  if kind is JsonTable:
    return 'a table, e.g. {"reasoning_effort": "low"}'
  if kind is Table:
    return "a table from names to texts, numbers, true or false"
  return getattr(kind, "__name__", str(kind)) if not typing.get_args(kind) else str(kind)


def _fits(value: Any, kind: Any) -> bool:
  origin, inner = typing.get_origin(kind), typing.get_args(kind)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, each) for each in inner)
  if origin is tuple:
    values = list(_parts(value))
    if inner[-1] is Ellipsis:
      return all(_fits(each, inner[0]) for each in values)
    return len(values) == len(inner) and all(map(_fits, values, inner))
  if kind is JsonTable:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)
  if kind is Table:
    return isinstance(value, dict) and all(
      isinstance(name, str) and isinstance(each, (str, bool, int, float))
      for name, each in value.items()
    )
  # True is an int of Python's; as a number of steps it is a mistake
  if isinstance(value, bool):
    return kind is bool
  return isinstance(value, (int, float) if kind is float else kind)


def _convert(value: Any, kind: Any) -> Any:
  if typing.get_origin(kind) in (typing.Union, types.UnionType):
    return _convert(value, next(each for each in typing.get_args(kind) if _fits(value, each)))
  if typing.get_origin(kind) is tuple:
    return tuple(_convert(each, typing.get_args(kind)[0]) for each in _parts(value))
  if kind is float:
    return float(value)
  return kind(value) if kind in (Table, JsonTable) else value


# ---------------------------------------------------------------- rules for keys of one section


def _each(
  section: str, config: Any, keys: Sequence[str], fits: Callable[[Any], bool], rule: str
) -> None:
  for key in keys:
    if not fits(getattr(config, key)):
      raise BadInput(f"{section}.{key}={getattr(config, key)}: must {rule}")


def at_least(section: str, config: Any, low: float, *keys: str) -> None:
  """No key lies below `low`. Raises BadInput."""
  _each(section, config, keys, lambda value: value >= low, f"be at least {low}")


def at_most(section: str, config: Any, high: float, *keys: str) -> None:
  """No key lies above `high`. Raises BadInput."""
  _each(section, config, keys, lambda value: value <= high, f"be at most {high:g}")


def positive(section: str, config: Any, *keys: str) -> None:
  """Every key is above 0. Raises BadInput."""
  _each(section, config, keys, lambda value: value > 0, "be positive")


def fraction(section: str, config: Any, *keys: str) -> None:
  """Every key lies in [0, 1]. Raises BadInput."""
  _each(section, config, keys, lambda value: 0.0 <= value <= 1.0, "lie in [0, 1]")


def band(section: str, config: Any, *keys: str) -> None:
  """Every key is a band (low, high) of numbers from 0 on. Raises BadInput."""
  for key in keys:
    low, high = getattr(config, key)
    if not 0 <= low < high:
      raise BadInput(f"{section}.{key}={(low, high)}: must be (low, high) with 0 <= low < high")


def ascending(section: str, config: Any, key: str) -> None:
  """The lengths of `key` grow, from 1 on. Raises BadInput."""
  lengths = getattr(config, key)
  if list(lengths) != sorted(set(lengths)) or min(lengths, default=1) < 1:
    raise BadInput(f"{section}.{key}={lengths}: must be ascending lengths of at least 1")


def divides(part: int, whole: int, key: str, of: str) -> None:
  """A slice that does not divide its batch would leave a rest of another shape to compile."""
  if part and whole % part:
    raise BadInput(
      f"{key}={part} does not divide {of}={whole}; use a divisor, or 0 for all at once"
    )
