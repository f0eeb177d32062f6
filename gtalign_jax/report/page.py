"""`report.html` of a work directory: one file without scripts or references to the network.

All text that a model, a prompt or a config wrote goes through `escape` where it enters the page.
"""

from __future__ import annotations

import datetime
import html
import importlib.metadata
import os
import platform
import string
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import jax

from gtalign_jax import __version__, files
from gtalign_jax import config as configs
from gtalign_jax.game import paired
from gtalign_jax.report import chains, charts, results
from gtalign_jax.report.labels import colour, label
from gtalign_jax.report.results import Report, Row
from gtalign_jax.rewards import chain
from gtalign_jax.rewards.tasks import accuracy
from gtalign_jax.types import ACTIONS

PACKAGE = Path(__file__).parent.parent
# whose versions a reader needs to repeat the run
PACKAGES = (
  "gtalign-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy",
  "transformers", "tokenizers", "datasets", "tensorflow-datasets", "grain", "math-verify",
  "sacrebleu", "matplotlib", "libtpu",
)  # fmt: skip


def write(workdir: str | Path) -> Path:
  """Writes `report.html`, whole or not at all; returns its path.

  Raises BadInput where the work directory holds no run or a file of it is damaged.
  """
  report = results.load(workdir)
  template = resources.files("gtalign_jax.report").joinpath("page.html").read_text("utf-8")
  # Template, not str.format: the style sheet is full of braces
  text = string.Template(template).substitute(parts(report))
  # lone surrogates that a model wrote have no UTF-8; browsers show &#55296; as a replacement mark
  text = text.encode("utf-8", "xmlcharrefreplace").decode("utf-8")
  path = report.workdir / "report.html"
  files.replace(path, text)
  return path


def escape(value: object) -> str:
  """Text for any place in the page."""
  return html.escape(str(value), quote=True)  # quotes as well, for values of attributes


def parts(report: Report) -> dict[str, str]:
  """The slots of the template: title and body."""
  versions = _details("Versions", _versions())
  sections = [
    _head(report),
    _section("Policies on held-out prompts", _policies(report)),
    _section("Utilities and actions", _game(report)),
    _section("Learning curves", _curves(report)),
    _section("Sample chains", chains.samples(report.rows, _mode(report))),
    _section("Where the time went", _seconds(report.seconds)),
    _section(
      "Config and versions", _details("Config", configs.flat(report.config).items()) + versions
    ),
  ]
  return {"title": escape(f"{report.workdir.name} · GTAlign"), "body": "\n".join(sections)}


def _section(title: str, body: str) -> str:
  # a short run has no curves, a run without evaluation no utilities: no empty headings
  return f"<section><h2>{title}</h2>\n{body}</section>" if body else ""


def _head(report: Report) -> str:
  config = report.config  # as it was written: an older version may lack a key
  steps = ", ".join(
    f"{config.get(phase, {}).get('steps', 0)} {label(phase)} updates" for phase in ("sft", "grpo")
  )
  # with the zone: a run's files are looked at on other machines
  date = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
  facts = [f"model {config.get('model', '?')}", steps, f"seed {config.get('seed', '?')}"]
  facts += [_judge(config), f"gtalign_jax {commit() or __version__}", _device(), date]
  return (
    f"<header><h1>{escape(report.workdir.name)}</h1>"
    f'<p class="soft">{" · ".join(map(escape, facts))}</p></header>'
  )


def _judge(config: Row) -> str:
  """Which judge gave the verdicts. Rules are named as such: they are right less often."""
  judge = config.get("rewards", {}).get("judge", {})
  kind = judge.get("kind", "?")
  named = {"rule": "judge: rules", "http": f"judge: model {judge.get('model', '?')}"}
  return named.get(kind, f"judge: {kind} ({judge.get('log', '?')})")


def commit() -> str:
  """The commit of the package, with -dirty where files differ; "" where it is no checkout."""

  def git(*words: str) -> str:
    told = subprocess.run(["git", "-C", str(PACKAGE), *words], capture_output=True, timeout=10)
    return told.stdout.decode() if told.returncode == 0 else ""

  try:
    # a package installed within somebody else's repository is not a part of it
    tracked = git("ls-files", "--error-unmatch", "__init__.py")
    return git("describe", "--always", "--dirty", "--abbrev=12").strip() if tracked else ""
  except (OSError, subprocess.SubprocessError):
    return ""


def _device() -> str:
  """The devices of this process, which is the run's own where a run writes its report."""
  devices = jax.devices()
  return f"{len(devices)} x {devices[0].device_kind}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A table of cells that are HTML already; the first of each row is its name."""
  lines = [
    f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{each}</td>" for each in rest) + "</tr>"
    for name, *rest in rows
  ]
  top = "".join(f'<th scope="col">{each}</th>' for each in head)
  return f'<div class="wide"><table><tr>{top}</tr>{"".join(lines)}</table></div>'


