"""The report's charts: matplotlib figures as inline SVG, with text in the colour of the page."""

from __future__ import annotations

import contextlib
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gtalign_jax.game.metrics import front
from gtalign_jax.looks import look
from gtalign_jax.report.labels import ACTION_WORDS, ENDED_WORDS, TINTS, colour, label
from gtalign_jax.report.results import Row, warnings
from gtalign_jax.types import ACTIONS

# Stand-ins that `_svg` turns into CSS values, so that one SVG suits the light and the dark page;
# colours that nothing else in a figure has.
INK, LINE = "#010203", "#040506"


class Panel(NamedTuple):
  """One learning curve. phase: of its updates; "eval": of evaluations alone.

  lines: (metric, label, colour). held_out: whether evaluations are marked on it. band: metrics of
  its lower and upper edge.
  """

  title: str
  lines: tuple[tuple[str, str, str], ...]
  phase: str = "grpo"
  held_out: bool = False
  band: tuple[str, str] | None = None


GREY, BLUE, ORANGE, VIOLET, GREEN, PINK = TINTS
_UTILITIES = (("rewards/user/mean", "U", GREEN), ("rewards/llm/mean", "L", VIOLET))
_CHAIN = (("rewards/format/mean", "format", GREEN), ("rewards/decision/mean", "decision", ORANGE))
_MATRICES = (("game/payoff_icc", "by prompt", BLUE), ("game/distinct_frac", "distinct", GREY))
_REGRET = (("game/regret", "regret", ORANGE),)
_CALIBRATION = (
  ("game/calibration_error/user", "user", GREEN), ("game/calibration_error/llm", "LLM", VIOLET),
  ("game/true_calibration_error/user", "user, against the truth", BLUE),
  ("game/true_calibration_error/llm", "LLM, against the truth", PINK),
)  # fmt: skip
_TURNS = (("conversation/turns/mean", "turns", BLUE),)
_ENDED = tuple(
  (f"conversation/{each}_frac", words, tint)
  for (each, words), tint in zip(ENDED_WORDS.items(), (GREEN, BLUE, VIOLET, ORANGE, PINK))
)
_LENGTHS = ("completions/min_length", "completions/max_length")
PANELS = (
  Panel("Welfare W", (("W", "W", ORANGE),), held_out=True),
  Panel("Utilities U (user) and L (LLM)", _UTILITIES, held_out=True),
  Panel("Chain: format, decision", _CHAIN, held_out=True),
  Panel("Payoffs: variance by prompt (ICC), distinct", _MATRICES, held_out=True),
  Panel("Regret of the chosen action, in W", _REGRET, held_out=True),
  Panel("Calibration error of the matrices", _CALIBRATION, held_out=True),
  Panel("Turns of a conversation", _TURNS, held_out=True),
  Panel("How conversations ended, shares", _ENDED),
  Panel("Completion length, tokens", (("completions/mean_length", "mean", BLUE),), band=_LENGTHS),
  Panel("KL to the start policy, nats a token", (("kl", "KL", PINK),)),
  Panel("Entropy, nats a token", (("entropy", "entropy", BLUE),)),
  Panel("Gradient norm before clipping", (("grad_norm", "norm", GREY),)),
  Panel("Warm start: loss, nats a token", (("loss", "loss", BLUE),), phase="sft"),
)
# of the section on edited matrices: evaluations alone
DECIDES = (
  Panel(
    "Edited: follow, carry; as it was: hold",
    (("game/follow", "follow", ORANGE), ("game/carry", "carry", BLUE), ("game/hold", "hold", GREY)),
    phase="eval",
  ),
  Panel(
    "Own matrices: ICC, types and sums that are right",
    (
      ("game/payoff_icc", "ICC", BLUE), ("game/type_accuracy", "type", VIOLET),
      ("game/sums_right", "sums", GREEN),
    ),
    phase="eval",
  ),
  Panel("Calibration error of the matrices, held out", _CALIBRATION, phase="eval"),
)  # fmt: skip


def _style() -> contextlib.AbstractContextManager[None]:
  return matplotlib.rc_context({
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "text.parse_math": False,  # a policy may be named $x_1
    "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.edgecolor": LINE, "grid.color": LINE, "grid.linewidth": 0.6,
    "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    # transparent, so that the page's own light or dark ground shows
    "legend.frameon": False, "figure.facecolor": "none", "axes.facecolor": "none",
  })  # fmt: skip


