"""The sections of `report.html` as HTML text; everything from outside goes through `escape`."""

from __future__ import annotations

import datetime
import html
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gtalign_jax import config as configs
from gtalign_jax.evaluate import compare, report_chain, report_charts
from gtalign_jax.evaluate import report as reports
from gtalign_jax.game import metrics
from gtalign_jax.rewards import chain
from gtalign_jax.types import ACTIONS

PACKAGES = (
  "gtalign-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy",
  "transformers", "tokenizers", "datasets", "tensorflow-datasets", "grain", "math-verify",
  "sacrebleu", "matplotlib", "libtpu",
)  # fmt: skip


def escape(value: Any) -> str:
  """Text for any place in the page."""
  return html.escape(str(value), quote=True)


def parts(report: reports.Report) -> dict[str, str]:
  """The slots of the template: title and body."""
  sections = [
    _head(report),
    _section("Policies on held-out prompts", _policies(report)),
    _section("Utilities and actions", _game(report)),
    _section("Learning curves", _curves(report)),
    _section("Sample chains", report_chain.samples(report.rows, _mode(report))),
    _section("Where the time went", _seconds(report.seconds)),
    _section("Config and versions", _config(report.config) + _versions()),
  ]
  return {"title": escape(f"{report.workdir.name} · GTAlign"), "body": "\n".join(sections)}


def _section(title: str, body: str) -> str:
  return f"<section><h2>{title}</h2>\n{body}</section>" if body else ""


def _head(report: reports.Report) -> str:
  config = report.config
  steps = ", ".join(
    f"{config.get(phase, {}).get('steps', 0)} {name} updates"
    for phase, name in (("sft", "SFT"), ("grpo", "GRPO"))
  )
  date = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
  facts = [f"model {config.get('model', '?')}", steps, f"seed {config.get('seed', '?')}", date]
  return (
    f"<header><h1>{escape(report.workdir.name)}</h1>"
    f'<p class="soft">{" · ".join(map(escape, facts))}</p></header>'
  )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> str:
  """A table of cells that are HTML already; the last column is prose if `words`."""
  top = "".join(f"<th>{each}</th>" for each in head)
  lines = []
  for row in rows:
    last = f'<td class="words">{row[-1]}</td>' if words else f"<td>{row[-1]}</td>"
    lines.append("<tr>" + "".join(f"<td>{each}</td>" for each in row[:-1]) + last + "</tr>")
  return f'<div class="wide"><table><tr>{top}</tr>{"".join(lines)}</table></div>'


def _dot(policy: str, index: int = 0) -> str:
  return f'<span class="dot" style="background:{report_charts.colour(policy, index)}"></span>'


def _policies(report: reports.Report) -> str:
  found = reports.policies(report)
  if not found:
    return "<p>No policy was evaluated.</p>"
  rows = []
  for index, policy in enumerate(found):
    first, *rest = map(escape, reports.cells(policy))
    rows.append([_dot(policy["name"], index) + first, *rest])
  text = _table([head for head, _, _ in reports.COLUMNS], rows)
  text += (
    '<p class="soft">W = √(U·L), U, L: means over prompts, the completions of a prompt averaged first. '
    "Parse rate: share of completions whose chain is read strictly. Every policy sees the same "
    "prompts with the same sampling seeds.</p>"
  )
  for each in reports.differences(report):
    tone = "verdict open" if each.is_open else "verdict"
    text += f'<p class="{tone}">{escape(each.words)}</p>'
  return text + _sources(report)


def _sources(report: reports.Report) -> str:
  """Welfare by data source, a line a source and a column a policy."""
  if not report.compared or len(report.compared["sources"]) < 2:
    return ""
  names = [name for name in reversed(report.rows) if name in report.compared["runs"]]
  rows = []
  for source, part in report.compared["sources"].items():
    means = [part["runs"].get(name, {}) for name in names]
    shown = ["-" if m.get("welfare") is None else f"{m['welfare']:.4f}" for m in means]
    rows.append([escape(source), str(means[0].get("n", "-")), *shown])
  heads = [f"W {escape(reports.label(name))}" for name in names]
  return "<h3>By source</h3>" + _table(["source", "prompts", *heads], rows)


