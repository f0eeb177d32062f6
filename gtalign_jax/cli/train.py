"""`gtalign train CONFIG.py [key=value …]`, and what it shares with `gtalign sft`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from gtalign_jax.config import Config, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("config", metavar="CONFIG.py")
  parser.add_argument("overrides", nargs="*", metavar="key=value")
  parser.add_argument("--json", action="store_true", help="last line of stdout: one JSON object")


def run(args: argparse.Namespace) -> int:
  """Runs the main job and shows its table."""

  def job(config: Config) -> tuple[Path | None, str]:
    from gtalign_jax import report
    from gtalign_jax.train import loop

    workdir = loop.train(config)
    return workdir, "" if workdir is None else report.table(workdir)

  return finish(args, job)


def finish(args: argparse.Namespace, job: Callable[[Config], tuple[Path | None, str]]) -> int:
  """Loads the config, runs `job` (config -> work directory, what to show), shows it; exit code.

  The job imports what it needs when it runs: a mistake in the config is told before jax is loaded.
  """
  workdir, shown = job(load(args.config, args.overrides))
  if workdir is None:  # one of several processes, and not the main one, which alone speaks
    return 0
  sys.stdout.write(f"{shown}\n")
  if args.json:
    sys.stdout.write(json.dumps({"workdir": str(workdir), "done": True}) + "\n")
  return 0
