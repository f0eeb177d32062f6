"""Pictures of a comparison as PNG files, legible in grey and without red and green."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gtalign_jax.errors import BadInput
from gtalign_jax.evaluate.compare import RESAMPLES, Lines
from gtalign_jax.evaluate.plots import plain
from gtalign_jax.game import metrics, paired
from gtalign_jax.game.paired import ScoredRun
from gtalign_jax.looks import look
from gtalign_jax.rewards import parts
from gtalign_jax.types import ACTION_WORDS, ACTIONS, ROLES, USER_TYPES

SEEN = 3  # completions of a bin of payoffs: fewer say nothing of it
SWEPT = ("alpha", "price")  # what `gtalign eval --sweep` has moved


def save_comparison(
  runs: Sequence[ScoredRun], lines: Mapping[str, Lines], directory: str | Path
) -> list[Path]:
  """Writes the pictures that the rows have numbers for; returns their paths.

  pareto.png, welfare.png, payoffs.png, steering.png. lines: the rows of each run. Raises BadInput
  where the directory cannot be written.
  """
  rows = {name: [row for _, row in each] for name, each in lines.items()}
  drawn = {
    "pareto": _pareto(runs), "welfare": _welfare(runs), "payoffs": _payoffs(rows),
    "steering": _steering(rows),
  }  # fmt: skip
  directory, found = Path(directory), []
  try:
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
      if figure is not None:
        figure.savefig(directory / f"{name}.png", dpi=150)
        found.append(directory / f"{name}.png")
  except OSError as error:
    raise BadInput(f"--plots {directory}: cannot be written ({error.strerror})") from None
  return found


def _axes(count: int, size: tuple[float, float]) -> tuple[Any, Sequence[Any]]:
  from matplotlib.figure import Figure  # deferred: slow to import; Figure alone needs no display

  figure = Figure(figsize=size, layout="constrained")
  axes = figure.subplots(1, count, squeeze=False)[0]
  for each in axes:
    each.grid(color="0.9", linewidth=0.6)
    each.set_axisbelow(True)
    each.spines[["top", "right"]].set_visible(False)
  return figure, axes


def _legend(figure: Any, axes: Any, count: int) -> None:
  """Below the panels: names of runs are long, and a box inside would hide points."""
  figure.legend(
    *axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(count, 3), fontsize=8
  )


def _pareto(runs: Sequence[ScoredRun]) -> Any:
  """(U, L) of every prompt that all runs share, the front of each run in steps, its mean large."""
  shared = [each for each in runs[0].places if all(each in run.places for run in runs)]
  clouds = [paired.points(run, shared or None) for run in runs]
  every = np.concatenate(clouds)
  # a little outside of all points: there the fronts begin and end
  corner = every.min(0) - 0.05 * np.ptp(every, axis=0) - 1e-3
  figure, (axes,) = _axes(1, (6.5, 6))
  for i, (run, cloud) in enumerate(zip(runs, clouds)):
    own, front = look(i), metrics.front(cloud)
    faint = max(0.12, 0.5 / len(runs))
    axes.scatter(*cloud.T, s=9, alpha=faint, color=own.color, marker=own.marker, linewidths=0)
    # from axis to axis, so that a front of one point is seen as well; in steps, because between two
    # of its points nothing is reached
    steps = [[corner[0], front[0, 1]], *front, [front[-1, 0], corner[1]]]
    line = dict(color=own.color, linestyle=own.linestyle, linewidth=1.4)
    axes.plot(*np.transpose(steps), drawstyle="steps-pre", **line)
    axes.scatter(*front.T, s=22, color=own.color, marker=own.marker)
    dot = dict(color=own.color, marker=own.marker, markeredgecolor="black", markersize=11)
    axes.plot(*cloud.mean(0), linestyle=own.linestyle, label=plain(run.name), **dot)
  number = f"{len(shared)} shared prompts" if shared else "all prompts of each run"
  axes.set(xlabel="user utility U", ylabel="LLM utility L")
  axes.set_title(f"{number}; lines: Pareto fronts, large marks: means", fontsize=10)
  _legend(figure, axes, len(runs))
  return figure


def _welfare(runs: Sequence[ScoredRun]) -> Any:
  """W, and outcome welfare where rows have it, by source, with the intervals."""
  sources = sorted({each for run in runs for each in run.source if each})
  titles = {"welfare": "W = √(U·L)", "outcome": "outcome welfare"}
  parts_of = {"all": list(runs)}
  if len(sources) > 1:
    parts_of |= {name: [paired.restricted(run, name) for run in runs] for name in sources}
  found = {
    name: [paired.intervals(run, RESAMPLES) if run.places else {} for run in part]
    for name, part in parts_of.items()
  }
  kept = [key for key in titles if any(key in each for part in found.values() for each in part)]
  figure, panels = _axes(len(kept), (1 + 4.5 * len(kept), 4.8))
  for axes, key in zip(panels, kept):
    for i, run in enumerate(runs):
      shift = (i - (len(runs) - 1) / 2) * 0.7 / len(runs)
      told = [(x + shift, part[i][key]) for x, part in enumerate(found.values()) if key in part[i]]
      mean = np.array([each["mean"] for _, each in told])
      ends = np.array([[each["low"], each["high"]] for _, each in told]).reshape(-1, 2).T
      axes.errorbar(
        [x for x, _ in told], mean, yerr=abs(ends - mean), label=plain(run.name), capsize=2,
        color=look(i).color, marker=look(i).marker, linestyle="", markersize=6, linewidth=1.2,
      )  # fmt: skip
    axes.set_xticks(range(len(found)), [plain(each) for each in found], rotation=20)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"{titles[key]}, 95 % intervals", fontsize=10)
  _legend(figure, panels[0], len(runs))
  return figure


def _payoffs(rows: Mapping[str, Sequence[parts.Row]]) -> Any:
  """What chains predict of their own action against what came of it, by point; None without any.

  On the diagonal the matrix tells the truth.
  """
  played = {name: _predictions(each) for name, each in rows.items()}
  if not any(map(len, played.values())):
    return None
  figure, panels = _axes(len(ROLES), (9, 5))
  for r, (axes, role) in enumerate(zip(panels, ROLES)):
    axes.plot([-5, 5], [-5, 5], color="0.6", linewidth=1, linestyle=":")
    for i, (name, pairs_N2R) in enumerate(played.items()):
      said_N, came_N = pairs_N2R[:, :, r].T if len(pairs_N2R) else np.zeros((2, 0))
      bin_N = np.rint(said_N).clip(-5, 5).astype(int) + 5
      n_K = np.bincount(bin_N, minlength=11)
      kept = n_K >= SEEN
      mean_2K = [np.bincount(bin_N, x, 11)[kept] / n_K[kept] for x in (said_N, came_N)]
      axes.plot(*mean_2K, label=plain(name), markersize=6, linewidth=1.2, **look(i)._asdict())
    axes.set(xlabel=f"payoff written for the {role}", ylabel="payoff realised, 10 R - 5")
    axes.set(xlim=(-5.3, 5.3), ylim=(-5.3, 5.3), aspect="equal")
  _legend(figure, panels[0], len(played))
  return figure


def _predictions(rows: Sequence[parts.Row]) -> np.ndarray:
  """[N, 2, R]: (written, realised) of the action of each judged row, on the matrix's scale."""
  found = []
  for row in rows:
    if row.keys() >= parts.GAME and parts.judged(row) and row["user_type"] and row["action"]:
      at = USER_TYPES.index(row["user_type"]), ACTIONS.index(row["action"])
      came = [10 * each - 5 for each in parts.utility(row)]
      found.append([np.reshape(row["payoff"], (2, 3, 2))[at].tolist(), came])
  return np.array(found).reshape(-1, 2, len(ROLES))


