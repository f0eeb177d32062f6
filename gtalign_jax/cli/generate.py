"""`gtalign generate --model DIR --prompts IN.jsonl OUT.jsonl`: batch completions."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from gtalign_jax import jsonl, sections
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput


def sampling_arguments(parser: argparse.ArgumentParser) -> None:
  """Flags shared by `generate` and `eval`."""
  parser.add_argument("--group-size", type=int, default=1, help="completions per prompt")
  parser.add_argument("--max-new-tokens", type=int, default=None)
  parser.add_argument("--temperature", type=float, default=1.0, help="0 = greedy")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--template", default="compact", choices=sections.TEMPLATES)
  arguments.json_flag(parser)


def check(args: argparse.Namespace) -> None:
  """Raises BadInput on numbers out of range."""
  arguments.check(args, group_size=1, max_new_tokens=1, temperature=0, seed=0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  arguments.model_flag(parser)
  parser.add_argument("--prompts", required=True, metavar="IN.jsonl", help="prompt records")
  parser.add_argument("output", metavar="OUT.jsonl")
  parser.add_argument("--ignore-eos", action="store_true", help="decode the whole budget")
  sampling_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Samples; writes one row a completion."""
  check(args)
  if not args.prompts.endswith(".jsonl"):
    raise BadInput(f"--prompts {args.prompts!r}: must be a .jsonl file of prompt records")
  rows = [row for _, row in jsonl.read(args.prompts)]
  from gtalign_jax.data import sources
  from gtalign_jax.evaluate import offline
  from gtalign_jax.progress import progress

  records = sources.read_file(args.prompts)
  config = offline.config_for(args.model, args.prompts, args.template, args.max_new_tokens)
  options = offline.Options(args.group_size, args.temperature, args.seed, args.ignore_eos)
  with offline.Job(config, options, scored=False) as job, progress("generate") as advance:
    merge = offline.by_record(rows, records)
    out = offline.write(job, job.encode(records), Path(args.output), merge, advance)
  sys.stdout.write(f"{len(out)} completions in {args.output}\n")
  if args.json:
    sys.stdout.write(json.dumps({"rows": len(out), "prompts": len(records)}) + "\n")
  return 0
