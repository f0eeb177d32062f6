"""`gtalign synthesize CONFIG.py OUT.jsonl [key=value …] [--teacher URL --model NAME]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from gtalign_jax import jsonl
from gtalign_jax.config import Config, load
from gtalign_jax.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("config", metavar="CONFIG.py")
  parser.add_argument("output", metavar="OUT.jsonl", help="use it as sft.data= afterwards")
  parser.add_argument("overrides", nargs="*", metavar="key=value")
  parser.add_argument(
    "--limit", type=int, default=0, metavar="N", help="only N prompts, of all sources"
  )
  parser.add_argument(
    "--teacher", metavar="URL", help="OpenAI-compatible endpoint; none: from labels"
  )
  parser.add_argument("--model", metavar="NAME", help="the teacher's name at the endpoint")
  parser.add_argument("--api-key-env", default="OPENAI_API_KEY", metavar="VARIABLE")
  parser.add_argument("--concurrency", type=int, default=8, help="requests under way at once")
  parser.add_argument(
    "--tries", type=int, default=2, help="samples per prompt until a chain is fit"
  )
  parser.add_argument("--json", action="store_true", help="last line of stdout: one JSON object")


def run(args: argparse.Namespace) -> int:
  """Writes one chain a training prompt."""
  config = load(args.config, args.overrides)
  for name, low in (("limit", 0), ("concurrency", 1), ("tries", 1)):
    if getattr(args, name) < low:
      raise BadInput(f"--{name}={getattr(args, name)}: must be at least {low}")
  if bool(args.teacher) != bool(args.model):
    raise BadInput("--teacher URL and --model NAME go together; give both, or none for labels")
  counts = _teach(config, args) if args.teacher else _label(config, args)
  sys.stdout.write(
    f"{args.output}: {counts['kept']} chains of {counts['prompts']} prompts, "
    f"{sum(counts['rejected'].values())} rejected {counts['rejected'] or ''}\n"
  )
  if args.json:
    sys.stdout.write(json.dumps(counts) + "\n")
  return 0


def _records(config: Config, limit: int):
  from gtalign_jax.data import batches, sources

  records = sources.load(config.data, config.data.train_split)
  return batches.spread(records, limit, config.data.seed) if limit else records


def _label(config: Config, args: argparse.Namespace) -> dict:
  from gtalign_jax.synthesize import labels, teacher

  records = _records(config, args.limit)
  rows = [teacher.row(record, labels.chain(record, config.seed)) for record in records]
  jsonl.write(args.output, rows)
  return {"prompts": len(records), "kept": len(rows), "rejected": {}, "failed": 0}


def _teach(config: Config, args: argparse.Namespace) -> dict:
  from gtalign_jax.progress import progress
  from gtalign_jax.synthesize import teacher

  asked = teacher.Teacher(
    args.teacher, args.model, args.api_key_env, args.concurrency, tries=args.tries
  )
  with progress("teacher") as advance:
    return teacher.distil(
      _records(config, args.limit), asked, config.rewards, Path(args.output), advance
    )
