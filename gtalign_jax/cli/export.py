"""`gtalign export`: a run's checkpoint as a Hugging Face directory, and on the hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from gtalign_jax import files, hub
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput, RunFailure

ARGUMENTS: arguments.Declared = {
  "--checkpoint": dict(required=True, help="the workdir of a run, or its checkpoints folder"),
  "--out": dict(required=True, help="directory to write; it must not hold files"),
  "--step": dict(
    default="latest",
    help="latest (the default), best, sft (the policy before GRPO) or the number of a step",
  ),
  "--adapters": dict(
    action="store_true", help="write LoRA adapters alone, as PEFT reads them; else merged"
  ),
  "--push": dict(
    metavar="OWNER/NAME", help="then push the directory to the hub; HF_TOKEN holds the token"
  ),
  "--public": dict(action="store_true", help="a new repository is public; else private"),
  "--dry-run": dict(action="store_true", help="say what --push would do; the hub is not asked"),
}


def run(args: argparse.Namespace) -> int:
  """Loads the checkpoint's policy, writes it with its model card, and pushes it if asked to."""
  step = _step(args.step)  # before the imports, which take seconds
  if args.push is None and (args.public or args.dry_run):
    raise BadInput(f"{'--public' if args.public else '--dry-run'} says how to --push; name that")
  files.check_folder(args.out, "--out", empty=True)
  if args.push is not None:
    hub.check_name(args.push)
  to = hub.destination(args.push) if args.push and not args.dry_run else None
  found = {"out": args.out, **_write(args, step)}
  text = f"wrote {args.out}\n"
  if args.push:
    sizes = {path.name: path.stat().st_size for path in sorted(Path(args.out).iterdir())}
    found["push"] = {"repository": args.push, "files": sizes, "public": args.public}
    text += _told(args, sizes)
  if to is not None:
    try:
      found["push"]["commit"] = hub.push(to, args.out, args.public)
    except RunFailure as error:
      raise RunFailure(f"{error}, or: hf upload {args.push} {args.out}") from None
    text += f"pushed: {found['push']['commit']}\n"
  arguments.show(args, text, found, alone=True)
  return 0


def _write(args: argparse.Namespace, step: int | str | None) -> dict[str, str | int]:
  """Writes the directory; says which step of which phase it is."""
  from gtalign_jax.models import export
  from gtalign_jax.report import card, results
  from gtalign_jax.train import checkpoint

  found = checkpoint.load_stored(args.checkpoint, step, base=not args.adapters)
  if args.adapters and not found.config.policy.lora_rank:
    raise BadInput(f"--adapters: {args.checkpoint} trained whole weights; leave it out")
  exported = card.Policy(found.phase, found.step, args.adapters)
  report = results.load(found.workdir)
  words = card.text(report, exported, args.push or "")
  arch, tokenizer = found.frame.config, found.frame.tokenizer
  if args.adapters:
    base = card.base(report)
    export.save_adapters(
      arch, found.params, found.config.policy, tokenizer, args.out, base=base, card=words
    )
  else:
    # eos_ids apart: a generation config may name more of them than the tokenizer does
    params, eos_ids = checkpoint.merged(found).params, found.frame.eos_ids
    export.save(arch, params, tokenizer, args.out, eos_ids=eos_ids, card=words)
  return {"phase": found.phase, "step": found.step}


def _told(args: argparse.Namespace, sizes: dict[str, int]) -> str:
  """What goes where, for people."""
  kind = "public" if args.public else "private"
  lines = [
    f"{'would push' if args.dry_run else 'pushing'} to {args.push} ({kind} where it is new):"
  ]
  lines += [f"  {size:>13,} bytes  {name}" for name, size in sizes.items()]
  return "\n".join(lines) + "\n"


def _step(text: str) -> int | str | None:
  """What `load_stored` calls the step; None is the latest."""
  if text in ("latest", "best", "sft"):
    return None if text == "latest" else text
  if not text.isdecimal() or len(text) > 9:  # Python itself refuses to read thousands of digits
    raise BadInput(f"--step {text[:40]!r} is not latest, best, sft or the number of a step")
  return int(text)
