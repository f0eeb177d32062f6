"""`gtalign serve --model DIR`: an OpenAI-compatible server."""

from __future__ import annotations

import argparse
import re
import sys

from gtalign_jax import config as configs
from gtalign_jax.cli import arguments, generate
from gtalign_jax.errors import BadInput
from gtalign_jax.types import has_payoff

ROUND = 32  # tokens: padded lengths are multiples of this
SHORTEST = 256  # padded length, tokens: most requests, with the instructions of compact
SEGMENT = 8  # tokens between looks at who has come and gone: what a stream shows at once

ARGUMENTS: arguments.Declared = {
  "--model": {},
  "--host": dict(default="127.0.0.1", help="address to listen at (default: this machine alone)"),
  "--port": dict(type=int, default=8000, help="0: any that is free (default: 8000)"),
  "--pricing": dict(metavar="NAME|FILE", help="policy of requests that name none"),
  "--max-rows": dict(type=int, default=8, help="answers written at once (default: 8)"),
  "--max-prompt-tokens": dict(type=int, default=1024, help="of a prompt (default: 1024)"),
  "--max-new-tokens": dict(type=int, default=512, help="of an answer (default: 512)"),
  "--queue": dict(type=int, help="answers that may wait (default: four for each row)"),
  "--api-key-env": dict(metavar="VAR", help="environment variable with the key of clients"),
  "--cors": dict(
    action="append", metavar="ORIGIN", help="page elsewhere that may ask, e.g. https://a.b"
  ),
  **{flag: generate.SAMPLING[flag] for flag in ("--dtype", "--template")},
  "--form": {},
  "--template-arguments": {},
  "--constrain": generate.CONSTRAIN,
}
KEYS = {**generate.KEYS, "max_prompt_tokens": "data.max_prompt_tokens"}


def buckets(prompt: int, new: int) -> tuple[int, ...]:
  """Padded lengths: doubling up to the longest prompt, then one for it with an edited opening."""
  longest = -(-prompt // ROUND) * ROUND
  sizes, size = [], min(SHORTEST, longest)
  while size < longest:
    sizes.append(size)
    size *= 2
  return (*sizes, longest, -(-(longest + new) // ROUND) * ROUND)


def run(args: argparse.Namespace) -> int:
  """Serves until a signal."""
  arguments.check(args, max_rows=1, max_prompt_tokens=1, max_new_tokens=1, queue=0, port=0)
  if args.port > 65535:
    raise BadInput(f"--port={args.port}: must be at most 65535")
  for origin in args.cors or ():
    if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
      raise BadInput(f"--cors {origin!r}: must be scheme and host, such as https://a.b, or *")
  if args.pricing and args.form and not has_payoff(args.form):
    raise BadInput(
      f"--pricing: chains of --form={args.form} hold no payoffs; leave one of them out"
    )
  from gtalign_jax.evaluate import offline
  from gtalign_jax.game import pricing

  policy = pricing.load(args.pricing, "--pricing") if args.pricing else None
  given = generate.given(args, KEYS) | {
    "rollout.prompts_at_once": args.max_rows,
    "rollout.prompt_buckets": buckets(args.max_prompt_tokens, args.max_new_tokens),
    "rollout.segment": SEGMENT,
    "data.template_arguments": arguments.template_arguments(args),
  }
  config = generate.constrained(args, configs.vary(offline.config_for(args.model), given))
  from gtalign_jax.serve import server

  queue = 4 * args.max_rows if args.queue is None else args.queue
  options = server.Options(
    args.host, args.port, queue, policy, args.api_key_env, tuple(args.cors or ())
  )

  def ready(address: str) -> None:
    found = {"address": address, "model": server.name_of(args.model), "rows": args.max_rows}
    arguments.show(args, f"serving {found['model']} at {address}\n", found)
    sys.stdout.flush()

  server.run(config, options, ready)
  return 0
