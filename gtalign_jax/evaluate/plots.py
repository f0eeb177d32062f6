"""Pictures of a comparison: each pair's points with their Pareto fronts, as PNG files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

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
  for run, colour in ((a, "tab:blue"), (b, "tab:orange")):
    cloud = points(run, keys)
    axes.scatter(cloud[:, 0], cloud[:, 1], s=10, alpha=0.4, color=colour, label=_plain(run.name))
    # steps: between two points of a front nothing is reached, so no straight line
    axes.plot(*metrics.front(cloud).T, drawstyle="steps-pre", color=colour)
  axes.set(xlabel="user utility U", ylabel="LLM utility L", title=f"{len(keys)} shared prompts")
  axes.legend()
  path = directory / f"{a.name}_vs_{b.name}.png"
  figure.savefig(path, dpi=120)
  return path


def _plain(name: str) -> str:
  """A label that matplotlib neither hides (leading _) nor reads as a formula ($)."""
  return " " + name.replace("$", r"\$")
