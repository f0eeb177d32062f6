"""`gtalign COMMAND …`: finds the command's module, maps errors to exit codes.

Exit 0 done, 2 bad input (one line on stderr), 1 failure, 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import sys
from collections.abc import Sequence

from gtalign_jax import __version__
from gtalign_jax.errors import BadInput, RunFailure

# name -> (module in gtalign_jax.cli, what --help says). A module loads only when its command runs:
# jax and transformers take seconds, and `gtalign --help` must not wait for them.
COMMANDS = {
  "train": ("train", "the main job: warm start, rollout, reward, GRPO, checkpoints, report"),
  "prepare": ("prepare", "write the prompts of a config as a TFDS data set in ArrayRecord"),
  "sft": ("sft", "run the supervised warm start alone"),
  "synthesize": ("synthesize", "write chains for the warm start, from labels or by a teacher"),
  "score": ("score", "score a file of completions"),
  "normalize": ("normalize", "put the scores of all sources on one scale"),
  "generate": ("generate", "sample completions for a file of prompts"),
  "eval": ("evaluate", "sample a policy on tasks and score it"),
  "compare": ("compare", "compare runs by user and LLM utility"),
  "steer": ("steer", "edit the payoffs inside a chain and continue from the edit"),
  "bench": ("bench", "measure the throughput of rollout and update on fixed work"),
  "plan": ("plan", "compile every program of a run for a TPU slice that is not there"),
  "export": ("export", "write a checkpoint as a Hugging Face directory"),
}


class _Parser(argparse.ArgumentParser):
  # argparse would print its usage over several lines and exit by itself
  def error(self, message: str):
    raise BadInput(f"{self.prog}: {message} (see {self.prog} --help)")


def _overview() -> str:
  rows = "\n".join(f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items())
  return (
    f"usage: gtalign COMMAND …   (gtalign COMMAND --help for its arguments)\n\n{rows}\n\n"
    f"gtalign_jax {__version__}"
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns the exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  if not argv or argv[0] in ("-h", "--help"):
    sys.stdout.write(_overview() + "\n")
    return 0 if argv else 2  # no command at all is a mistake, asking for help is none
  if argv[0] == "--version":
    sys.stdout.write(__version__ + "\n")
    return 0
  try:
    return _run(argv[0], argv[1:])
  except BadInput as error:
    sys.stderr.write(f"gtalign: {_one_line(error)}\n")
    return 2
  except RunFailure as error:
    sys.stderr.write(f"gtalign: {_one_line(error)}\n")
    return 1
  except KeyboardInterrupt:
    sys.stderr.write("gtalign: interrupted; run the same command again to resume\n")
    return 130
  except BrokenPipeError:  # `gtalign … | head`: the reader has what it wanted
    return 1


def _one_line(error: Exception) -> str:
  # messages quote values, and a value may hold line breaks
  return " ".join(str(error).split())


def _run(name: str, argv: list[str]) -> int:
  if name not in COMMANDS:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; see gtalign --help"
    raise BadInput(f"unknown command {name!r}{hint}")
  module = importlib.import_module(f"gtalign_jax.cli.{COMMANDS[name][0]}")
  parser = _Parser(prog=f"gtalign {name}", description=COMMANDS[name][1])
  module.add_arguments(parser)
  arguments = parser.parse_intermixed_args(argv)  # key=value may follow options
  # our own progress at INFO; libraries speak up only when something is wrong
  logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
  logging.getLogger("gtalign_jax").setLevel(logging.INFO)
  return module.run(arguments)
