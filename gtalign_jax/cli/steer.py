"""`gtalign steer --model DIR --pricing NAME|FILE --question "…"`, or `--data PATH OUT.jsonl`."""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from gtalign_jax import config as configs
from gtalign_jax import files, finished
from gtalign_jax.cli import arguments, generate
from gtalign_jax.config import Config
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.sections import SUITES

if TYPE_CHECKING:
  from gtalign_jax.evaluate.offline import Options
  from gtalign_jax.evaluate.steering import Plan

TRIES = 4
SWEPT = "pay_per_token"  # the policy whose price --sweep moves, where none is named
KEYS = {**generate.KEYS, "data": "data.root", "split": "data.eval_split", "seed": "seed"}
# keys of a config that sampling an opening and going on from it read
READ = (
  "mesh.", "chain.form", "data.sources", "data.seed", "data.max_prompt_tokens",
  "rollout.prompt_buckets", "rollout.segment", "rollout.top_k", "rollout.top_p", "rollout.min_p",
  "rollout.constrain",
)  # fmt: skip

ARGUMENTS: arguments.Declared = {
  "arguments": dict(
    nargs="*",
    metavar="OUT.jsonl",
    help="of many prompts: the file to write; key=value changes to the config may follow",
  ),
  "--model": {},
  "--pricing": dict(
    action="append",
    metavar="NAME|FILE",
    help="free, subscription, pay_per_token, pay_per_character or a .toml file; may be repeated",
  ),
  "--question": dict(help="what the user asks, instead of many prompts"),
  "--data": dict(help="prompts: a file or folder; '' = the sample set"),
  "--suite": dict(choices=tuple(SUITES), help="sources by name, as in gtalign eval"),
  "--split": dict(help="of the prompts (default: test)"),
  "--prompts": dict(type=int, help="at most so many, over all sources"),
  "--sweep": dict(
    metavar="price=START:STOP:COUNT",
    help=f"so many prices of the policy (default: {SWEPT}), and a curve beside OUT.jsonl",
  ),
  **{flag: each for flag, each in generate.SAMPLING.items() if flag != "--group-size"},
  "--tries": dict(
    type=int, help=f"chains sampled at most, until the payoffs of one parse (default: {TRIES})"
  ),
  "--template-arguments": {},
  "--overwrite": {},
}
# what only many prompts have
MANY = ("suite", "split", "prompts", "batch_size", "sweep", "overwrite", "arguments")


def _check(args: argparse.Namespace) -> None:
  numbers = dict(max_new_tokens=1, temperature=0, seed=0, batch_size=1, tries=1, prompts=1)
  arguments.check(args, **numbers)
  if args.tries is not None and args.tries > 1 and args.temperature == 0:
    raise BadInput(f"--tries={args.tries}: greedy chains are all the same; give a --temperature")
  if (args.question is None) == (args.data is None and not args.suite):
    raise BadInput("gtalign steer takes --question TEXT, or --data PATH or --suite with OUT.jsonl")
  if not (args.pricing or args.sweep):
    raise BadInput("gtalign steer needs --pricing NAME|FILE, or --sweep price=START:STOP:COUNT")
  if args.sweep and len(args.pricing or ()) > 1:
    raise BadInput("--sweep moves the price of one policy; give one --pricing")
  if args.question is None:
    return
  for key in MANY:
    if getattr(args, key):
      flag = "OUT.jsonl" if key == "arguments" else f"--{key.replace('_', '-')}"
      raise BadInput(f"{flag} is for many prompts; leave it out with --question")
  if not args.question.strip():
    raise BadInput(f"--question={args.question!r} is empty; ask something")
  try:  # the shell passes bytes that are no UTF-8 as lone surrogates, and no tokenizer takes those
    args.question.encode()
  except UnicodeEncodeError:
    raise BadInput("--question is not valid UTF-8") from None


def run(args: argparse.Namespace) -> int:
  """Samples, edits, continues; shows what followed."""
  _check(args)
  prices = arguments.sweep(args.sweep, ("price",))[1] if args.sweep else ()
  overrides = [each for each in args.arguments if arguments.is_override(each)]
  read = [each for each in READ if not (args.suite and each == "data.sources")]
  arguments.only(overrides, read, "steer")
  out = [each for each in args.arguments if each not in overrides]
  if args.question is None:
    if len(out) != 1:
      raise BadInput("gtalign steer takes one file to write with --data or --suite, OUT.jsonl")
    files.check_output(out[0], [args.data or ""], streams=False)
    finished.check_free(out[0], args.overwrite)
  given = generate.given(args, KEYS)
  given["data.template_arguments"] = arguments.template_arguments(args)
  from gtalign_jax.evaluate import offline, steering
  from gtalign_jax.game import pricing

  # before the model: it loads for long
  policies = [pricing.load(each) for each in args.pricing or [SWEPT]]
  temperature = 1.0 if args.temperature is None else args.temperature
  tries = args.tries or (TRIES if temperature > 0 else 1)
  asked = steering.plan(policies, tries, prices)
  config = configs.override(configs.vary(offline.config_for(args.model), given), overrides)
  arguments.needs_payoff(config, "gtalign steer")
  config = generate.at_once(args, config)
  options = offline.Options(1, temperature, config.seed)
  if args.question is not None:
    return _one(args, asked, config, options)
  return _many(args, asked, config, options, Path(out[0]))


def _one(args: argparse.Namespace, asked: Plan, config: Config, options: Options) -> int:
  """A question of one's own: both matrices of each policy, side by side."""
  from gtalign_jax.data.records import Record
  from gtalign_jax.evaluate import offline, steering, steering_text

  config = configs.vary(config, {"rollout.prompts_at_once": 1})
  record = Record("question", "question", [{"role": "user", "content": args.question}], None, {})
  # with the seed alone, one and the same draws would pick the action of every question
  number = zlib.crc32(args.question.encode()) >> 1  # an int32
  with offline.Job(config, options, scored=False) as job:
    (row,) = next(steering.rows(job, asked, job.encode([record]), number=number))
  if not row["policies"]:
    raise RunFailure(
      f"no readable payoffs in {asked.tries} tries ({', '.join(row['reasons'])}); raise --tries or "
      "--max-new-tokens, or use a model trained on chains (gtalign sft)"
    )
  found = {key: row[key] for key in ("question", "policies")}
  arguments.show(args, "\n".join(map(steering_text.matrices, row["policies"])), found)
  return 0


def _many(
  args: argparse.Namespace, asked: Plan, config: Config, options: Options, out: Path
) -> int:
  """Many prompts: a row and a line for each, and what they come to."""
  from gtalign_jax.data import batches, sources
  from gtalign_jax.evaluate import offline, plots, steering, steering_text
  from gtalign_jax.progress import progress

  split = config.data.eval_split
  suited = args.suite and sources.suite(config.data, split, args.suite)
  records = suited or sources.load(config.data, split)
  with offline.Job(config, options, scored=False) as job, progress("steer") as advance:
    encoded = job.encode(records)
    if args.prompts:
      encoded = batches.held_out(encoded, args.prompts, config.data.seed)
    rows = steering.write(job, asked, encoded, out, advance, args.overwrite)
  found, names = steering.measured(rows, asked), asked.names()
  said = [steering_text.line(row, names) for row in rows]
  text = "\n".join(said) + "\n" + steering_text.table(found, names)
  if asked.swept:
    text += f"{plots.save_sweep(found, asked.swept, out.with_suffix('.png'))}\n"
  arguments.show(args, text + f"{len(rows)} questions in {out}\n", found)
  return 0
