"""`gtalign train CONFIG.py [key=value …]` and `gtalign sft`, its warm start alone."""

from __future__ import annotations

import argparse

from gtalign_jax.cli import arguments

ARGUMENTS: arguments.Declared = {"config": {}, "overrides": {}}


def run(args: argparse.Namespace) -> int:
  """Runs the main job and shows its table; `sft` leaves the policy in `<workdir>/model`."""
  config = arguments.load(args)  # a mistake in it is told before jax is loaded
  from gtalign_jax import report
  from gtalign_jax.train import loop

  alone = args.command == "sft"
  workdir = loop.warm_start(config) if alone else loop.train(config)
  if workdir is not None:  # else one of several processes, of which the main one alone speaks
    shown = workdir / "model" if alone else report.table(workdir)
    arguments.show(args, f"{shown}\n", {"workdir": str(workdir), "done": True})
  return 0
