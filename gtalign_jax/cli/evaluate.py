"""`gtalign eval CONFIG.py OUT.jsonl` or `gtalign eval --model DIR --data PATH OUT.jsonl`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gtalign_jax import config as configs
from gtalign_jax import files, finished
from gtalign_jax.cli import arguments, generate
from gtalign_jax.errors import BadInput

# flag -> the key of a config that says the same
KEYS = {
  "model": "model",
  "data": "data.root",
  "split": "data.eval_split",
  "prompts": "eval.prompts",
  "group_size": "eval.group_size",
  "max_new_tokens": "rollout.max_new_tokens",
  "temperature": "eval.temperature",
  "seed": "seed",
  "template": "data.template",
}
# what an evaluation reads of a config; rollout.temperature and rollout.group_size are training's
READ = (
  "model", "seed", "workdir", "policy.", "data.", "rewards.", "mesh.", "eval.prompts",
  "eval.group_size", "eval.temperature", "rollout.max_new_tokens", "rollout.prompt_buckets",
  "rollout.top_k", "rollout.top_p", "rollout.min_p", "rollout.stop",
)  # fmt: skip
# column of the table -> metric; means over completions (W at the end: over prompts)
SHOWN = {
  "welfare": "rewards/welfare/mean",
  "user": "rewards/user/mean",
  "llm": "rewards/llm/mean",
  "answer": "rewards/answer/mean",
  "parsed": "chain/parse_rate",
  "invalid": "judge/invalid_frac",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument(
    "arguments",
    nargs="+",
    metavar="CONFIG.py OUT.jsonl | OUT.jsonl",
    help="key=value overrides may follow; flags count as overrides too",
  )
  arguments.model_flag(parser, required=False)
  parser.add_argument("--data", help="prompts: a file or folder; '' = the sample set")
  parser.add_argument("--split", help="of the prompts (default: test, or the config's)")
  parser.add_argument("--prompts", type=int, help="at most so many, over all sources")
  generate.sampling_arguments(parser, of_config=True)


def run(args: argparse.Namespace) -> int:
  """Samples and scores; writes one row a completion and shows the means."""
  generate.check(args)
  arguments.check(args, prompts=1)
  overrides = [each for each in args.arguments if arguments.is_override(each)]
  arguments.only(overrides, READ, "eval")
  *config_file, out = [each for each in args.arguments if each not in overrides] or [""]
  if len(config_file) > 1 or not out or not (config_file or args.model):
    raise BadInput("gtalign eval takes CONFIG.py OUT.jsonl, or --model DIR --data PATH OUT.jsonl")
  files.check_output(out, [*config_file, args.data or ""], streams=False)
  finished.check_free(out, args.overwrite)
  given = {key: getattr(args, name) for name, key in KEYS.items()}
  flags = {key: value for key, value in given.items() if value is not None}
  config = configs.load(config_file[0]) if config_file else None
  from gtalign_jax.data import batches, sources
  from gtalign_jax.evaluate import offline
  from gtalign_jax.progress import progress
  from gtalign_jax.rollout import collect

  config = configs.vary(config or offline.config_for(args.model), flags)
  config = configs.override(config, overrides)
  options = offline.Options(config.eval.group_size, config.eval.temperature, config.seed)
  records = sources.load(config.data, config.data.eval_split)
  with offline.Job(config, options, scored=True) as job, progress("eval") as advance:
    encoded = job.encode(records)
    if config_file or args.prompts or any(each.startswith("eval.prompts=") for each in overrides):
      encoded = batches.held_out(encoded, config.eval.prompts, config.data.seed)
    rows = offline.write(job, encoded, Path(out), lambda row: row, advance, args.overwrite)
  _show(args, out, {"rows": len(rows)} | collect.summary(rows))
  return 0


def _show(args: argparse.Namespace, out: str, summary: dict[str, float]) -> None:
  """A line for each source and one for all, then where the rows are."""
  sources = [key.rpartition("/")[2] for key in summary if key.startswith("chain/parse_rate/")]
  width = max(map(len, ("source", *sources)))
  lines = [f"{'source':<{width}}" + "".join(f"{name:>9}" for name in SHOWN)]
  for source in (*sources, ""):
    values = (summary.get(f"{key}/{source}" if source else key) for key in SHOWN.values())
    cells = "".join("        -" if v is None or v != v else f"{v:9.4f}" for v in values)
    lines.append(f"{source or 'all':<{width}}{cells}")
  lines.append(f"{summary['rows']} completions in {out}, mean welfare W {summary['W']:.4f}")
  arguments.show(args, "\n".join(lines) + "\n", summary)
