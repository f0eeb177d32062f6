"""Pictures of sweeps as PNG files, and what all pictures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gtalign_jax.errors import BadInput
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.looks import look
from gtalign_jax.types import ACTION_WORDS, ACTIONS

LOOKS = {action: look(i)._asdict() for i, action in enumerate(ACTIONS)}


def save_sweep(found: Mapping[str, Any], policy: Pricing, path: Path) -> Path:
  """Shares of actions and tokens of the response against the price, with their intervals.

  found: of `steering.measured`; policy: whose price is swept. The closed form's shares, where they
  are known, are thin lines with hollow markers. Raises BadInput where `path` cannot be written.
  """
  from matplotlib.figure import Figure  # deferred, as above

  figure = Figure(figsize=(7, 7), layout="constrained")
  above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
  each_K = found["policies"]
  price_K = [each["price"] for each in each_K]
  known = "closed_form" in each_K[0]
  _actions(
    above, price_K, [each["actions"] for each in each_K],
    [each["actions_interval"] for each in each_K],
    [each["closed_form"] for each in each_K] if known else [],
  )  # fmt: skip
  above.set_title(plain(f"{policy.name}, {found['questions'] - found['unreadable']} prompts"))
  curve(
    below, price_K, [each["tokens"] for each in each_K],
    [each["tokens_interval"] for each in each_K], color="black", marker="o",
  )  # fmt: skip
  unit = "token" if any(policy.price) else "character"
  below.set(xlabel=f"price, payoff points a {unit}", ylabel="tokens of a response")
  if found["elasticity"] is not None:
    low, high = found["elasticity_interval"]
    below.set_title(f"price elasticity {found['elasticity']:.2f} [{low:.2f}, {high:.2f}]")
  try:
    figure.savefig(path, dpi=150)
  except OSError as error:
    raise BadInput(f"{path}: cannot be written ({error.strerror})") from None
  return path


def save_responses(path: Path, name: str, parts: Mapping[str, Mapping[str, Any]]) -> None:
  """Shares of actions, and U with L, against what was swept, a row for each source.

  parts: of `sweep.found`; name: of what was swept. Raises OSError.
  """
  from matplotlib.figure import Figure  # deferred, as above

  drawn = {source: part for source, part in parts.items() if part["points"]}
  rows = max(len(drawn), 1)
  figure = Figure(figsize=(10, 3.5 * rows), layout="constrained")
  for (left, right), (source, part) in zip(figure.subplots(rows, 2, squeeze=False), drawn.items()):
    points = part["points"]
    at_V, ranges_V = [each[name] for each in points], [each["actions_interval"] for each in points]
    best_V = [each["closed_form"] for each in points if "closed_form" in each]
    _actions(left, at_V, [each["actions"] for each in points], ranges_V, best_V)
    left.set(xlabel=name, title=plain(f"{source}, {part['n']} prompts"))
    for role, colour, dashes in (("user", "black", "-"), ("llm", "0.5", "--")):
      values, ranges = ([each[key] for each in points] for key in (role, f"{role}_interval"))
      curve(right, at_V, values, ranges, color=colour, linestyle=dashes, label=role)
    right.set(xlabel=name, ylabel="utility")
    right.legend(fontsize="small")
  figure.savefig(path, dpi=150)


def _actions(
  axes: Any,
  x_K: Sequence[float],
  shares_K: Sequence[Mapping[str, Any]],
  ranges_K: Sequence[Mapping[str, Any]],
  best_K: Sequence[Mapping[str, Any]],
) -> None:
  """Shares of actions with their bands; best_K: by the closed form, thin with hollow markers."""
  for action, own in LOOKS.items():
    values, ranges = ([each[action] for each in of] for of in (shares_K, ranges_K))
    curve(axes, x_K, values, ranges, label=ACTION_WORDS[action], **own)
    if best_K:
      label = f"{action}, best by the closed form"
      hollow = own | {"linewidth": 0.8, "markerfacecolor": "white", "label": label}
      axes.plot(x_K, [each[action] for each in best_K], **hollow)
  axes.set(ylabel="share of responses", ylim=(-0.03, 1.03))
  axes.legend(fontsize="small")


def curve(axes: Any, x_K: Sequence[float], y_K: Sequence[Any], range_K: Any, **look: Any) -> None:
  """A line with a band; places where nothing was measured are left out."""
  rows = [(x, y, *pair) for x, y, pair in zip(x_K, y_K, range_K) if y is not None]
  if rows:
    x, y, low, high = np.transpose(rows)
    axes.plot(x, y, **look)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def plain(name: str) -> str:
  """A label that matplotlib neither hides (leading _) nor reads as a formula ($)."""
  return " " + name.replace("$", r"\$")
