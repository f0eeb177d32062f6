"""Pictures as PNG files: a comparison's points with their Pareto fronts, a sweep's curves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gtalign_jax.errors import BadInput
from gtalign_jax.game import metrics
from gtalign_jax.game.paired import ScoredRun, points, shared_ids
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.types import ACTION_WORDS


def save_pairs(runs: Sequence[ScoredRun], directory: str | Path) -> list[Path]:
  """Writes `<a>_vs_<b>.png` for every pair; returns the paths. Raises BadInput if it cannot."""
  directory = Path(directory)
  try:
    directory.mkdir(parents=True, exist_ok=True)
    return [_save_pair(a, b, directory) for a, b in itertools.combinations(runs, 2)]
  except OSError as error:
    raise BadInput(f"--plots {directory}: cannot be written ({error.strerror})") from None


def _save_pair(a: ScoredRun, b: ScoredRun, directory: Path) -> Path:
  from matplotlib.figure import Figure  # deferred: slow to import; Figure alone needs no display

  keys = shared_ids(a, b)  # the points that the pair's numbers are made of
  figure = Figure(figsize=(6, 5), layout="constrained")
  axes = figure.subplots()
  clouds = [points(run, keys) for run in (a, b)]
  # a little outside of all points: there the fronts begin and end
  corner = np.concatenate(clouds).min(0) - 0.05 * np.ptp(np.concatenate(clouds), axis=0) - 1e-3
  for run, cloud, colour in zip((a, b), clouds, ("tab:blue", "tab:orange")):
    front = metrics.front(cloud)
    axes.scatter(cloud[:, 0], cloud[:, 1], s=10, alpha=0.4, color=colour, label=_plain(run.name))
    axes.scatter(front[:, 0], front[:, 1], s=28, color=colour)
    # from axis to axis, so that a front of one point is seen as well; in steps, because between two
    # of its points nothing is reached
    line = [[corner[0], front[0, 1]], *front, [front[-1, 0], corner[1]]]
    axes.plot(
      *np.transpose(line), drawstyle="steps-pre", color=colour, label=_plain(f"{run.name}: front")
    )
  axes.set(xlabel="user utility U", ylabel="LLM utility L", title=f"{len(keys)} shared prompts")
  axes.legend()
  path = directory / f"{a.name}_vs_{b.name}.png"
  figure.savefig(path, dpi=120)
  return path


# Okabe and Ito's colours, with markers and dashes: told apart in grey, and without red and green
LOOKS = {
  "DA": ("#0072B2", "o", "-"), "CQ": ("#D55E00", "s", "--"), "AQ": ("#009E73", "^", ":"),
}  # fmt: skip


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
  above.set_title(_plain(f"{policy.name}, {found['questions'] - found['unreadable']} prompts"))
  _curve(
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
    left.set(xlabel=name, title=_plain(f"{source}, {part['n']} prompts"))
    for role, colour, dashes in (("user", "black", "-"), ("llm", "0.5", "--")):
      values, ranges = ([each[key] for each in points] for key in (role, f"{role}_interval"))
      _curve(right, at_V, values, ranges, color=colour, linestyle=dashes, label=role)
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
  for action, (colour, marker, dashes) in LOOKS.items():
    look = dict(color=colour, marker=marker, linestyle=dashes)
    values, ranges = ([each[action] for each in of] for of in (shares_K, ranges_K))
    _curve(axes, x_K, values, ranges, label=ACTION_WORDS[action], **look)
    if best_K:
      label = f"{action}, best by the closed form"
      hollow = look | {"linewidth": 0.8, "markerfacecolor": "white", "label": label}
      axes.plot(x_K, [each[action] for each in best_K], **hollow)
  axes.set(ylabel="share of responses", ylim=(-0.03, 1.03))
  axes.legend(fontsize="small")


def _curve(axes: Any, x_K: Sequence[float], y_K: Sequence[Any], range_K: Any, **look: Any) -> None:
  """A line with a band; places where nothing was measured are left out."""
  rows = [(x, y, *pair) for x, y, pair in zip(x_K, y_K, range_K) if y is not None]
  if rows:
    x, y, low, high = np.transpose(rows)
    axes.plot(x, y, **look)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _plain(name: str) -> str:
  """A label that matplotlib neither hides (leading _) nor reads as a formula ($)."""
  return " " + name.replace("$", r"\$")
