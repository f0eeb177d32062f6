"""`gtalign compare A.jsonl B.jsonl …`: runs against each other on (user, LLM) points."""

from __future__ import annotations

import argparse
import sys

from gtalign_jax import jsonl
from gtalign_jax.evaluate.compare import read_runs, table
from gtalign_jax.game.paired import compare_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "files", nargs="+", help="scored rows (gtalign score, gtalign eval), one file a run"
  )
  parser.add_argument("--epsilon", type=float, default=0.05, help="slack of coverage, in ranges")
  parser.add_argument("--bootstrap", type=int, default=2000, help="resamples of the intervals")
  parser.add_argument("--plots", metavar="DIR", help="write a PNG of every pair there")
  parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
  """Prints the report; exit code 0."""
  runs = read_runs(args.files)
  report = compare_runs(runs, args.epsilon, args.bootstrap)
  if args.plots:
    from gtalign_jax.evaluate.plots import save_pairs

    report["plots"] = [str(path) for path in save_pairs(runs, args.plots)]
  sys.stdout.write((jsonl.dumps(report) if args.json else table(report)) + "\n")
  return 0
