"""`gtalign eval CONFIG.py OUT.jsonl` or `gtalign eval --model DIR --data PATH OUT.jsonl`."""

from __future__ import annotations

import argparse
from pathlib import Path

from gtalign_jax import config as configs
from gtalign_jax import files, finished
from gtalign_jax.cli import arguments, generate
from gtalign_jax.errors import BadInput

KEYS = {
  **generate.KEYS,
  "model": "model",
  "data": "data.root",
  "split": "data.eval_split",
  "prompts": "eval.prompts",
  "group_size": "eval.group_size",
  "temperature": "eval.temperature",
  "turns": "conversation.turns",
  "seed": "seed",
}
# what an evaluation reads of a config; rollout.temperature and rollout.group_size are training's
READ = (
  "model", "seed", "workdir", "policy.dtype", "data.", "rewards.", "conversation.", "mesh.",
  "eval.prompts", "eval.group_size", "eval.temperature", "rollout.max_new_tokens",
  "rollout.prompt_buckets",
  "rollout.prompts_at_once", "rollout.segment", "rollout.top_k", "rollout.top_p", "rollout.min_p",
  "rollout.stop",
)  # fmt: skip


ARGUMENTS: arguments.Declared = {
  "arguments": dict(
    nargs="+",
    metavar="CONFIG.py OUT.jsonl | OUT.jsonl",
    help="key=value overrides may follow; flags count as overrides too",
  ),
  "--model": dict(required=False),
  "--data": dict(help="prompts: a file or folder; '' = the sample set"),
  "--split": dict(help="of the prompts (default: test, or the config's)"),
  "--prompts": dict(type=int, help="at most so many, over all sources"),
  **generate.SAMPLING,
  "--turns": dict(type=int, help="assistant turns of a conversation at most (conversation.turns)"),
  "--intervene": dict(
    action="store_true",
    help="swap two cells of each chain's matrix and go on: does what it does follow? With placebos",
  ),
  "--force": dict(
    action="store_true",
    help="go on from matrices in which each action wins, to the end of the talk: what is it worth?",
  ),
  "--overwrite": {},
}


def run(args: argparse.Namespace) -> int:
  """Samples and scores; writes one row a completion and shows the means."""
  generate.check(args)
  arguments.check(args, prompts=1, turns=1)
  overrides = [each for each in args.arguments if arguments.is_override(each)]
  arguments.only(overrides, READ, "eval")
  *file, out = [each for each in args.arguments if each not in overrides] or [""]
  if len(file) > 1 or not out or not (file or args.model):
    raise BadInput("gtalign eval takes CONFIG.py OUT.jsonl, or --model DIR --data PATH OUT.jsonl")
  files.check_output(out, [*file, args.data or ""], streams=False)
  finished.check_free(out, args.overwrite)
  config = configs.load(file[0]) if file else None
  from gtalign_jax.data import batches, sources
  from gtalign_jax.evaluate import offline, overview
  from gtalign_jax.progress import progress
  from gtalign_jax.rewards import judges
  from gtalign_jax.rollout import collect
  from gtalign_jax.train import preflight

  given = generate.given(args, KEYS)
  config = configs.vary(config or offline.config_for(args.model), given)
  config = configs.override(config, overrides)
  # without a config, all prompts unless a number is given
  limited = file or "eval.prompts" in [*given, *(each.partition("=")[0] for each in overrides)]
  options = offline.Options(
    config.eval.group_size,
    config.eval.temperature,
    config.seed,
    intervene=args.intervene,
    force=args.force,
  )
  records = sources.load(config.data, config.data.eval_split)
  # a bad label, or a judge that is away, is found before anything is sampled
  preflight.check(config, {config.data.eval_split: records})
  beside = judges.beside(Path(out))  # not the workdir, which may be another run's
  with offline.Job(config, options, True, beside) as job, progress("eval") as advance:
    encoded = job.encode(records)
    if limited:
      encoded = batches.held_out(encoded, config.eval.prompts, config.data.seed)
    rows = offline.write(job, encoded, Path(out), lambda row: row, advance, args.overwrite)
  more, said = overview.found(rows, config.rewards, out)
  text = f"{said}{len(rows)} completions in {out}\n"
  arguments.show(args, text, {"rows": len(rows)} | collect.summary(rows) | more)
  return 0
