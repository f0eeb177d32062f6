"""`report.html` of a work directory: one file without scripts or references to the network."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from gtalign_jax import __version__, files
from gtalign_jax import config as configs
from gtalign_jax.game import paired
from gtalign_jax.report import chains, charts, conversations, decides, measured, results, template
from gtalign_jax.report.labels import ACTION_WORDS, colour, label
from gtalign_jax.report.results import Report, Row
from gtalign_jax.rewards import chain
from gtalign_jax.rewards.tasks import accuracy
from gtalign_jax.types import ACTIONS, has_payoff

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
  path = report.workdir / "report.html"
  devices = jax.devices()  # the run's own, where a run writes its report
  files.replace(path, render(report, f"{len(devices)} x {devices[0].device_kind}"))
  return path


def render(report: Report, devices: str = "") -> str:
  """The page. devices: what the run computes on, "" where that is not known."""
  return template.filled("page.html", _facts(report) | {"facts": _head(report, devices)})


def _facts(report: Report) -> dict[str, Any]:
  """What the template shows, by the names that it has there."""
  policies, mode = results.policies(report), _mode(report)
  newest = next(iter(report.rows.values()), [])
  single = [row for row in newest if not conversations.turns(row)]
  talks = conversations.samples(newest, mode)
  columns, rows = results.grid(policies)
  spent = {name: value for name, value in report.seconds.items() if value > 0}
  return {
    "name": report.workdir.name,
    "columns": columns,
    "policies": rows,
    "plays": any(has_payoff(chains.form_of(row)) for row in newest or report.trained),
    "tints": [colour(each.name, index) for index, each in enumerate(policies)],
    "rules": _rules(report),
    "differences": results.differences(report),
    "sources": _sources(report),
    "warnings": results.warnings(report.metrics),
    "game": _game(report),
    "curves": charts.curves(report.metrics),
    "note": _note(report),
    "decides": (edited := decides.table(report)),
    "edited_curves": charts.curves(report.metrics, charts.DECIDES) if edited else [],
    "edits": decides.samples(newest),
    "newest": label(next(iter(report.rows), "")),
    "chains": chains.samples(single, mode),
    "talks": talks or conversations.samples(report.trained, mode),
    "evaluated_talks": bool(talks),
    "ended": conversations.table(report),
    "measured": measured.games(newest),
    "actions": ACTION_WORDS.values(),
    "seconds": spent,
    "total": sum(spent.values()),
    "config": configs.flat(report.config),
    "versions": _versions(),
  }


def _head(report: Report, devices: str) -> list[str]:
  config = report.config  # as it was written: an older version may lack a key
  steps = ", ".join(
    f"{config.get(phase, {}).get('steps', 0)} {label(phase)} updates" for phase in ("sft", "grpo")
  )
  # with the zone: a run's files are looked at on other machines
  date = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
  return [
    f"model {config.get('model', '?')}", steps, f"seed {config.get('seed', '?')}",
    *_answerers(config), f"gtalign_jax {commit() or __version__}",
    *([devices] if devices else []), date,
  ]  # fmt: skip


def _answerers(config: Row) -> list[str]:
  """Who judged and, in conversations, who answered back. Rules are named as such: they err more."""
  found = [_answerer("judge", config.get("rewards", {}).get("judge", {}))]
  talk = config.get("conversation", {})
  return found + ([_answerer("user", talk.get("user", {}))] if talk.get("turns", 1) > 1 else [])


def _answerer(name: str, section: Row) -> str:
  kind = section.get("kind", "?")
  told = {"rule": "rules", "http": f"model {section.get('model', '?')}"}
  return f"{name}: {told.get(kind, ' '.join((kind, section.get('log') or '')).strip())}"


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


def _rules(report: Report) -> str:
  """How often the judge's rules are right: what "answer" and so W are made of; "" for a model."""
  rewards = report.config.get("rewards", {})
  if rewards.get("judge", {}).get("kind") != "rule":
    return ""
  sources = {str(row.get("data_source")) for part in report.rows.values() for row in part}
  said = accuracy.of_rules(sources, rewards.get("tasks", {}))
  return said[0].upper() + said[1:]


def _sources(report: Report) -> tuple[list[str], list[list[str]]] | None:
  """Welfare by data source: a row per source and a column per policy."""
  # with one source it would repeat the table above
  if not report.compared or len(report.compared["sources"]) < 2:
    return None
  names = [name for name in reversed(report.rows) if name in report.compared["runs"]]
  rows = []
  for source, part in report.compared["sources"].items():
    means = [part["runs"].get(name, {}) for name in names]
    shown = ["-" if m.get("welfare") is None else f"{m['welfare']:.4f}" for m in means]
    rows.append([source, str(means[0].get("n", "-")), *shown])
  return ["source", "prompts", *(f"W {label(name)}" for name in names)], rows


def _game(report: Report) -> list[tuple[str, str]]:
  """(title, SVG) of the utilities and of the actions."""
  found, oldest_first = [], list(reversed(report.rows))
  if names := [name for name in oldest_first if report.runs[name].places]:
    svg = charts.scatter({name: paired.points(report.runs[name]) for name in names})
    found.append(("User and LLM utility, one point a prompt", svg))
  shares = {name: action_shares(report.rows[name], _mode(report)) for name in oldest_first}
  if shares := {name: each for name, each in shares.items() if each}:
    of = [chains.form_of(row) for rows in report.rows.values() for row in rows[:1]]
    title = "Action named by the chain" if any(map(has_payoff, of)) else "Action of the response"
    found.append((title, charts.actions(shares, title)))
  return found


def _mode(report: Report) -> str:
  """How this run reads chains."""
  # the other reading would show as refused what the run rewarded, or the reverse
  return "paper" if report.config.get("rewards", {}).get("mode") == "paper" else "strict"


def action_shares(rows: Sequence[Row], mode: str = "strict") -> dict[str, float]:
  """Share of completions whose chain names a cell of each action; "none" where it names no cell.

  Of chains without a matrix, of those whose response does it. mode: how chains are read, strict or
  paper. {} where no row has a completion.
  """
  named = [_action(row, mode) for row in chains.readable(rows)]
  return {name: named.count(name) / len(named) for name in (*ACTIONS, "none") if named}


def _action(row: Row, mode: str) -> str:
  if not has_payoff(chains.form_of(row)):
    return row["action"] if row.get("action") in ACTIONS else "none"
  # what the analysis says, not what the response does: the choice of the chain itself
  cell = chains.named_cell(chain.parse(row["completion"], mode))
  return "none" if cell is None else ACTIONS[cell % len(ACTIONS)]


def _note(report: Report) -> str:
  window = charts.window(sum(row["phase"] == "grpo" for row in report.metrics))
  # a mean over one update is the update itself: such a run has plain lines only
  strong = f"strong: mean of the last {window} updates; " if window > 1 else ""
  note = (
    f"{'Faint' if strong else 'Lines'}: each update; {strong}dots: held-out prompts, where update "
    "0 is the policy that GRPO started from. W as in the table above; other means are over "
    "completions. Shaded: shortest to longest completion."
  )
  if results.warnings(report.metrics):
    note += " Dotted lines: a warning."
  # a panel that is missing without a word looks like a fault
  if not any(row.get("kl") is not None for row in report.metrics):
    note += " KL to the start policy was not measured (grpo.kl_coef is 0)."
  return note


def _versions() -> dict[str, str]:
  found = {"python": platform.python_version(), "system": platform.platform()}
  found["cores"] = str(os.cpu_count())
  for name in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # an optional one
      found[name] = importlib.metadata.version(name)
  return found
