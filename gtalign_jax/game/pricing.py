"""Pricing policies: what the service's payment mode does to the payoffs, as explicit affine maps.

    payoff'[u, a, r] = scale[r] payoff[u, a, r] + shift[a, r]
                       - price[r] tokens[a] - price_per_character[r] characters[a]

Every number is data in a `Pricing`; there are no other terms. Edited payoffs are written into the
chain with one decimal, and the choice is made on what is written (FORMULAS: the game). `charge` is
the same price on a response that was written (FORMULAS section 12).
"""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
CHARACTERS = (1200.0, 240.0, 1440.0)  # four a token, as English has them
POINTS = 10.0  # payoff points of one unit of utility: matrices span -5 to 5, utilities 0 to 1


@dataclass(frozen=True, kw_only=True)
class Pricing:
  """One pricing policy; roles are ordered (LLM, user), actions (DA, CQ, AQ).

  scale: factor per role, > 0. shift: payoff points added per action and role. price: payoff points
  a role loses per token (negative: gains). tokens: expected tokens per action.
  price_per_character, characters: likewise. A price per character gives the provider no reason to
  inflate tokens (Velasco et al. 2025, arXiv 2505.21627).
  """

  name: str
  scale: tuple[float, float] = (1.0, 1.0)
  shift: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 3
  price: tuple[float, float] = (0.0, 0.0)
  tokens: tuple[float, float, float] = TOKENS
  price_per_character: tuple[float, float] = (0.0, 0.0)
  characters: tuple[float, float, float] = CHARACTERS


# tables of a policy file, whose numbers are by role or by action (shift is by both)
_SECTIONS = {
  "scale": ROLES, "price": ROLES, "price_per_character": ROLES,
  "tokens": ACTIONS, "characters": ACTIONS,
}  # fmt: skip

PRESETS = {
  "free": Pricing(name="free"),  # nobody pays: the matrix as the chain wrote it
  # A flat fee: tokens cost the user nothing more, the service bears their cost.
  "subscription": Pricing(name="subscription", price=(0.005, 0.0)),
  # Each token is charged to the user, and the service keeps a margin on it.
  "pay_per_token": Pricing(name="pay_per_token", price=(-0.002, 0.01)),
  # The same level of prices, by what the user reads.
  "pay_per_character": Pricing(name="pay_per_character", price_per_character=(-0.0005, 0.0025)),
}


def at_price(pricing: Pricing, price: float) -> Pricing:
  """The policy with all its prices in proportion, the largest of them at `price` (FORMULAS 12).

  So `pay_per_token` at 0.01 is itself, and at 0 charges nothing. Raises BadInput where it has none.
  """
  largest = max(map(abs, (*pricing.price, *pricing.price_per_character)))
  if not largest:
    raise BadInput(f"pricing {pricing.name!r} charges nothing, so no price of it can be swept")

  def scaled(pair: tuple[float, float]) -> tuple[float, float]:
    llm, user = (round(each * price / largest, 12) for each in pair)
    return llm, user

  return replace(
    pricing,
    price=scaled(pricing.price),
    price_per_character=scaled(pricing.price_per_character),
  )


def affine(pricing: Pricing, payoff_BUAR: Array) -> Array:
  """The map above, unrounded; dtype kept."""
  xp, payoff_BUAR = floats(payoff_BUAR)
  matrices.split(payoff_BUAR)  # checks the shape
  dtype = payoff_BUAR.dtype  # of the policy's numbers as well: float64 ones would widen float32
  offset_AR = [
    _offset(pricing, pricing.shift[a], pricing.tokens[a], pricing.characters[a]) for a in range(3)
  ]
  return payoff_BUAR * xp.asarray(pricing.scale, dtype) + xp.asarray(offset_AR, dtype)


def _offset(
  pricing: Pricing, shift_R: tuple[float, float], tokens: float, characters: float
) -> list[float]:
  """Payoff points that a response adds for each role."""
  prices = zip(shift_R, pricing.price, pricing.price_per_character)
  return [shift - token * tokens - character * characters for shift, token, character in prices]


def charge(pricing: Pricing, action: int, tokens: float, characters: float) -> list[float]:
  """What a response adds to the utilities of (LLM, user), in units of utility.

  (shift[action, r] - price[r] tokens - price_per_character[r] characters) / 10. action: index of
  ACTIONS; -1 where it cannot be told, as of no response or of one that asks several questions: each
  role then gets its smallest shift, so that being unclear gains nobody anything. `scale` is not
  read: it is a unit of matrices, not a charge.
  """
  shift_R = pricing.shift[action] if action >= 0 else tuple(map(min, zip(*pricing.shift)))
  return [points / POINTS for points in _offset(pricing, shift_R, tokens, characters)]


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


