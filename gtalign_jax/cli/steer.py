"""`gtalign steer --model DIR --pricing NAME|FILE --question "…"`: edit payoffs inside a chain."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput
from gtalign_jax.types import CELLS

TRIES = 4


ARGUMENTS: arguments.Declared = {
  "--model": {},
  "--pricing": dict(
    required=True,
    action="append",
    metavar="NAME|FILE",
    help="free, subscription, pay_per_token, pay_per_character or a .toml file; may be repeated",
  ),
  "--question": dict(required=True, help="what the user asks"),
  "--max-new-tokens": dict(
    type=int, default=320, help="token budget up to the payoffs, and the same again after them"
  ),
  "--temperature": dict(type=float, default=1.0, help="0 = greedy"),
  "--seed": dict(type=int, default=0),
  "--tries": dict(
    type=int, help=f"chains sampled at most, until the payoffs of one parse (default: {TRIES})"
  ),
  "--template": dict(default="compact", choices=("compact", "full")),
  "--template-arguments": {},
}


def _check(args: argparse.Namespace) -> None:
  arguments.check(args, max_new_tokens=1, temperature=0, seed=0, tries=1)
  if args.tries is not None and args.tries > 1 and args.temperature == 0:
    raise BadInput(f"--tries={args.tries}: greedy chains are all the same; give a --temperature")
  if not args.question.strip():
    raise BadInput(f"--question={args.question!r} is empty; ask something")
  try:  # the shell passes bytes that are no UTF-8 as lone surrogates, and no tokenizer takes those
    args.question.encode()
  except UnicodeEncodeError:
    raise BadInput("--question is not valid UTF-8") from None


def run(args: argparse.Namespace) -> int:
  """Samples, edits, continues; prints a table for each pricing policy."""
  _check(args)
  given = arguments.template_arguments(args)
  from gtalign_jax.game import pricing

  policies = [pricing.load(each) for each in args.pricing]  # before the model: it loads for long
  from gtalign_jax import models
  from gtalign_jax.rollout import steer
  from gtalign_jax.sections import RolloutConfig

  # of a rollout's settings only the stop strings and the sampling matter to one chain
  config = dataclasses.replace(
    RolloutConfig(), max_new_tokens=args.max_new_tokens, temperature=args.temperature
  )
  policy = models.load(args.model)
  prompt = steer.question_ids(policy.tokenizer, args.question, args.template, given)
  complete = steer.Completer(policy, config, args.seed, args.question)
  tries = (args.tries or TRIES) if args.temperature > 0 else 1
  results = steer.steer(policy.tokenizer, complete, prompt, policies, config.stop, tries)
  found = {"question": args.question, "policies": results}
  arguments.show(args, "\n".join(map(table, results)), found)
  return 0


def table(result: dict[str, Any]) -> str:
  """One result of `steer` for people: both matrices side by side, choices and responses."""
  lines = [f"pricing {result['pricing']}, question {result['user_type'] or 'of no declared type'}"]
  lines.append(f"{'':9}{'as written':^17}{'edited':^17}")
  lines.append(f"{'cell':9}" + f"{'LLM':>7}{'user':>7}   " * 2)
  for cell in CELLS:
    pairs = (result["payoff"][cell], result["edited"][cell])
    lines.append(f"{cell:9}" + "".join(f"{p['LLM']:7.1f}{p['user']:7.1f}   " for p in pairs))
  for key in ("choice", "named"):
    before, after = result[key] or "-", result[f"edited_{key}"] or "-"
    lines.append(f"{key:9}{before:>14}   {after:>14}")
  for label, prefix in (("as written", ""), ("edited", "edited_")):
    error = result[prefix + "parse_error"]
    said = result[prefix + "response"] or ""
    # a model may write escape sequences
    shown = "".join(char if char.isprintable() else " " for char in said)
    lines.append(f"{label}: " + (f"({error}) " if error else "") + shown)
  return "\n".join(line.rstrip() for line in lines) + "\n"
