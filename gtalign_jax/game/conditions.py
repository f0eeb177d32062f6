"""What a request says of its own game: a weight of the user, or a pricing policy (FORMULAS 12).

`extra_info.condition` of a record holds it, so that whoever reads the record (prompt, reward,
report, server) reads the same: `{"alpha": 0.7}`, or `{"pricing": NAME}` with the name of a preset,
or with an object of the keys of a policy file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gtalign_jax.errors import BadInput
from gtalign_jax.game import pricing
from gtalign_jax.game.pricing import Pricing

KEY = "condition"  # of extra_info


class Condition(NamedTuple):
  """alpha: weight of the user's utility in [0, 1]. pricing: the policy. None: as the run has it."""

  alpha: float | None = None
  pricing: Pricing | None = None

  @property
  def label(self) -> str:
    """In a few words, for reports; "" for none."""
    weight = [] if self.alpha is None else [f"alpha {self.alpha:g}"]
    return ", ".join([*weight, *([self.pricing.name] if self.pricing else [])])

  def table(self) -> dict[str, Any]:
    """As a record holds it, JSON-ready."""
    found = {"alpha": self.alpha, "pricing": self.pricing and pricing.table(self.pricing)}
    return {key: value for key, value in found.items() if value is not None}


NONE = Condition()


def of(extra_info: Any, where: str) -> Condition:
  """The condition that a record holds; NONE without one. Raises BadInput, naming `where`."""
  table = extra_info.get(KEY) if isinstance(extra_info, dict) else None
  if not isinstance(table, dict):  # data of others may call a text, or a number, so
    return NONE
  where = f"{where}: extra_info.{KEY}"
  table = _without_none(table)  # columns of parquet hold null where another row has a key
  if unknown := sorted(table.keys() - set(Condition._fields)):
    raise BadInput(
      f"{where}: unknown key {unknown[0]!r}; it holds alpha or pricing (rename the field if it "
      "means something else)"
    )
  alpha = table.get("alpha")
  if alpha is not None:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
      raise BadInput(f"{where}.alpha={alpha!r}: must be a number in [0, 1]")
    alpha = float(alpha)
  return Condition(alpha, _policy(table.get("pricing"), f"{where}.pricing"))


def prices(found: Condition, named: str) -> Pricing | None:
  """What a row is charged: by its own condition, else by the policy of `rewards.pricing`."""
  if found.pricing is None and named:
    return pricing.loaded(named, "rewards.pricing")
  return found.pricing


def _policy(given: Any, where: str) -> Pricing | None:
  if given is None or isinstance(given, Pricing):
    return given
  if isinstance(given, str):
    if given not in pricing.PRESETS:  # no file: a record must mean the same everywhere
      names = ", ".join(pricing.PRESETS)
      raise BadInput(f"{where}={given!r} is not one of {names}, or an object of a policy's keys")
    return pricing.PRESETS[given]
  if not isinstance(given, dict):
    raise BadInput(f"{where}={given!r} must be a name or an object of a policy's keys")
  return pricing.from_table(where, given)


def _without_none(value: Any) -> Any:
  if not isinstance(value, dict):
    return value
  return {key: _without_none(each) for key, each in value.items() if each is not None}
