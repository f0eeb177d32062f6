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


def save_sweep(found: Mapping[str, Any], name: str, path: Path) -> Path:
  """Shares of actions and tokens of the response against the price, with their intervals.

  found: of `steering.measured`; name: of the policy whose price is swept. The closed form's shares,
  where they are known, are thin lines with hollow markers. Raises BadInput where `path` cannot be
  written.
  """
  from matplotlib.figure import Figure  # deferred, as above

  figure = Figure(figsize=(7, 7), layout="constrained")
  above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
  each_K = found["policies"]
  price_K = [each["price"] for each in each_K]
  for action, (colour, marker, dashes) in LOOKS.items():
    _curve(
      above, price_K, [each["actions"][action] for each in each_K],
      [each["actions_interval"][action] for each in each_K],
      color=colour, marker=marker, linestyle=dashes, label=ACTION_WORDS[action],
    )  # fmt: skip
    if "closed_form" in each_K[0]:
      above.plot(
        price_K, [each["closed_form"][action] for each in each_K],
        color=colour, marker=marker, linestyle=dashes, linewidth=0.8, markerfacecolor="white",
        label=f"{action}, best by the closed form",
      )  # fmt: skip
  above.set(ylabel="share of responses", ylim=(-0.03, 1.03))
  above.set_title(_plain(f"{name}, {found['questions'] - found['unreadable']} prompts"))
  above.legend(fontsize="small")
  _curve(
    below, price_K, [each["tokens"] for each in each_K],
    [each["tokens_interval"] for each in each_K], color="black", marker="o",
  )  # fmt: skip
  below.set(xlabel="price, payoff points", ylabel="tokens of a response")
  if found["elasticity"] is not None:
    low, high = found["elasticity_interval"]
    below.set_title(f"elasticity {found['elasticity']:.2f} [{low:.2f}, {high:.2f}]")
  try:
    figure.savefig(path, dpi=150)
  except OSError as error:
    raise BadInput(f"{path}: cannot be written ({error.strerror})") from None
  return path


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