def _svg(figure: Figure, name: str) -> str:
  """The figure as an `<svg>` element without size, network references or duplicate ids.

  name: what screen readers say, and the salt of the ids: the same run gives the same bytes.
  """
  buffer = io.StringIO()
  with matplotlib.rc_context({"svg.hashsalt": name}):
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
  text = buffer.getvalue()
  text = text[text.index("<svg") :]  # without the XML header, which HTML has no place for
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
  # matplotlib numbers the groups of every figure alike; a page may hold each id once
  text = re.sub(r' id="\w+_\d+"', "", text)
  for side in ("width", "height"):  # the style sheet sets the width, the viewBox the height
    text = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", text, count=1)
  text = text.replace("<svg", f'<svg role="img" aria-label="{html.escape(name)}"', 1)
  return text.replace(INK, "currentColor").replace(LINE, "var(--line)")


def series(rows: Sequence[Row], key: str) -> tuple[np.ndarray, np.ndarray]:
  """(steps, values) of the rows that have a number under `key`."""
  # isinstance: a metric is null where nothing could be measured, e.g. no valid row
  points = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), (int, float))]
  return np.asarray([p[0] for p in points], float), np.asarray([p[1] for p in points], float)


def window(steps: int) -> int:
  """Steps in the running mean of a curve: a tenth of the run."""
  return max(1, steps // 10)


def _running_mean(value: np.ndarray) -> np.ndarray:
  """Mean of the last `window` values, of fewer at the start."""
  total = np.concatenate([[0.0], np.cumsum(value)])  # differences of sums: linear in the steps
  end = np.arange(1, len(value) + 1)
  start = np.maximum(0, end - window(len(value)))
  # rounded: what differs by the rounding of sums alone would be drawn as a zigzag
  return ((total[end] - total[start]) / (end - start)).round(12)


def curves(metrics: Sequence[Row], panels: Sequence[Panel] = PANELS) -> list[tuple[str, str]]:
  """(title, SVG) of each panel that the run has numbers for.

  metrics: the rows of metrics.jsonl. Faint: each step; strong: running mean; dots: held-out
  prompts.
  """
  with _style():
    drawn = [(panel.title, _panel(panel, metrics)) for panel in panels]
    return [(title, _svg(figure, title)) for title, figure in drawn if figure is not None]


def _panel(panel: Panel, metrics: Sequence[Row]) -> Figure | None:
  rows = [row for row in metrics if row["phase"] == panel.phase]
  evaluated = [row for row in metrics if row["phase"] == "eval"]
  # GRPO starts from the SFT policy, where there is one: the base policy is then off its curve
  warm = any(row.get("policy") == "sft" for row in evaluated)
  held_out = [row for row in evaluated if not (warm and row.get("policy") == "base")]
  if panel.phase == "eval":
    rows = held_out
  seen = [*rows, *held_out] if panel.held_out else rows
  lines = [line for line in panel.lines if len(series(seen, line[0])[0])]
  if not lines:
    return None
  # inches at 9 points, about the width of a column: the page scales the SVG by little
  figure = Figure(figsize=(4.2, 2.5), layout="constrained")
  axes = figure.add_subplot()
  for key, name, tint in lines:
    step, value = series(rows, key)
    if panel.phase == "eval":
      axes.plot(step, value, "o-", color=tint, markersize=5, linewidth=1.4, label=name)
      continue
    axes.plot(step, value, color=tint, alpha=0.3, linewidth=1)
    if len(step):  # some measures are of evaluations alone
      axes.plot(step, _running_mean(value), color=tint, linewidth=1.8, label=name)
    step, value = series(held_out, key)
    if panel.held_out and len(step):
      axes.plot(step, value, "o", color=tint, markersize=5, label=f"{name}, held out")
  if panel.band:
    (step, low), (_, high) = (series(rows, key) for key in panel.band)
    if len(low) == len(high):  # a damaged row may lack one of the two
      axes.fill_between(step, low, high, color=lines[0][2], alpha=0.15, linewidth=0)
  for update, _ in warnings(rows):
    axes.axvline(update, color=PINK, linestyle=":", linewidth=1.2)
  axes.set_xlabel("warm-start update" if panel.phase == "sft" else "update", fontsize=8)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))  # no update 2.5
  axes.tick_params(length=0, labelsize=8)
  # one line is named by the title, unless that names more
  if len(panel.lines) > 1 or len(axes.get_legend_handles_labels()[0]) > 1:
    axes.legend(fontsize=7.5, loc="best", handlelength=1.4)
  return figure


# of the report over several runs: a line for each run
ACROSS = {
  "Welfare W": "W", "Outcome welfare": "rewards/outcome/mean", "Answer": "rewards/answer/mean",
  "Chains that can be read": "chain/parse_rate",
  "Payoffs: variance by prompt (ICC)": "game/payoff_icc",
  "Regret of the chosen action, in W": "game/regret",
  "Completion length, tokens": "completions/mean_length",
  "Entropy, nats a token": "entropy",
}  # fmt: skip


