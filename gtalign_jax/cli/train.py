"""`gtalign train CONFIG.py [key=value …]`."""

from __future__ import annotations

import argparse
import json
import sys

from gtalign_jax.config import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("config", metavar="CONFIG.py")
  parser.add_argument("overrides", nargs="*", metavar="key=value")
  parser.add_argument("--json", action="store_true", help="last line of stdout: one JSON object")


def run(args: argparse.Namespace) -> int:
  """Runs the main job and shows its table."""
  config = load(args.config, args.overrides)
  from gtalign_jax import report
  from gtalign_jax.train import loop

  workdir = loop.train(config)
  if workdir is None:  # the main process says it
    return 0
  sys.stdout.write(report.table(workdir) + "\n")
  if args.json:
    sys.stdout.write(json.dumps({"workdir": str(workdir), "done": True}) + "\n")
  return 0
