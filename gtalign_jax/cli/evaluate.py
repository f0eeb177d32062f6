"""`gtalign eval CONFIG.py OUT.jsonl` or `gtalign eval --model DIR --data PATH OUT.jsonl`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from gtalign_jax import config as configs
from gtalign_jax.cli import arguments, generate
from gtalign_jax.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument(
    "arguments",
    nargs="+",
    metavar="CONFIG.py OUT.jsonl | OUT.jsonl",
    help="with CONFIG.py, key=value overrides may follow",
  )
  arguments.model_flag(parser, required=False)
  parser.add_argument("--data", help="prompts: a file or folder; '' = the sample set")
  parser.add_argument("--split", default="test")
  parser.add_argument("--prompts", type=int, default=None, help="at most so many, over all sources")
  generate.sampling_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Samples and scores; writes one row a completion and shows the means."""
  generate.check(args)
  overrides = [each for each in args.arguments if arguments.is_override(each)]
  paths = [each for each in args.arguments if not arguments.is_override(each)]
  if len(paths) != (1 if args.model else 2):
    raise BadInput("gtalign eval takes CONFIG.py OUT.jsonl, or --model DIR --data PATH OUT.jsonl")
  loaded = None if args.model else configs.load(paths[0], overrides)
  from gtalign_jax.data import batches, sources
  from gtalign_jax.evaluate import offline
  from gtalign_jax.progress import progress
  from gtalign_jax.rollout import collect

  if loaded is None:
    config = offline.config_for(args.model, args.data or "", args.template, args.max_new_tokens)
    config = configs.override(config, overrides)
    options = offline.Options(args.group_size, args.temperature, args.seed)
    split, count = args.split, args.prompts
  else:
    config, split, count = loaded, loaded.data.eval_split, loaded.eval.prompts
    options = offline.Options(config.eval.group_size, config.eval.temperature, config.seed)
  with offline.Job(config, options, scored=True) as job, progress("eval") as advance:
    encoded = job.encode(sources.load(config.data, split))
    if count is not None:
      encoded = batches.held_out(encoded, count, config.data.seed)
    rows = offline.write(job, encoded, Path(paths[-1]), lambda row: row, advance)
  summary = collect.summary(rows)
  for name in ("rewards/welfare/mean", "rewards/user/mean", "rewards/llm/mean", "chain/parse_rate"):
    if name in summary:
      sys.stdout.write(f"{name:>22} {summary[name]:.4f}\n")
  sys.stdout.write(f"{len(rows)} completions in {paths[-1]}\n")
  if args.json:
    sys.stdout.write(json.dumps({"rows": len(rows)} | summary) + "\n")
  return 0
