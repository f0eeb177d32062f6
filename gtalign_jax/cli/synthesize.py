"""`gtalign synthesize CONFIG.py OUT.jsonl [key=value …] [--teacher URL --model NAME]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gtalign_jax import config as configs
from gtalign_jax import files, jsonl
from gtalign_jax.cli import arguments
from gtalign_jax.config import Config
from gtalign_jax.data.records import Record

# of the config; labels need no limits
READ = ("workdir", "seed", "chain.", "data.", "teacher.", "rewards.")


ARGUMENTS: arguments.Declared = {
  "config": {},
  "output": {},
  "overrides": {},
  "--limit": dict(type=int, default=0, metavar="N", help="only N prompts, spread over all sources"),
  "--teacher": dict(
    metavar="URL",
    help="OpenAI-compatible endpoint that writes the chains; without it the labels do",
  ),
  "--model": dict(required=False, metavar="NAME", help="name of the teacher at the endpoint"),
  # the name of a variable, not the key: arguments show in `ps` and in the shell's history
  "--api-key-env": dict(metavar="VARIABLE", help="variable with its key (default OPENAI_API_KEY)"),
  "--concurrency": dict(metavar="N", help="requests at a time"),
  "--tries": dict(metavar="N", help="samples per prompt until one is fit"),
  "--overwrite": {},
}


def run(args: argparse.Namespace) -> int:
  """Writes one chain per training prompt."""
  config = configs.load(args.config, [*_flags(args), *args.overrides])
  arguments.check(args, limit=0)
  taught = bool(config.teacher.model)
  arguments.only(args.overrides, READ if taught else READ[:-1], "synthesize")
  files.check_output(args.output, [args.config], streams=not taught)
  counts = _teach(config, args) if taught else _label(config, args)
  text = f"{args.output}: {counts['kept']} chains of {counts['prompts']} prompts, "
  text += f"{sum(counts['rejected'].values())} rejected {counts['rejected'] or ''}\n"
  arguments.show(args, text, counts)
  return 0


def _flags(args: argparse.Namespace) -> list[str]:
  """The teacher's flags as keys of the config, which has the others (teacher.max_tokens, …)."""
  named = {"base_url": args.teacher, "model": args.model, "api_key_env": args.api_key_env}
  named |= {"concurrency": args.concurrency, "tries": args.tries}
  return [f"teacher.{key}={value}" for key, value in named.items() if value is not None]


def _records(config: Config, limit: int) -> list[Record]:
  from gtalign_jax.data import batches, sources

  records = sources.load(config.data, config.data.train_split)
  return batches.spread(records, limit, config.data.seed) if limit else records


def _label(config: Config, args: argparse.Namespace) -> dict[str, Any]:
  from gtalign_jax.rewards import tasks
  from gtalign_jax.synthesize import labels, teacher

  records = _records(config, args.limit)
  for record in records:
    tasks.check_label(record._asdict(), f"record {record.id!r}")
  # no check.fault: the tests show that every chain from a label is fit
  rows = [teacher.row(record, labels.chain(record, config.seed, config)) for record in records]
  jsonl.write(args.output, rows)
  return {"prompts": len(records), "kept": len(rows), "rejected": {}, "failed": 0}


def _teach(config: Config, args: argparse.Namespace) -> dict[str, Any]:
  from gtalign_jax.progress import progress
  from gtalign_jax.synthesize import teacher

  records, out = _records(config, args.limit), Path(args.output)
  with progress("teacher") as advance:
    given = records, config.teacher, config.rewards, out, advance, args.overwrite
    return teacher.distil(*given, form=config.chain.form)