def load(name_or_file: str, key: str = "pricing") -> Pricing:
  """A preset by name, or the policy of a TOML file (docs/game.md).

  Raises BadInput naming file, key, value and rule; `key` is what a wrong name was given as.
  """
  if name_or_file in PRESETS:
    return PRESETS[name_or_file]
  path = Path(name_or_file)
  # a misspelt preset, most likely: "no such file" would send the user looking for one
  if path.suffix != ".toml" and not path.exists():
    near = difflib.get_close_matches(name_or_file, PRESETS, n=1)
    hint = f"did you mean {near[0]}?" if near else "or give a .toml file"
    raise BadInput(f"{key}={name_or_file!r} is not one of {', '.join(PRESETS)}; {hint}")
  try:
    with path.open("rb") as file:
      found = tomllib.load(file)
  except OSError as error:
    raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
  except ValueError as error:  # TOML syntax or encoding
    raise BadInput(f"{path}: not TOML ({error})") from None
  return from_table(str(path), {"name": path.stem} | found)


@functools.cache  # a file that is edited while a run goes on must not change its rewards
def loaded(name_or_file: str, key: str) -> Pricing:
  """`load`, once a process."""
  return load(name_or_file, key)


def table(pricing: Pricing) -> dict[str, Any]:
  """The policy as the table that `from_table` reads: what is as by default is left out."""
  default = Pricing(name="")
  found: dict[str, Any] = {"name": pricing.name}
  for key, names in _SECTIONS.items():
    if (values := getattr(pricing, key)) != getattr(default, key):
      found[key] = dict(zip(names, values, strict=True))
  if pricing.shift != default.shift:
    found["shift"] = {a: dict(zip(ROLES, pair)) for a, pair in zip(ACTIONS, pricing.shift)}
  return found


def from_table(where: str, table: Mapping[str, Any]) -> Pricing:
  """The policy of a table with the keys of a policy file. where: for errors (BadInput)."""
  _known(where, "", table, ("name", "shift", *_SECTIONS))
  name = table.get("name", "custom")
  if not isinstance(name, str):
    raise BadInput(f"{where}: name={name!r} must be a string")
  shift, default = _section(where, "shift", table, ACTIONS), Pricing(name="")
  values = {
    key: _numbers(where, key, table, names, getattr(default, key))
    for key, names in _SECTIONS.items()
  }
  for key, value in zip(ROLES, values["scale"]):
    if value <= 0:
      raise BadInput(f"{where}: scale.{key}={value}: must be above 0, or the role's payoffs vanish")
  for section in ("tokens", "characters"):
    for key, value in zip(ACTIONS, values[section]):
      if value < 0:
        raise BadInput(f"{where}: {section}.{key}={value}: must be at least 0")
  by_action = tuple(_numbers(where, f"shift.{a}", shift, ROLES, (0.0, 0.0)) for a in ACTIONS)
  return Pricing(name=name, shift=by_action, **values)


def _section(
  where: str, key: str, table: Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, Any]:
  """What `table` holds under the last part of the dotted `key`: a table with some of `names`."""
  value = table.get(key.rpartition(".")[2], {})  # all keys are optional
  if not isinstance(value, dict):
    raise BadInput(f"{where}: {key}={value!r} must be a table, such as {{ LLM = 0.0 }}")
  _known(where, f"{key}.", value, names)
  return value


def _numbers(
  where: str, key: str, table: Mapping[str, Any], names: tuple[str, ...], default
) -> Any:
  """The section's values of `names` in order, each a finite number; absent ones by `default`."""
  section = _section(where, key, table, names)
  for name, value in section.items():
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) <= LARGEST:  # also NaN, and integers too long for a float
      raise BadInput(f"{where}: {key}.{name}={value!r} must be a number within +-{LARGEST:g}")
  return tuple(float(section.get(name, default[i])) for i, name in enumerate(names))


def _known(where: str, prefix: str, table: Mapping[str, Any], names: tuple[str, ...]) -> None:
  for key in table:
    if key not in names:
      near = difflib.get_close_matches(key, names, n=1, cutoff=0.4)  # below 0.6: keys are short
      hint = f"; did you mean {prefix}{near[0]}?" if near else ""
      raise BadInput(f"{where}: unknown key {prefix}{key} (known: {', '.join(names)}){hint}")