def across(metrics: Mapping[str, Sequence[Row]]) -> list[tuple[str, str]]:
  """(title, SVG) of each panel of ACROSS that a run has numbers for; metrics: by run.

  Lines: running means of the updates; marks: held-out prompts.
  """
  with _style():
    drawn = [(title, _across(key, metrics)) for title, key in ACROSS.items()]
    found = [(title, _svg(figure, title)) for title, figure in drawn if figure is not None]
    return [("Runs", _svg(_key(list(metrics)), "Runs")), *found] if found else []


def _across(key: str, metrics: Mapping[str, Sequence[Row]]) -> Figure | None:
  figure = Figure(figsize=(4.2, 2.9), layout="constrained")
  axes = figure.add_subplot()
  for index, rows in enumerate(metrics.values()):
    own = look(index)
    step, value = series([row for row in rows if row["phase"] == "grpo"], key)
    if len(step):
      line: dict[str, Any] = dict(color=own.color, linestyle=own.linestyle, linewidth=1.6)
      axes.plot(step, _running_mean(value), **line)
      held_out = [r for r in rows if r["phase"] == "eval" and r.get("policy") == "grpo"]
      axes.plot(*series(held_out, key), own.marker, color=own.color, markersize=5)
  if not axes.lines:
    return None
  axes.set_xlabel("update", fontsize=8)
  axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
  axes.tick_params(length=0, labelsize=8)
  return figure


def _key(names: Sequence[str]) -> Figure:
  """The legend of all panels as one of its own: in each it would hide the curves of many runs."""
  figure = Figure(figsize=(4.2, max(2.9, 0.21 * len(names))))
  axes = figure.add_subplot()
  axes.set_axis_off()
  for index, name in enumerate(names):
    axes.plot([], [], label=label(name), markersize=6, **look(index)._asdict())
  axes.legend(loc="center", fontsize=10, handlelength=3)
  return figure


def scatter(clouds: Mapping[str, np.ndarray]) -> str:
  """(U, L) of every held-out prompt and policy, Pareto fronts as lines, means as large marks.

  clouds: policy -> [N, 2] of (U, L).
  """
  with _style():
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for index, (policy, cloud) in enumerate(clouds.items()):
      tint, own, many = colour(policy, index), look(index), len(clouds) > 3
      faint: dict[str, Any] = dict(s=9 if many else 16, alpha=0.2 if many else 0.45, linewidths=0)
      axes.scatter(*cloud.T, color=tint, marker=own.marker, **faint)
      line: dict[str, Any] = dict(color=tint, linestyle=own.linestyle, linewidth=1.4)
      axes.plot(*front(cloud).T, marker=own.marker, markersize=4, **line)
      mean: dict[str, Any] = dict(marker=own.marker, markersize=9, markeredgecolor=INK)
      # the only mark with a label
      axes.plot(*cloud.mean(axis=0), label=label(policy), **line, **mean)
    axes.set_xlabel("user utility U")
    axes.set_ylabel("LLM utility L")
    axes.tick_params(length=0)
    axes.legend(loc="best", title="mean (line: Pareto front)", title_fontsize=8, fontsize=8.5)
    return _svg(figure, "User and LLM utility of each policy")


def actions(shares: Mapping[str, Mapping[str, float]], title: str) -> str:
  """Share of completions by action. shares: policy -> action or "none" -> fraction."""
  names = (*ACTIONS, "none")
  with _style():
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / max(1, len(shares))  # of a bar; the rest parts one action from the next
    for index, (policy, share) in enumerate(shares.items()):
      # the policies' bars stand side by side, centred on the action's tick
      place = np.arange(len(names)) + (index - (len(shares) - 1) / 2) * width
      height = [share.get(name, 0.0) for name in names]
      bars = axes.bar(place, height, width * 0.92, color=colour(policy, index), label=label(policy))
      axes.bar_label(bars, [f"{100 * each:.0f}" for each in height], fontsize=7.5, padding=1)
    axes.set_xticks(range(len(names)), [*ACTION_WORDS.values(), "none of them"])
    axes.set_ylabel("share of completions, %")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    axes.grid(axis="x", visible=False)
    axes.tick_params(length=0)
    axes.set_ylim(top=1.15 * max(0.1, axes.dataLim.ymax))  # room for the legend above the bars
    axes.legend(loc="upper center", ncols=len(shares))
    return _svg(figure, f"{title}, share of completions")
