"""`gtalign plan CONFIG.py --topology v5e:4x4 [--arch config.json] [key=value …]`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from gtalign_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  arguments.config_file(parser)
  arguments.overrides(parser)
  parser.add_argument(
    "--topology", required=True, help="v4|v5e|v5p|v6e and chips, e.g. v5e:4x4; or cpu:8"
  )
  parser.add_argument(
    "--arch", metavar="FILE.json", help="a Hugging Face config.json, instead of that of `model`"
  )
  arguments.json_flag(parser)


def run(args: argparse.Namespace) -> int:
  """Compiles, prints the table; 1 where the run does not fit."""
  config = arguments.load(args)
  os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the slice is described, no device is opened
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # 0 shows what the partitioner complains of
  from gtalign_jax.models import architecture
  from gtalign_jax.parallel import topology
  from gtalign_jax.train import plan

  arch = architecture.read(config.model, args.arch)
  result = plan.plan(config, arch, topology.describe(args.topology))
  arguments.show(args, table(result), result)
  return 0 if result["fits"] else 1


def table(result: dict[str, Any]) -> str:
  """The programs, one a line, and the verdict."""
  names = ("argument", "output", "temp", "alias", "resident", "total")
  width = max(map(len, result["programs"]))
  lines = [f"{'GiB per device':<{width}} " + "".join(f"{name:>10}" for name in names)]
  lines[0] += f"{'compile':>10}  collectives of one execution"
  for name, each in result["programs"].items():
    cells = [each.get(f"{part}_gib") for part in names]
    numbers = "".join(f"{'-':>10}" if x is None else f"{x:10.3f}" for x in cells)
    moved = ", ".join(
      f"{kind} {found['count']}x {found['bytes'] / 2**30:.3f} GiB"
      for kind, found in each.get("collectives", {}).items()
    )
    lines.append(
      f"{name:<{width}} {numbers}{each['compile_s']:8.0f} s  {each.get('error') or moved}"
    )
  limit = result["hbm_gib"]
  of = "" if limit is None else f" of {limit:g} GiB"
  verdict = "fits" if result["fits"] else "does NOT fit"
  lines.append(
    f"{result['topology']}, {result['devices']} devices: "
    f"peak {result['peak_gib']:.2f}{of}, {verdict}"
  )
  return "\n".join(lines) + "\n"
