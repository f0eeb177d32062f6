"""`gtalign score IN.jsonl OUT.jsonl`: scores completions offline."""

from __future__ import annotations

import argparse
import sys

from gtalign_jax import config, jsonl, sections
from gtalign_jax.errors import BadInput
from gtalign_jax.rewards import judges, score

FACTS = ("judge_score", "named_cell", "user_type", "pareto", "dilemma", "equilibrium_gap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("input", metavar="IN.jsonl", help="rows with id, data_source, completion, …")
  parser.add_argument("output", metavar="OUT.jsonl", help="one row a completion, in order")
  parser.add_argument(
    "overrides", nargs="*", metavar="rewards.key=value", help="any reward setting"
  )
  parser.add_argument("--mode", choices=sections.MODES, default="corrected")
  parser.add_argument(
    "--variant",
    choices=sections.VARIANTS,
    default="cobb_douglas",
    help="pareto: with --mode paper only",
  )
  parser.add_argument(
    "--judge",
    default="rule",
    metavar="rule|http|recorded:FILE",
    help="who judges rows without judge_score; http needs --set rewards.judge.base_url=… --set rewards.judge.model=…",
  )
  parser.add_argument(
    "--set",
    action="append",
    default=[],
    metavar="rewards.key=value",
    help="any other reward setting; may be repeated",
  )
  parser.add_argument("--json", action="store_true", help="print the metrics as one JSON object")


def run(args: argparse.Namespace) -> int:
  """Scores a file. Writes nothing where a row is malformed (BadInput names file and line)."""
  settings = config.override(config.Config(), _assignments(args)).rewards
  lines = jsonl.read(args.input)
  places = [f"{args.input}:{number}" for number, _ in lines]
  rows = [row for _, row in lines]
  for place, row in zip(places, rows, strict=True):
    if not isinstance(row.get("id"), (str, int)) or isinstance(row.get("id"), bool):
      raise BadInput(f"{place}: id={str(row.get('id'))[:40]!r} must be text or an integer")
  judge = judges.make(settings.judge)
  try:
    scored = score.score_rows(rows, settings, judge, places)
    numbers = {"rows": len(rows)} | score.summarise(rows, scored) | judge.statistics()
  finally:
    judge.close()
  jsonl.write(args.output, ({k: v for k, v in each.items() if k not in FACTS} for each in scored))
  if args.json:
    sys.stdout.write(jsonl.dumps(numbers) + "\n")
  else:
    sys.stdout.write(_line(numbers) + "\n")
  return 0


def _assignments(args: argparse.Namespace) -> list[str]:
  kind, _, log = args.judge.partition(":")
  if kind not in sections.JUDGES or (log and kind != "recorded"):
    raise BadInput(f"--judge {args.judge!r} is not one of rule, http, recorded:FILE")
  for each in args.set:
    if not each.startswith("rewards."):
      raise BadInput(f"--set {each!r}: gtalign score takes rewards.key=value")
  given = [f"rewards.mode={args.mode}", f"rewards.variant={args.variant}"]
  given.append(f"rewards.judge.kind={kind}")
  return given + ([f"rewards.judge.log={log}"] if kind == "recorded" else []) + args.set


def _line(numbers: dict[str, float]) -> str:
  shown = {
    "welfare": "rewards/welfare/mean",
    "user": "rewards/user/mean",
    "llm": "rewards/llm/mean",
    "parsed": "chain/parse_rate",
    "without verdict": "judge/invalid_frac",
  }
  if not numbers["rows"]:
    return "0 rows"
  return f"{numbers['rows']} rows: " + ", ".join(
    f"{name} {numbers[key]:.4f}" for name, key in shown.items()
  )