def _policies(report: Report) -> str:
  found = results.policies(report)
  if not found:
    return "<p>No policy was evaluated.</p>"
  rows = []
  for index, policy in enumerate(found):
    first, *rest = map(escape, results.cells(policy))
    dot = f'<span class="dot" style="background:{colour(policy.name, index)}"></span>'
    rows.append([dot + first, *rest])  # the dot is the legend of the charts below
  text = _table([head for head, _ in results.COLUMNS], rows)
  text += (
    '<p class="soft">W = √(U·L), U, L: means over prompts, the completions of a prompt averaged '
    "first. Parse rate: share of completions whose chain is read strictly. Every policy sees the "
    "same prompts with the same sampling seeds.</p>"
  )
  rewards = report.config.get("rewards", {})
  if rewards.get("judge", {}).get("kind") == "rule":  # what "answer" and so W are made of
    sources = {str(row.get("data_source")) for part in report.rows.values() for row in part}
    said = accuracy.of_rules(sources, rewards.get("tasks", {}))
    text += f'<p class="soft">{escape(said[0].upper() + said[1:])}.</p>'
  for each in results.differences(report):
    tone = "verdict open" if each.is_open else "verdict"
    text += f'<p class="{tone}">{escape(each.words)}</p>'
  return text + _sources(report)


def _sources(report: Report) -> str:
  """Welfare by data source: a row per source and a column per policy."""
  # with one source it would repeat the table above
  if not report.compared or len(report.compared["sources"]) < 2:
    return ""
  names = [name for name in reversed(report.rows) if name in report.compared["runs"]]
  rows = []
  for source, part in report.compared["sources"].items():
    means = [part["runs"].get(name, {}) for name in names]
    shown = ["-" if m.get("welfare") is None else f"{m['welfare']:.4f}" for m in means]
    rows.append([escape(source), str(means[0].get("n", "-")), *shown])
  heads = [f"W {escape(label(name))}" for name in names]
  return "<h3>By source</h3>" + _table(["source", "prompts", *heads], rows)


def _game(report: Report) -> str:
  text, names = "", [name for name in reversed(report.rows) if report.runs[name].places]
  if names:
    svg = charts.scatter({name: paired.points(report.runs[name]) for name in names})
    text += _figure("User and LLM utility, one point a prompt", svg)
  shares = {name: action_shares(report.rows[name], _mode(report)) for name in reversed(report.rows)}
  if shares:
    text += _figure("Action named by the chain", charts.actions(shares))
  return f'<div class="grid two">{text}</div>' if text else ""


def _mode(report: Report) -> str:
  """How this run reads chains."""
  # the other reading would show as refused what the run rewarded, or the reverse
  return "paper" if report.config.get("rewards", {}).get("mode") == "paper" else "strict"


def action_shares(rows: Sequence[Row], mode: str = "strict") -> dict[str, float]:
  """Share of completions whose chain names a cell of each action; "none" where it names no cell.

  mode: how chains are read, strict or paper.
  """
  counts = dict.fromkeys((*ACTIONS, "none"), 0)
  for row in rows:
    # what the analysis says, not what the response does: the choice of the chain itself
    cell = chains.named_cell(chain.parse(row["completion"], mode))
    counts["none" if cell is None else ACTIONS[cell % len(ACTIONS)]] += 1
  return {name: count / max(1, len(rows)) for name, count in counts.items()}


def _figure(title: str, svg: str) -> str:
  return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def _curves(report: Report) -> str:
  figures = [_figure(title, svg) for title, svg in charts.curves(report.metrics)]
  if not figures:
    return ""
  window = charts.window(sum(row["phase"] == "grpo" for row in report.metrics))
  # a mean over one update is the update itself: such a run has plain lines only
  strong = f"strong: mean of the last {window} updates; " if window > 1 else ""
  note = (
    f"{'Faint' if strong else 'Lines'}: each update; {strong}dots: held-out prompts, where update "
    "0 is the policy that GRPO started from. W as in the table above; other means are over "
    "completions. Shaded: shortest to longest completion."
  )
  # a panel that is missing without a word looks like a fault
  if not any(row.get("kl") is not None for row in report.metrics):
    note += " KL to the start policy was not measured (grpo.kl_coef is 0)."
  return f'<div class="grid">{"".join(figures)}</div><p class="soft">{note}</p>'


def _seconds(seconds: Mapping[str, float]) -> str:
  total = sum(seconds.values())
  if not total:
    return ""
  rows = ""
  for name, value in seconds.items():
    percent = 100 * value / total
    bar = f'<td class="graph"><span class="bar" style="width:{percent:.1f}%"></span></td>'
    if value > 0:  # a phase that the run did not have
      name = f'<th scope="row">{escape(name)}</th>'
      rows += f"<tr>{name}<td>{value:.1f} s</td><td>{percent:.0f} %</td>{bar}</tr>"
  return f'<div class="wide"><table>{rows}</table></div><p class="soft">In all {total:.0f} s.</p>'


def _details(title: str, pairs: Iterable[tuple[str, object]]) -> str:
  lines = "".join(
    f"<div><span>{escape(key)}</span><span>{escape(value)}</span></div>" for key, value in pairs
  )
  return f'<details open><summary>{title}</summary><div class="keys">{lines}</div></details>'


def _versions() -> list[tuple[str, str]]:
  found = [("python", platform.python_version()), ("system", platform.platform())]
  found.append(("cores", str(os.cpu_count())))
  for name in PACKAGES:
    try:
      found.append((name, importlib.metadata.version(name)))
    except importlib.metadata.PackageNotFoundError:
      continue  # an optional package that this run did without
  return found
