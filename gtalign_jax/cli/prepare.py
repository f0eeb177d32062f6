"""`gtalign prepare CONFIG.py OUT_DIR [key=value …]`: the prompts as a TFDS data set."""

from __future__ import annotations

import argparse

from gtalign_jax import files
from gtalign_jax.cli import arguments

ARGUMENTS: arguments.Declared = {
  "config": {},
  "out_dir": dict(metavar="OUT_DIR", help="folder to write; pass it as data.root="),
  "overrides": {},
}


def run(args: argparse.Namespace) -> int:
  """Writes the prompts of the config's two splits as ArrayRecord shards."""
  arguments.only(args.overrides, ("workdir", "data."), "prepare")
  data = arguments.load(args).data
  files.check_folder(args.out_dir, "OUT_DIR")
  from gtalign_jax.data import sources, tfds_builder

  names = dict.fromkeys((data.train_split, data.eval_split))  # the two may be one
  splits = {split: sources.load(data, split) for split in names}
  folder = tfds_builder.write(splits, args.out_dir)
  counts = {split: len(records) for split, records in splits.items()}
  listed = ", ".join(f"{count} {split}" for split, count in counts.items())
  arguments.show(args, f"{folder}: {listed}\n", {"folder": str(folder), "splits": counts})
  return 0
