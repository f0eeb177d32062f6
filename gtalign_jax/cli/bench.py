"""`gtalign bench --model DIR …`: throughput on fixed work."""

from __future__ import annotations

import argparse

from gtalign_jax import sections
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  arguments.model_flag(parser)
  parser.add_argument("--prompts", type=int, default=4)
  parser.add_argument("--group-size", type=int, default=8)
  parser.add_argument("--prompt-tokens", type=int, default=236)
  parser.add_argument("--new-tokens", type=int, default=128)
  parser.add_argument("--micro-prompts", type=int, default=1, help="prompts per gradient slice")
  parser.add_argument("--dtype", default="float32", choices=sections.DTYPES)
  parser.add_argument("--remat", default="none", choices=sections.REMATS)
  parser.add_argument("--repeats", type=int, default=3)
  arguments.json_flag(parser)


def run(args: argparse.Namespace) -> int:
  """Measures and prints."""
  counts = ("prompts", "group_size", "prompt_tokens", "new_tokens", "micro_prompts", "repeats")
  arguments.check(args, **dict.fromkeys(counts, 1))
  if args.prompts % args.micro_prompts:
    raise BadInput(f"--micro-prompts={args.micro_prompts} does not divide --prompts={args.prompts}")
  from gtalign_jax.train import bench

  work = bench.Work(
    args.prompts,
    args.group_size,
    args.prompt_tokens,
    args.new_tokens,
    args.micro_prompts,
    args.dtype,
    args.remat,
  )
  result = bench.run(args.model, work, args.repeats)
  numbers = {name: value for name, value in result.items() if isinstance(value, float)}
  lines = [f"{name:>22} {value:10.3f}\n" for name, value in numbers.items()]
  arguments.show(args, "".join(lines), result)
  return 0
