"""`gtalign generate --model DIR --prompts IN.jsonl OUT.jsonl`: batch completions."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gtalign_jax import config as configs
from gtalign_jax import files, finished, jsonl, sections
from gtalign_jax.cli import arguments
from gtalign_jax.config import Config
from gtalign_jax.errors import BadInput

# flags of `eval` as well, where what is not given is left to the config
SAMPLING: arguments.Declared = {
  "--group-size": dict(type=int, help="completions per prompt (default: 1)"),
  "--max-new-tokens": dict(type=int, help="of a completion (default: 320)"),
  "--temperature": dict(type=float, help="0 = greedy (default: 1)"),
  "--seed": dict(type=int, help="of the draws (default: 0)"),
  "--batch-size": dict(
    type=int,
    help="rows decoded together (default: what fits a GPU's memory; on a CPU 32, or 8 prompts)",
  ),
  "--dtype": dict(choices=sections.DTYPES, help="of the model (default: float32)"),
  "--template": dict(choices=sections.TEMPLATES, help="(default: compact)"),
  "--form": {},
}
CONSTRAIN = dict(
  metavar="N,N,N,N", help="write chains that parse, of so many tokens a block (rollout.constrain)"
)
DEFAULTS = {"--group-size": 1, "--temperature": 1.0, "--seed": 0, "--template": "compact"}
ARGUMENTS: arguments.Declared = {
  "--model": {},
  "--prompts": dict(required=True, metavar="IN.jsonl", help="prompt records"),
  "output": {},
  "--template-arguments": {},
  "--ignore-eos": dict(action="store_true", help="decode the whole budget"),
  "--constrain": CONSTRAIN,
  **{flag: options | {"default": DEFAULTS.get(flag)} for flag, options in SAMPLING.items()},
  "--overwrite": {},
}


# flag -> the key of a config that says the same
KEYS = {
  "max_new_tokens": "rollout.max_new_tokens",
  "dtype": "policy.dtype",
  "template": "data.template",
  "form": "chain.form",
}


def check(args: argparse.Namespace) -> None:
  """Raises BadInput on numbers out of range."""
  arguments.check(args, group_size=1, max_new_tokens=1, temperature=0, seed=0, batch_size=1)


def at_once(args: argparse.Namespace, config: Config) -> Config:
  """The config with the prompts that --batch-size decodes together, each with all its samples.

  Raises BadInput where not even one of them fits in.
  """
  rows, samples = args.batch_size, config.eval.group_size
  if rows is None:
    return config
  if rows < samples:
    raise BadInput(
      f"--batch-size={rows}: the {samples} samples of a prompt are decoded together; give at least "
      "so many rows"
    )
  return configs.vary(config, {"rollout.prompts_at_once": rows // samples})


def constrained(args: argparse.Namespace, config: Config) -> Config:
  """The config with what --constrain says, checked as the key of a config is."""
  if args.constrain is None:
    return config
  return configs.override(config, [f"rollout.constrain={args.constrain}"])


def given(args: argparse.Namespace, keys: Mapping[str, str]) -> dict[str, Any]:
  """Keys of a config with the values that flags give them. keys: flag -> key."""
  found = {key: getattr(args, flag) for flag, key in keys.items()}
  return {key: value for key, value in found.items() if value is not None}


def run(args: argparse.Namespace) -> int:
  """Samples; writes one row a completion."""
  check(args)
  if not args.prompts.endswith(".jsonl"):
    raise BadInput(f"--prompts {args.prompts!r}: must be a .jsonl file of prompt records")
  files.check_output(args.output, [args.prompts], streams=False)
  finished.check_free(args.output, args.overwrite)
  rows = [row for _, row in jsonl.read(args.prompts)]
  from gtalign_jax.data import sources
  from gtalign_jax.evaluate import offline
  from gtalign_jax.parallel import distributed
  from gtalign_jax.progress import progress

  distributed.initialize()
  records = sources.read_file(args.prompts)
  changes = given(args, {"prompts": "data.root", **KEYS})
  changes["data.template_arguments"] = arguments.template_arguments(args)
  changes["eval.group_size"] = args.group_size
  config = at_once(args, configs.vary(offline.config_for(args.model), changes))
  if args.constrain is not None and args.ignore_eos:
    raise BadInput("--ignore-eos: a chain of --constrain ends where it is whole; drop one")
  config = constrained(args, config)
  options = offline.Options(args.group_size, args.temperature, args.seed, args.ignore_eos)
  with offline.Job(config, options, scored=False) as job, progress("generate") as advance:
    merge = offline.by_record(rows, records)
    out = offline.write(job, job.encode(records), Path(args.output), merge, advance, args.overwrite)
  if not distributed.is_main():
    return 0
  text = f"{len(out)} completions in {args.output}\n"
  arguments.show(args, text, {"rows": len(out), "prompts": len(records)})
  return 0
