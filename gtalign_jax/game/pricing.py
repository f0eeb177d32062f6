"""Pricing policies: what the service's payment mode does to the payoffs, as explicit affine maps.

    payoff'[u, a, r] = scale[r] payoff[u, a, r] + shift[a, r] - price[r] tokens[a]

Every number is data in a `Pricing`; there are no other terms. Edited payoffs are written into the
chain with one decimal, and the choice is made on what is written (FORMULAS: the game).
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtalign_jax.arrays import floats
from gtalign_jax.errors import BadInput
from gtalign_jax.game import payoff as matrices
from gtalign_jax.types import ACTIONS, ROLES, Array

LARGEST = 1e9  # of a number in a policy file; payoffs are read by people
# Expected tokens of a response by action, (DA, CQ, AQ): the project's own round numbers for a
# 300-token answer and a 60-token question; a policy file can state others.
TOKENS = (300.0, 60.0, 360.0)


@dataclass(frozen=True, kw_only=True)
class Pricing:
  """One pricing policy; roles are ordered (LLM, user), actions (DA, CQ, AQ).

  scale: factor per role, > 0. shift: payoff points added per action and role. price: payoff points
  a role loses per token (negative: gains). tokens: expected tokens per action.
  """

  name: str
  scale: tuple[float, float] = (1.0, 1.0)
  shift: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 3
  price: tuple[float, float] = (0.0, 0.0)
  tokens: tuple[float, float, float] = TOKENS


PRESETS = {
  "free": Pricing(name="free"),  # nobody pays: the matrix as the chain wrote it
  # A flat fee: tokens cost the user nothing more, the service bears their cost.
  "subscription": Pricing(name="subscription", price=(0.005, 0.0)),
  # Each token is charged to the user, and the service keeps a margin on it.
  "pay_per_token": Pricing(name="pay_per_token", price=(-0.002, 0.01)),
}


def affine(pricing: Pricing, payoff_BUAR: Array) -> Array:
  """The map above, unrounded; dtype kept."""
  xp, payoff_BUAR = floats(payoff_BUAR)
  matrices.split(payoff_BUAR)  # checks the shape
  dtype = payoff_BUAR.dtype  # of the policy's numbers as well: float64 ones would widen float32
  offset_AR = [
    [pricing.shift[a][r] - pricing.price[r] * pricing.tokens[a] for r in range(2)] for a in range(3)
  ]
  return payoff_BUAR * xp.asarray(pricing.scale, dtype) + xp.asarray(offset_AR, dtype)


def apply(pricing: Pricing, payoff_BUAR: Array) -> Array:
  """The edited payoffs as they are written: the affine map, rounded to one decimal (no -0.0)."""
  edited = affine(pricing, payoff_BUAR)
  xp, edited = floats(edited)
  rounded = xp.round(edited, 1)
  # a chain says 0.0 where rounding gives -0.0
  return xp.where(rounded == 0, 0.0, rounded)


def choose(pricing: Pricing, payoff_BUAR: Array, user_type: Array | None = None) -> Array:
  """Cell index_B chosen on the written payoffs (`payoff.choose`)."""
  return matrices.choose(apply(pricing, payoff_BUAR), user_type)


def load(name_or_file: str) -> Pricing:
  """A preset by name, or the policy of a TOML file (docs/game.md).

  Raises BadInput naming file, key, value and rule.
  """
  if name_or_file in PRESETS:
    return PRESETS[name_or_file]
  path = Path(name_or_file)
  # a misspelt preset, most likely: "no such file" would send the user looking for one
  if path.suffix != ".toml" and not path.exists():
    near = difflib.get_close_matches(name_or_file, PRESETS, n=1)
    hint = f"did you mean {near[0]}?" if near else "or give a .toml file"
    raise BadInput(f"pricing={name_or_file!r} is not one of {', '.join(PRESETS)}; {hint}")
  try:
    with path.open("rb") as file:
      table = tomllib.load(file)
  except OSError as error:
    raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
  except ValueError as error:  # TOML syntax or encoding
    raise BadInput(f"{path}: not TOML ({error})") from None
  return _from_table(path, table)


def _from_table(path: Path, table: dict[str, Any]) -> Pricing:
  _known(path, "", table, ("name", "scale", "shift", "price", "tokens"))
  name = table.get("name", path.stem)
  if not isinstance(name, str):
    raise BadInput(f"{path}: name={name!r} must be a string")
  shift = _section(path, "shift", table, ACTIONS)
  scale = _numbers(path, "scale", table, ROLES, (1.0, 1.0))
  tokens = _numbers(path, "tokens", table, ACTIONS, TOKENS)
  for key, value in zip(ROLES, scale):
    if value <= 0:
      raise BadInput(f"{path}: scale.{key}={value}: must be above 0, or the role's payoffs vanish")
  for key, value in zip(ACTIONS, tokens):
    if value < 0:
      raise BadInput(f"{path}: tokens.{key}={value}: must be at least 0")
  return Pricing(
    name=name,
    scale=scale,
    shift=tuple(_numbers(path, f"shift.{a}", shift, ROLES, (0.0, 0.0)) for a in ACTIONS),
    price=_numbers(path, "price", table, ROLES, (0.0, 0.0)),
    tokens=tokens,
  )


def _section(path: Path, key: str, table: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
  """What `table` holds under the last part of the dotted `key`: a table with some of `names`."""
  value = table.get(key.rpartition(".")[2], {})  # all keys are optional
  if not isinstance(value, dict):
    raise BadInput(f"{path}: {key}={value!r} must be a table, such as {{ LLM = 0.0 }}")
  _known(path, f"{key}.", value, names)
  return value


def _numbers(path: Path, key: str, table: dict[str, Any], names: tuple[str, ...], default) -> Any:
  """The section's values of `names` in order, each a finite number; absent ones by `default`."""
  section = _section(path, key, table, names)
  for name, value in section.items():
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) <= LARGEST:  # also NaN, and integers too long for a float
      raise BadInput(f"{path}: {key}.{name}={value!r} must be a number within +-{LARGEST:g}")
  return tuple(float(section.get(name, default[i])) for i, name in enumerate(names))


def _known(path: Path, prefix: str, table: dict[str, Any], names: tuple[str, ...]) -> None:
  for key in table:
    if key not in names:
      near = difflib.get_close_matches(key, names, n=1, cutoff=0.4)  # below 0.6: keys are short
      hint = f"; did you mean {prefix}{near[0]}?" if near else ""
      raise BadInput(f"{path}: unknown key {prefix}{key} (known: {', '.join(names)}){hint}")