def _game(report: reports.Report) -> str:
  names = [name for name in reversed(report.rows) if report.runs[name].index]
  text = ""
  if names:
    clouds = {name: compare.points(report.runs[name]) for name in names}
    fronts = {name: metrics.front(cloud) for name, cloud in clouds.items()}
    means = {name: cloud.mean(axis=0) for name, cloud in clouds.items()}
    title = "User and LLM utility, one point a prompt"
    text += _figure(title, report_charts.scatter(clouds, fronts, means))
  shares = {name: action_shares(report.rows[name], _mode(report)) for name in reversed(report.rows)}
  if shares:
    text += _figure("Action named by the chain", report_charts.actions(shares))
  return f'<div class="grid two">{text}</div>' if text else ""


def _mode(report: reports.Report) -> str:
  """How this run reads chains."""
  return "paper" if report.config.get("rewards", {}).get("mode") == "paper" else "strict"


def action_shares(rows: Sequence[Mapping[str, Any]], mode: str = "strict") -> dict[str, float]:
  """Share of completions whose chain names a cell of each action; "none" where it names no cell.

  mode: how chains are read, strict or paper.
  """
  counts = dict.fromkeys((*ACTIONS, "none"), 0)
  for row in rows:
    cell = report_chain.named_cell(chain.parse(row["completion"], mode))
    counts["none" if cell is None else ACTIONS[cell % len(ACTIONS)]] += 1
  return {name: count / max(1, len(rows)) for name, count in counts.items()}


def _figure(title: str, svg: str) -> str:
  return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def _curves(report: reports.Report) -> str:
  figures = [_figure(title, svg) for title, svg in report_charts.curves(report.metrics)]
  if not figures:
    return ""
  steps = sum(row["phase"] == "grpo" for row in report.metrics)
  window = report_charts.window(steps)
  strong = f"strong: mean of the last {window} updates; " if window > 1 else ""
  note = (
    f"{'Faint' if strong else 'Lines'}: each update; {strong}dots: held-out prompts, where update 0 is the policy "
    "that GRPO started from. Means are over completions. Shaded: shortest to longest completion."
  )
  if not any(row.get("kl") is not None for row in report.metrics):
    note += " KL to the start policy was not measured (grpo.kl_coef is 0)."
  return f'<div class="grid">{"".join(figures)}</div><p class="soft">{note}</p>'


def _seconds(seconds: Mapping[str, float]) -> str:
  total = sum(seconds.values())
  if not total:
    return ""
  rows = "".join(
    f"<tr><td>{escape(name)}</td><td>{value:.1f} s</td><td>{100 * value / total:.0f} %</td>"
    f'<td class="graph"><span class="bar" style="width:{100 * value / total:.1f}%"></span></td></tr>'
    for name, value in seconds.items()
    if value > 0
  )
  return f'<div class="wide"><table>{rows}</table></div><p class="soft">In all {total:.0f} s.</p>'


def _pairs(pairs: Iterable[tuple[str, Any]]) -> str:
  lines = "".join(
    f"<div><span>{escape(key)}</span><span>{escape(value)}</span></div>" for key, value in pairs
  )
  return f'<div class="keys">{lines}</div>'


def _config(config: Mapping[str, Any]) -> str:
  return f"<details open><summary>Config</summary>{_pairs(configs.flat(config).items())}</details>"


def _versions() -> str:
  found = [("python", platform.python_version()), ("system", platform.platform())]
  found.append(("cores", str(os.cpu_count())))
  for name in PACKAGES:
    try:
      found.append((name, importlib.metadata.version(name)))
    except importlib.metadata.PackageNotFoundError:
      continue  # an optional package that this run did without
  return f"<details open><summary>Versions</summary>{_pairs(found)}</details>"
