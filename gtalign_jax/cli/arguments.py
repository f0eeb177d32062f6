"""What the arguments of the commands have in common: config, overrides, model, ranges, JSON."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from typing import Any

from gtalign_jax import config, jsonl
from gtalign_jax.errors import BadInput

# runs/lr=1e-4/out.jsonl is a path: what stands before its sign is no key
_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")


def config_file(parser: argparse.ArgumentParser) -> None:
  """CONFIG.py, the first argument of most commands; `load` reads it."""
  parser.add_argument("config", metavar="CONFIG.py", help="e.g. configs/quickstart.py")


def overrides(parser: argparse.ArgumentParser, metavar: str = "key=value") -> None:
  """Any number of `key=value`, after the other positional arguments."""
  # main parses intermixed, else argparse would take them only in one piece before the flags
  parser.add_argument("overrides", nargs="*", metavar=metavar, help="changes to the config")


def model_flag(parser: argparse.ArgumentParser, required: bool = True) -> None:
  """--model."""
  parser.add_argument(
    "--model", required=required, help="HF directory, hub id, .gguf file or random:tiny"
  )


def json_flag(parser: argparse.ArgumentParser) -> None:
  """--json."""
  parser.add_argument(
    "--json", action="store_true", help="print one JSON object as the last line of stdout"
  )


def load(args: argparse.Namespace) -> config.Config:
  """The config that CONFIG.py and the overrides give."""
  return config.load(args.config, args.overrides)


def is_override(argument: str) -> bool:
  """Whether a positional argument is of the form key=value, and not a path that holds a `=`."""
  return _OVERRIDE.match(argument) is not None


def check(args: argparse.Namespace, **lowest: float) -> None:
  """Raises BadInput where a flag is below its lowest value, or a seed is too large for an int64."""
  for name, low in lowest.items():
    value = getattr(args, name)
    if value is not None and not value >= low:  # not `<`: NaN is refused as well
      raise BadInput(f"--{name.replace('_', '-')}={value}: must be at least {low}")
  if "seed" in lowest and args.seed >= 2**63:
    raise BadInput(f"--seed={args.seed}: must be below 2**63")


def show(args: argparse.Namespace, text: str, result: Mapping[str, Any]) -> None:
  """Prints `text` for people and then, with --json, `result` as the last line."""
  sys.stdout.write(text)
  if args.json:  # jsonl.dumps: NaN is null, which every parser of JSON reads
    sys.stdout.write(jsonl.dumps(result) + "\n")
