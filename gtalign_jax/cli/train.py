"""`gtalign train CONFIG.py [key=value …]`, and what it shares with `gtalign sft`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from gtalign_jax.cli import arguments
from gtalign_jax.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  arguments.config_file(parser)
  arguments.overrides(parser)
  arguments.json_flag(parser)


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
  workdir, shown = job(arguments.load(args))
  if workdir is None:  # one of several processes, and not the main one, which alone speaks
    return 0
  arguments.show(args, f"{shown}\n", {"workdir": str(workdir), "done": True})
  return 0
