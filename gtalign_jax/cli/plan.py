"""`gtalign plan CONFIG.py --topology v5e:4x4 [--arch config.json] [key=value …]`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from gtalign_jax.cli import arguments

ARGUMENTS: arguments.Declared = {
  "config": {},
  "overrides": {},
  "--topology": dict(required=True, help="v4|v5e|v5p|v6e and chips, e.g. v5e:4x4; or cpu:8"),
  "--arch": dict(
    metavar="FILE.json", help="a Hugging Face config.json, instead of that of `model`"
  ),
}


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
  heads = "".join(f"{name:>10}" for name in (*names, "compile"))
  lines = [f"{'GiB per device':<{width}} {heads}  collectives of one execution"]
  for name, each in result["programs"].items():
    cells = [each.get(f"{part}_gib") for part in names]
    numbers = "".join(f"{'-':>10}" if x is None else f"{x:10.3f}" for x in cells)
    moved = ", ".join(
      f"{kind} {found['count']}x {found['bytes'] / 2**30:.3f} GiB"
      for kind, found in each.get("collectives", {}).items()
    )
    said = each.get("error") or moved
    lines.append(f"{name:<{width}} {numbers}{each['compile_s']:8.0f} s  {said}")
  of = "" if result["hbm_gib"] is None else f" of {result['hbm_gib']:g} GiB"
  verdict = f"peak {result['peak_gib']:.2f}{of}, {'fits' if result['fits'] else 'does NOT fit'}"
  return "\n".join([*lines, f"{result['topology']}, {result['devices']} devices: {verdict}\n"])
