"""`gtalign bench --model DIR …`: throughput on fixed work."""

from __future__ import annotations

import argparse

from gtalign_jax import sections
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput

# flag -> default; micro_prompts: prompts per gradient slice
COUNTS = {
  "prompts": 4, "group_size": 8, "prompt_tokens": 236, "new_tokens": 128, "micro_prompts": 1,
  "repeats": 3,
}  # fmt: skip


ARGUMENTS: arguments.Declared = {
  "--model": {},
  **{f"--{k.replace('_', '-')}": dict(type=int, default=v) for k, v in COUNTS.items()},
  "--dtype": dict(default="float32", choices=sections.DTYPES),
  "--remat": dict(default="none", choices=sections.REMATS),
}


def run(args: argparse.Namespace) -> int:
  """Measures and prints."""
  arguments.check(args, **dict.fromkeys(COUNTS, 1))
  if args.prompts % args.micro_prompts:
    raise BadInput(f"--micro-prompts={args.micro_prompts} does not divide --prompts={args.prompts}")
  from gtalign_jax.train import bench

  work = bench.Work(*(getattr(args, name) for name in bench.Work._fields))
  result = bench.run(args.model, work, args.repeats)
  lines = [f"{k:>22} {v:10.3f}\n" for k, v in result.items() if isinstance(v, float)]
  arguments.show(args, "".join(lines), result)
  return 0
