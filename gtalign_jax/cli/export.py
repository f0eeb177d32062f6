"""`gtalign export`: a run's checkpoint as a Hugging Face directory."""

from __future__ import annotations

import argparse
import json
import sys

from gtalign_jax.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Arguments of the command."""
  parser.add_argument(
    "--checkpoint", required=True, help="a run's workdir or its checkpoints folder"
  )
  parser.add_argument("--out", required=True, help="directory to write; must not hold files")
  parser.add_argument(
    "--step",
    default="latest",
    help="latest (default), best, sft (the policy before GRPO), or the number of a stored GRPO step",
  )
  parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")


def _step(text: str) -> int | str | None:
  if text in ("latest", "best", "sft"):
    return None if text == "latest" else text
  if not text.isdecimal():
    raise BadInput(f"--step {text!r} is not latest, best, sft or a number")
  return int(text)


def run(arguments: argparse.Namespace) -> int:
  """Loads the checkpoint's policy and writes it; LoRA adapters are merged."""
  from gtalign_jax.models import export
  from gtalign_jax.train.checkpoint import load_policy

  step = _step(arguments.step)
  policy = load_policy(arguments.checkpoint, step)
  out = export.save(
    policy.config, policy.params, policy.tokenizer, arguments.out, eos_ids=policy.eos_ids
  )
  if arguments.json:
    sys.stdout.write(json.dumps({"out": str(out), "step": arguments.step}) + "\n")
  else:
    sys.stdout.write(f"wrote {out}\n")
  return 0
