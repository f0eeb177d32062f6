"""`gtalign eval CONFIG.py OUT.jsonl` or `gtalign eval --model DIR --data PATH OUT.jsonl`.

`--endpoint URL --endpoint-model NAME` puts a model behind an endpoint in the place of the policy.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtalign_jax import config as configs
from gtalign_jax import files, finished
from gtalign_jax.cli import arguments, generate
from gtalign_jax.config import Config
from gtalign_jax.errors import BadInput
from gtalign_jax.sections import SUITES

if TYPE_CHECKING:
  from gtalign_jax.evaluate import offline, remote, sweep

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
DATA = (
  "data.root", "data.sources", "data.template", "data.eval_split", "data.condition",
  "data.condition_alphas", "data.condition_policies", "data.seed", "chain.form",
)  # fmt: skip
READ = (
  *DATA, "data.template_arguments", "data.max_prompt_tokens",
  "model", "seed", "policy.dtype", "rewards.", "conversation.", "mesh.",
  "eval.prompts", "eval.group_size", "eval.temperature", "rollout.max_new_tokens",
  "rollout.prompt_buckets",
  "rollout.prompts_at_once", "rollout.segment", "rollout.top_k", "rollout.top_p", "rollout.min_p",
  "rollout.stop", "rollout.constrain",
)  # fmt: skip
# of a model behind an endpoint: nobody here has its tokenizer, its weights, or its sampler
ASKED_KEYS = KEYS | {
  "temperature": "endpoint.temperature",
  "max_new_tokens": "endpoint.max_tokens",
  "endpoint": "endpoint.base_url",
  "endpoint_model": "endpoint.model",
  "api_key_env": "endpoint.api_key_env",
}
ASKED_READ = (
  *DATA, "seed", "rewards.", "conversation.turns", "conversation.user.", "eval.prompts",
  "eval.group_size", "endpoint.",
)  # fmt: skip
OWN_FLAGS = ("model", "dtype", "batch_size", "intervene", "force")  # of a loaded policy


ARGUMENTS: arguments.Declared = {
  "arguments": dict(
    nargs="+",
    metavar="CONFIG.py OUT.jsonl | OUT.jsonl",
    help="key=value overrides may follow; flags count as overrides too",
  ),
  "--model": dict(required=False),
  "--endpoint": dict(metavar="URL", help="OpenAI-compatible: its model answers, not a loaded one"),
  "--endpoint-model": dict(metavar="NAME", help="name of that model; its keys are endpoint.…"),
  # the name of a variable, not the key: arguments show in `ps` and in the shell's history
  "--api-key-env": dict(metavar="VARIABLE", help="variable with its key (default OPENAI_API_KEY)"),
  "--data": dict(help="prompts: a file or folder; '' = the sample set"),
  "--split": dict(help="of the prompts (default: test, or the config's)"),
  "--suite": dict(
    choices=tuple(SUITES),
    help="sources by name: those that GTAlign trains on (in), those it holds out (ood), concierge",
  ),
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
  "--sweep": dict(
    metavar="price=START:STOP:COUNT | alpha=…",
    help="each prompt under so many prices per token, or weights of the user, that it states: does "
    "the policy respond in order? Also drawn, as OUT.png",
  ),
  "--overwrite": {},
}


def run(args: argparse.Namespace) -> int:
  """Samples and scores; writes one row a completion and shows the means."""
  generate.check(args)
  arguments.check(args, prompts=1, turns=1)
  overrides = [each for each in args.arguments if arguments.is_override(each)]
  asked = any(each.startswith("endpoint.") for each in overrides)
  asked = asked or any((args.endpoint, args.endpoint_model, args.api_key_env))
  arguments.only(overrides, ASKED_READ if asked else READ, "eval" + " --endpoint" * asked)
  *file, out = [each for each in args.arguments if each not in overrides] or [""]
  if len(file) > 1 or not out or not (file or args.model or asked):
    raise BadInput(
      "gtalign eval takes CONFIG.py OUT.jsonl, or --model DIR --data PATH OUT.jsonl, or --endpoint "
      "URL --endpoint-model NAME --data PATH OUT.jsonl"
    )
  files.check_output(out, [*file, args.data or ""], streams=False)
  finished.check_free(out, args.overwrite)
  base = configs.load(file[0]) if file else None
  from gtalign_jax.data import batches, sources
  from gtalign_jax.evaluate import offline, overview, sweep
  from gtalign_jax.parallel import distributed
  from gtalign_jax.progress import progress
  from gtalign_jax.rewards import judges
  from gtalign_jax.rollout import collect
  from gtalign_jax.train import preflight

  distributed.initialize()
  given = generate.given(args, ASKED_KEYS if asked else KEYS)
  if asked:
    _refuse_own(args)
    if base:  # what it would have been sampled with, unless the endpoint's own keys say another
      limits = base.eval.temperature, base.rollout.max_new_tokens
      given = dict(zip(("endpoint.temperature", "endpoint.max_tokens"), limits)) | given
  if args.suite and any(each.startswith("data.sources=") for each in overrides):
    raise BadInput("--suite and data.sources both name sources; leave one of them out")
  swept = _sweep(args, overrides)
  given |= swept.config() if swept else {}
  # in one change: keys of the endpoint mean nothing without its model. 0 steps: so that what only
  # training reads is refused as without effect
  written = [
    "grpo.steps=0",
    "sft.steps=0",
    *(f"{key}={value}" for key, value in given.items()),
    *overrides,
  ]
  config = configs.override(base or offline.config_for(args.model or ""), written)
  for flag in ("intervene", "force"):
    if getattr(args, flag):
      arguments.needs_payoff(config, f"--{flag}")
  config = generate.at_once(args, config)
  # without a config, all prompts unless a number is given
  limited = file or "eval.prompts" in [*given, *(each.partition("=")[0] for each in overrides)]
  options = offline.Options(
    config.eval.group_size,
    config.endpoint.temperature or 0.0 if asked else config.eval.temperature,
    config.seed,
    intervene=args.intervene,
    force=args.force,
    versions=len(swept.values) if swept else 1,
  )
  split = config.data.eval_split
  if args.suite:
    records = sources.suite(config.data, split, args.suite)
  else:
    records = sources.load(config.data, split)
  # a bad label, or a judge that is away, is found before anything is sampled
  preflight.check(config, {split: records})
  if swept:
    if limited:
      records = batches.spread(records, config.eval.prompts, config.data.seed)
    records = swept.records(records, config.data.seed, config.conversation.turns)
  beside = judges.beside(Path(out))  # not the workdir, which may be another run's
  with _job(config, options, beside) as job, progress("eval") as advance:
    encoded = job.encode(records)
    if swept:
      encoded = swept.whole(encoded)
    elif limited:
      encoded = batches.held_out(encoded, config.eval.prompts, config.data.seed)
    rows = offline.write(job, encoded, Path(out), lambda row: row, advance, args.overwrite)
  if not distributed.is_main():
    return 0
  more, said = overview.found(rows, config.rewards, out)
  if swept:
    curves, told = sweep.found(rows, swept, config.rewards)
    more, said = more | curves, f"{said}\n{told}{_drawn(swept, curves, out)}"
  text = f"{said}{len(rows)} completions in {out}\n"
  arguments.show(args, text, {"rows": len(rows)} | collect.summary(rows) | more)
  return 0


def _sweep(args: argparse.Namespace, overrides: Sequence[str]) -> sweep.Sweep | None:
  """What --sweep says, None without it. Raises BadInput where an override says it too."""
  if args.sweep is None:
    return None
  from gtalign_jax.evaluate import sweep

  for each in overrides:
    if each.startswith("data.condition"):
      raise BadInput(f"{each}: --sweep says what each prompt states; leave one of them out")
  return sweep.Sweep(*arguments.sweep(args.sweep, sweep.NAMES))


def _drawn(swept: sweep.Sweep, curves: Mapping[str, Any], out: str) -> str:
  """Draws OUT.png; the line that says so."""
  from gtalign_jax.evaluate import plots

  path, found = Path(out).with_suffix(".png"), curves["sweep"]
  try:
    plots.save_responses(path, swept.name, found["sources"] | {"all": found["all"]})
  except OSError as error:
    raise files.unwritable(path, error) from error
  return f"drawn in {path}\n"


def _refuse_own(args: argparse.Namespace) -> None:
  """Raises BadInput at a flag that needs the policy's weights or tokens."""
  for name in OWN_FLAGS:
    if getattr(args, name):
      raise BadInput(
        f"--{name.replace('_', '-')} needs a policy that is loaded here, and --endpoint has the "
        "text of its replies alone; leave one of them out"
      )


def _job(
  config: Config, options: offline.Options, verdicts: Path | None
) -> offline.Job | remote.Job:
  from gtalign_jax.evaluate import offline, remote

  if config.endpoint.model:
    return remote.Job(config, options, verdicts)
  return offline.Job(config, options, True, verdicts)
