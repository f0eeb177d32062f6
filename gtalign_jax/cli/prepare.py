"""`gtalign prepare CONFIG.py OUT_DIR [key=value …]`."""

from __future__ import annotations

import argparse
import json
import sys

from gtalign_jax.config import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("config", metavar="CONFIG.py")
  parser.add_argument("out_dir", metavar="OUT_DIR", help="use it as data.root= afterwards")
  parser.add_argument("overrides", nargs="*", metavar="key=value")
  parser.add_argument("--json", action="store_true", help="last line of stdout: one JSON object")


def run(args: argparse.Namespace) -> int:
  """Writes the prompts of the config's two splits as ArrayRecord shards."""
  data = load(args.config, args.overrides).data
  from gtalign_jax.data import sources, tfds_builder

  names = dict.fromkeys((data.train_split, data.eval_split))
  splits = {split: sources.load(data, split) for split in names}
  folder = tfds_builder.write(splits, args.out_dir)
  counts = {split: len(records) for split, records in splits.items()}
  listed = ", ".join(f"{count} {split}" for split, count in counts.items())
  sys.stdout.write(f"{folder}: {listed}\n")
  if args.json:
    sys.stdout.write(json.dumps({"folder": str(folder), "splits": counts}) + "\n")
  return 0
