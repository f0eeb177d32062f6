"""`gtalign compare A.jsonl B.jsonl …`: runs against each other on (user, LLM) points."""

from __future__ import annotations

import argparse

from gtalign_jax import files
from gtalign_jax.cli import arguments
from gtalign_jax.evaluate.compare import read_runs, table
from gtalign_jax.game.paired import compare_runs

ARGUMENTS: arguments.Declared = {
  "files": dict(nargs="+", help="scored rows (gtalign score, gtalign eval), one file per run"),
  "--epsilon": dict(
    type=float,
    default=0.05,
    help="how far from the common front a point may lie and still count as covered, as a share "
    "of the range of both runs",
  ),
  "--bootstrap": dict(type=int, default=2000, help="resamples behind each interval"),
  "--plots": dict(metavar="DIR", help="write a PNG of every pair of runs there"),
}


def run(args: argparse.Namespace) -> int:
  """Prints the comparison, as JSON alone with --json; exit code 0."""
  arguments.check(args, epsilon=0, bootstrap=1)
  if args.plots is not None:
    files.check_folder(args.plots, "--plots")
  runs = read_runs(args.files)
  comparison = compare_runs(runs, args.epsilon, args.bootstrap)
  if args.plots is not None:
    from gtalign_jax.evaluate.plots import save_pairs  # deferred: matplotlib

    comparison["plots"] = [str(path) for path in save_pairs(runs, args.plots)]
  arguments.show(args, f"{table(comparison)}\n", comparison, alone=True)
  return 0
