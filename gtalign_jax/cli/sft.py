"""`gtalign sft CONFIG.py [key=value …]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gtalign_jax.cli import train
from gtalign_jax.cli.train import add_arguments as add_arguments
from gtalign_jax.config import Config


def run(args: argparse.Namespace) -> int:
  """Runs the supervised warm start; the policy is then in `<workdir>/model`."""

  def job(config: Config) -> tuple[Path | None, str]:
    from gtalign_jax.train import loop

    workdir = loop.warm_start(config)
    return workdir, "" if workdir is None else str(workdir / "model")

  return train.finish(args, job)
