"""`gtalign compare A.jsonl B.jsonl …`: runs against each other, prompt by prompt."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gtalign_jax import files
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput
from gtalign_jax.evaluate import compare, compare_text
from gtalign_jax.game.paired import ScoredRun, compare_runs

ARGUMENTS: arguments.Declared = {
  "files": dict(
    nargs="+",
    help="scored rows (gtalign score, gtalign eval), a file for each run; of a work directory "
    "those of its newest policy",
  ),
  "--epsilon": dict(
    type=float,
    default=0.05,
    help="how far from the common front a point may lie and still count as covered, as a share "
    "of the range of both runs",
  ),
  "--bootstrap": dict(type=int, default=2000, help="resamples behind each interval"),
  "--markdown": dict(metavar="FILE", help="write the tables there, with intervals for every pair"),
  "--html": dict(metavar="FILE", help="write a report over all runs there, as one page"),
  "--runs": dict(
    metavar="DIR",
    help="where the work directories of the files lie, by the name of the run: for the curves of "
    "--html",
  ),
  "--plots": dict(metavar="DIR", help="write pictures (PNG) there: fronts, sources, payoffs"),
}


def run(args: argparse.Namespace) -> int:
  """Prints the comparison, as JSON alone with --json; exit code 0."""
  arguments.check(args, epsilon=0, bootstrap=1)
  if args.plots is not None:
    files.check_folder(args.plots, "--plots")
  if args.runs is not None and args.html is None:
    raise BadInput("--runs is for the curves of --html FILE; give that as well, or leave it out")
  for flag in ("markdown", "html"):
    if (path := getattr(args, flag)) is not None:
      files.check_output(path, args.files, streams=False, name=f"--{flag}")
  lines = compare.read_rows(args.files)
  runs = compare.of_rows(lines, args.files)
  comparison = compare_runs(runs, args.epsilon, args.bootstrap)
  if args.markdown is not None:
    files.replace(args.markdown, compare_text.markdown(comparison))
  if args.html is not None:
    _write_page(args, lines, runs, comparison)
  if args.plots is not None:
    from gtalign_jax.evaluate.pictures import save_comparison  # deferred: matplotlib

    comparison["plots"] = [str(path) for path in save_comparison(runs, lines, args.plots)]
  arguments.show(args, f"{compare_text.table(comparison)}\n", comparison, alone=True)
  return 0


def _write_page(
  args: argparse.Namespace,
  lines: Mapping[str, compare.Lines],
  runs: Sequence[ScoredRun],
  comparison: Mapping[str, Any],
) -> None:
  from gtalign_jax.report import runs as page  # deferred: matplotlib

  beside = [Path(args.runs) / run.name if args.runs else Path(path)
            for run, path in zip(runs, args.files)]  # fmt: skip
  page.write(
    Path(args.html),
    page.Tables(*compare_text.grids(comparison)),
    runs,
    {name: [row for _, row in each] for name, each in lines.items()},
    {run.name: page.metrics_of(workdir) for run, workdir in zip(runs, beside)},
  )
