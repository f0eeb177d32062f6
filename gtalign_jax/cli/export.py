"""`gtalign export`: a run's checkpoint as a Hugging Face directory."""

from __future__ import annotations

import argparse

from gtalign_jax import files
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput

ARGUMENTS: arguments.Declared = {
  "--checkpoint": dict(required=True, help="the workdir of a run, or its checkpoints folder"),
  "--out": dict(required=True, help="directory to write; it must not hold files"),
  "--step": dict(
    default="latest",
    help="latest (the default), best, sft (the policy before GRPO) or the number of a step",
  ),
}


def run(args: argparse.Namespace) -> int:
  """Loads the checkpoint's policy and writes it; LoRA adapters are merged."""
  step = _step(args.step)  # before the imports, which take seconds
  files.check_folder(args.out, "--out", empty=True)
  from gtalign_jax.models import export
  from gtalign_jax.train.checkpoint import load_policy

  # eos_ids apart: a generation config may name more of them than the tokenizer does
  policy = load_policy(args.checkpoint, step)
  out = export.save(
    policy.config, policy.params, policy.tokenizer, args.out, eos_ids=policy.eos_ids
  )
  arguments.show(args, f"wrote {out}\n", {"out": str(out), "step": args.step}, alone=True)
  return 0


def _step(text: str) -> int | str | None:
  """What `load_policy` calls the step; None is the latest."""
  if text in ("latest", "best", "sft"):
    return None if text == "latest" else text
  if not text.isdecimal() or len(text) > 9:  # Python itself refuses to read thousands of digits
    raise BadInput(f"--step {text[:40]!r} is not latest, best, sft or the number of a step")
  return int(text)