def _steering(rows: Mapping[str, Sequence[parts.Row]]) -> Any:
  """Shares of the actions against the price or the weight that prompts state; None without any."""
  found = {name: _swept(each) for name, each in rows.items()}
  names = sorted({name for each in found.values() for name, _ in each})
  if not names:
    return None
  figure, panels = _axes(len(ACTIONS), (11, 4))
  for axes, action in zip(panels, ACTIONS):
    for i, (run, points) in enumerate(found.items()):
      at = sorted(value for name, value in points if name == names[0])
      shares = [np.mean([each == action for each in points[names[0], value]]) for value in at]
      axes.plot(at, shares, label=plain(run), **look(i)._asdict())
    axes.set(title=ACTION_WORDS[action], xlabel=names[0], ylim=(-0.03, 1.03))
  panels[0].set_ylabel("share of completions")
  _legend(figure, panels[0], len(found))
  return figure


def _swept(rows: Sequence[parts.Row]) -> dict[tuple[str, float], list[str | None]]:
  """(what was swept, its value) -> the actions of the completions with a verdict."""
  found: dict[tuple[str, float], list[str | None]] = {}
  for row in rows:
    extra = row.get("extra_info")
    told = extra.get("sweep") if isinstance(extra, Mapping) else None
    if not isinstance(told, Mapping) or row.get("user_reward") is None:
      continue
    for name in SWEPT:
      if isinstance(told.get(name), (int, float)):
        found.setdefault((name, told[name]), []).append(row.get("action"))
  return found
