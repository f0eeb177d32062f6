"""`gtalign score IN.jsonl OUT.jsonl [rewards.key=value …]`: scores completions offline."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gtalign_jax import config, files, jsonl
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput
from gtalign_jax.game import paired
from gtalign_jax.rewards import judges, requests, score, tasks
from gtalign_jax.rewards.calibrated import calibrated
from gtalign_jax.rewards.reward import check_verdicts

# columns of a scored row that training needs and INTERFACES does not promise
FACTS = (
  "judge_score", "named_cell", "user_type", "type_label", "action", "pareto", "dilemma",
  "equilibrium_gap", "payoff", "outcome_welfare", "sums",
  "llm_uncalibrated", "true_error_llm", "true_error_user",
)  # fmt: skip
# columns of the input that `compare` and `normalize` group by, count or show
CARRIED = (
  "data_source", "source", "sample", "prompt_tokens", "completion_tokens", "control_tokens",
  "response_tokens",
  "finish_reason",
)  # fmt: skip
# name in the line for people -> metric
SHOWN = {
  "W": "W",
  "U": "rewards/user/mean",
  "L": "rewards/llm/mean",
  "parsed": "chain/parse_rate",
  "without verdict": "judge/invalid_frac",
}


ARGUMENTS: arguments.Declared = {
  "input": dict(metavar="IN.jsonl", help="rows with id, data_source, completion, …"),
  "output": {},
  "overrides": dict(metavar="rewards.key=value"),
  # the config checks the values of the three flags; it has their lists
  "--mode": dict(default="corrected", help="corrected (the default) or paper"),
  "--variant": dict(
    default="cobb_douglas",
    help="what the score is: cobb_douglas (the default), user, llm, linear; with --mode paper "
    "also pareto",
  ),
  "--form": {},
  "--judge": dict(
    default="rule",
    metavar="rule|http|recorded:FILE",
    help="who judges rows without judge_score; http needs rewards.judge.base_url=… and "
    "rewards.judge.model=…",
  ),
  "--set": dict(
    action="append", default=[], metavar="rewards.key=value", help="the same, as a flag"
  ),
}


def run(args: argparse.Namespace) -> int:
  """Scores a file. Writes nothing where a row is malformed (BadInput) or the judge is gone."""
  # rows may be conversations, and then patience counts
  base = config.vary(config.Config(), {"conversation.turns": 2})
  found = config.override(base, _overrides(args))
  settings, form = found.rewards, found.chain.form
  requests.policy(settings)  # a bad policy file is told before a judge is asked
  files.check_output(args.output, [args.input, settings.judge.log])
  lines = jsonl.read(args.input)
  places = [f"{args.input}:{number}" for number, _ in lines]
  rows = [row for _, row in lines]
  for place, row in zip(places, rows, strict=True):
    # True is an int to Python, and would pass for the id 1
    if not isinstance(row.get("id"), (str, int)) or isinstance(row.get("id"), bool):
      raise BadInput(f"{place}: id={str(row.get('id'))[:40]!r} must be text or an integer")
    if settings.tasks:  # built-in tasks are checked with each row; only a trial shows an own one
      tasks.check(row, settings.tasks, settings.mode, place)
  # after the rows: a bad line must not cost a verdict
  judge = judges.make(settings.judge, judges.beside(Path(args.output)))
  try:
    scored = score.score_rows(rows, settings, judge, places, form)
    scored = calibrated(scored, settings.in_form(form))
    told = [{"sample": row.get("sample")} | each for row, each in zip(rows, scored)]
    numbers = {"rows": len(rows), "W": paired.welfare(told)}
    numbers |= score.summarise(rows, scored) | judge.statistics()
  finally:
    judge.close()
  # of eval's rule: means of what a judge that is gone has left would lie. A null in the file is
  # the user's own statement, and counts as no answer of this judge
  asked = [each for row, each in zip(rows, scored) if "judge_score" not in row]
  check_verdicts(asked, settings, str(args.input))
  jsonl.write(args.output, map(_written, rows, scored))
  shown = [f"{name} {numbers[key]:.4f}" for name, key in SHOWN.items() if rows]
  arguments.show(
    args, f"{len(rows)} rows{': ' * bool(rows)}{', '.join(shown)}\n", numbers, alone=True
  )
  return 0


def _written(row: Mapping[str, Any], scored: Mapping[str, Any]) -> dict[str, Any]:
  """The columns of a scored row, and those of its input that say what it is a sample of."""
  columns = {key: value for key, value in scored.items() if key not in FACTS}
  return columns | {key: row[key] for key in CARRIED if key in row}


def _overrides(args: argparse.Namespace) -> list[str]:
  """The flags and the `key=value` of both forms as overrides of a config; the last one wins."""
  kind, _, log = args.judge.partition(":")
  if bool(log) != (kind == "recorded"):
    raise BadInput(f"--judge {args.judge!r} is not one of rule, http, recorded:FILE")
  given = [*args.overrides, *args.set]
  for each in given:
    if not each.startswith("rewards."):
      raise BadInput(f"{each!r}: gtalign score takes rewards.key=value, e.g. rewards.alpha=0.3")
  flags = [f"mode={args.mode}", f"variant={args.variant}", f"judge.kind={kind}"]
  if log:
    flags.append(f"judge.log={log}")
  form = [f"chain.form={args.form}"] if args.form else []
  return [*(f"rewards.{each}" for each in flags), *form, *given]
