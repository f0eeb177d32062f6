"""The text of a payoff block as twelve numbers, strictly (FORMULAS: the chain)."""

from __future__ import annotations

import json
import math
from typing import NoReturn

from gtalign_jax.rewards.blocks import Numbers, Refused, cells
from gtalign_jax.types import CELLS, ROLES

PAIRS = len(CELLS) * (1 + len(ROLES))


def strict(text: str) -> tuple[Numbers | None, str | None]:
  """(numbers, error): JSON, exactly the six cells of two finite numbers, no duplicate keys.

  Numbers are floats; None where the text is refused, and `error` then says why: payoff_syntax (no
  JSON object), payoff_keys (missing, unknown or repeated), payoff_value (no number, a boolean, or
  none that a float holds).
  """
  try:
    numbers = _numbers(_STRICT.decode(text))
    # Six cells and twelve roles have one colon each, and so has each pair that a later one took
    # the place of. An object_pairs_hook would see those too, but makes the decoder build a list of
    # pairs for each object.
    return (numbers, None) if text.count(":") == PAIRS else (None, "payoff_keys")
  except Refused as refusal:
    return None, refusal.args[0]
  except (json.JSONDecodeError, RecursionError):
    return None, "payoff_syntax"
  except (ValueError, OverflowError):  # more digits than int() takes, or than a float holds
    return None, "payoff_value"


def _no_constant(_: str) -> NoReturn:
  raise Refused("payoff_value")  # NaN, Infinity


_STRICT = json.JSONDecoder(parse_constant=_no_constant)


def _numbers(table: object) -> Numbers:
  numbers: list[float] = []
  for llm, user in cells(table):
    # type(), as a boolean is an instance of int: true for 1 is no payoff. Spelled out for both: a
    # loop over the pair costs 4 of the 65 microseconds of a row
    if type(llm) not in (float, int) or type(user) not in (float, int):
      raise Refused("payoff_value")
    numbers.append(float(llm))
    numbers.append(float(user))
  if not all(map(math.isfinite, numbers)):  # 1e999 is JSON and reads as infinity
    raise Refused("payoff_value")
  return tuple(numbers)
