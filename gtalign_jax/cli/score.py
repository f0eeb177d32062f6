"""`gtalign score IN.jsonl OUT.jsonl [rewards.key=value …]`: scores completions offline."""

from __future__ import annotations

import argparse
import sys

from gtalign_jax import config, jsonl
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput
from gtalign_jax.rewards import judges, score, tasks

# columns of a scored row that training needs and INTERFACES does not promise
FACTS = ("judge_score", "named_cell", "user_type", "pareto", "dilemma", "equilibrium_gap")
# name in the line for people -> metric
SHOWN = {
  "welfare": "rewards/welfare/mean",
  "user": "rewards/user/mean",
  "llm": "rewards/llm/mean",
  "parsed": "chain/parse_rate",
  "without verdict": "judge/invalid_frac",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("input", metavar="IN.jsonl", help="rows with id, data_source, completion, …")
  parser.add_argument("output", metavar="OUT.jsonl", help="one row per completion, in order")
  arguments.overrides(parser, "rewards.key=value")
  # the config checks the values of the three flags; it has their lists
  parser.add_argument("--mode", default="corrected", help="corrected (the default) or paper")
  parser.add_argument(
    "--variant",
    default="cobb_douglas",
    help="what the score is: cobb_douglas (the default), user, llm, linear; with --mode paper "
    "also pareto",
  )
  parser.add_argument(
    "--judge",
    default="rule",
    metavar="rule|http|recorded:FILE",
    help="who judges rows without judge_score; http needs rewards.judge.base_url=… and "
    "rewards.judge.model=…",
  )
  parser.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="rewards.key=value",
    help="the same as rewards.key=value; may be repeated",
  )
  arguments.json_flag(parser)


def run(args: argparse.Namespace) -> int:
  """Scores a file. Writes nothing where a row is malformed: BadInput, with file and line."""
  settings = config.override(config.Config(), _overrides(args)).rewards
  lines = jsonl.read(args.input)
  places = [f"{args.input}:{number}" for number, _ in lines]
  rows = [row for _, row in lines]
  for place, row in zip(places, rows, strict=True):
    # True is an int to Python, and would pass for the id 1
    if not isinstance(row.get("id"), (str, int)) or isinstance(row.get("id"), bool):
      raise BadInput(f"{place}: id={str(row.get('id'))[:40]!r} must be text or an integer")
    if settings.tasks:  # built-in tasks are checked with each row; only a trial shows an own one
      tasks.check(row, settings.tasks, settings.mode, place)
  judge = judges.make(settings.judge)  # after the rows: a bad line must not cost a verdict
  try:
    scored = score.score_rows(rows, settings, judge, places)
    numbers = {"rows": len(rows)} | score.summarise(rows, scored) | judge.statistics()
  finally:
    judge.close()
  jsonl.write(args.output, ({k: v for k, v in each.items() if k not in FACTS} for each in scored))
  sys.stdout.write((jsonl.dumps(numbers) if args.json else _line(numbers)) + "\n")
  return 0


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
  return [*(f"rewards.{each}" for each in flags), *given]


def _line(numbers: dict[str, float]) -> str:
  if not numbers["rows"]:
    return "0 rows"
  shown = ", ".join(f"{name} {numbers[key]:.4f}" for name, key in SHOWN.items())
  return f"{numbers['rows']} rows: {shown}"
