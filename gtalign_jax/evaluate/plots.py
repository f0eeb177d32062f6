"""Pictures of a comparison: each pair's points with their Pareto fronts, as PNG files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gtalign_jax.errors import BadInput
from gtalign_jax.game import metrics
from gtalign_jax.game.paired import ScoredRun, points, shared_ids


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


def _plain(name: str) -> str:
  """A label that matplotlib neither hides (leading _) nor reads as a formula ($)."""
  return " " + name.replace("$", r"\$")
