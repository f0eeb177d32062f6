"""`gtalign COMMAND …`: finds the command's module, maps errors to exit codes.

Exit 0 done, 2 bad input, 1 failure, 130 interrupted; what went wrong is one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from gtalign_jax import __version__
from gtalign_jax.cli import arguments, crash
from gtalign_jax.errors import BadInput, RunFailure

# name -> (module in gtalign_jax.cli, what --help says). A module loads only when its command runs:
# jax and transformers take seconds, and `gtalign --help` must not wait for them.
COMMANDS = {
  "train": ("train", "the main job: warm start, rollout, reward, GRPO, checkpoints, report"),
  "config": ("keys", "print every key of a config with its value, default and meaning"),
  "prepare": ("prepare", "write the prompts of a config as a TFDS data set in ArrayRecord"),
  "sft": ("train", "run the supervised warm start alone"),
  "synthesize": ("synthesize", "write chains for the warm start, from labels or by a teacher"),
  "score": ("score", "score a file of completions"),
  "normalize": ("normalize", "put the scores of all sources on one scale"),
  "generate": ("generate", "sample completions for a file of prompts"),
  "eval": ("evaluate", "sample a policy on tasks and score it"),
  "compare": ("compare", "compare runs by user and LLM utility"),
  "steer": ("steer", "edit the payoffs inside a chain and continue from the edit"),
  "serve": ("serve", "answer requests of OpenAI's clients with a policy"),
  "bench": ("bench", "measure the throughput of rollout and update on fixed work"),
  "plan": ("plan", "compile every program of a run for a TPU slice that is not there"),
  "export": ("export", "write a checkpoint as a Hugging Face directory, or push it to the hub"),
  "show": ("show", "the report of runs in a browser, live while they train"),
}

LONGEST = 2000  # characters of an error: a value that is quoted may be a file by mistake


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
  _tolerant_streams()
  try:
    code = _run(argv)
    sys.stdout.flush()  # here, where an error can still become a line and an exit code
    return code
  except BrokenPipeError:  # `gtalign … | head`: the reader has what it wanted
    _forget_stdout()
    return 1
  except SystemExit:  # of argparse, after --help
    raise
  except KeyboardInterrupt:
    code, text = 130, "interrupted; run the same command again to resume"
  except BadInput as error:
    code, text = 2, str(error)
  except RunFailure as error:
    code, text = 1, str(error)
  except Exception as error:
    code, text = crash.explain(error)
  sys.stderr.write(f"gtalign: {_one_line(text)}\n")
  return code


def _tolerant_streams() -> None:
  """Makes stdout and stderr take any text, whatever their encoding and whether or not they exist.

  A run must not end, after hours, at a character that LC_ALL=C or PYTHONIOENCODING=ascii cannot
  spell: it is written as \\xe9 then, as Python itself does on stderr.
  """
  for name in ("stdout", "stderr"):
    stream = getattr(sys, name)
    if stream is None:  # closed by the caller: `gtalign … >&-`
      setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    elif isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
  """Points stdout nowhere: Python flushes it on exit, and would complain of the closed pipe."""
  with contextlib.suppress(OSError, ValueError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(text: str) -> str:
  # messages quote values, and a value may hold line breaks and orders to the terminal
  line = " ".join(text.split())
  line = line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
  return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def command(name: str) -> tuple[ModuleType, argparse.ArgumentParser]:
  """The module of a command and the parser of its arguments; they hold the name as `command`."""
  module = importlib.import_module(f"gtalign_jax.cli.{COMMANDS[name][0]}")
  parser = _Parser(prog=f"gtalign {name}", description=COMMANDS[name][1])
  parser.set_defaults(command=name)
  for each, options in {**module.ARGUMENTS, "--json": {}}.items():
    parser.add_argument(each, **arguments.SHARED.get(each, {}) | options)
  return module, parser


def _run(argv: list[str]) -> int:
  if not argv or argv[0] in ("-h", "--help"):
    sys.stdout.write(_overview() + "\n")
    return 0 if argv else 2  # no command at all is a mistake, asking for help is none
  name, *rest = argv
  if name == "--version":
    sys.stdout.write(__version__ + "\n")
    return 0
  if name not in COMMANDS:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; see gtalign --help"
    raise BadInput(f"unknown command {name!r}{hint}")
  module, parser = command(name)
  # key=value may follow options, and may be spelled --key=value
  args = parser.parse_intermixed_args(arguments.spelled(parser, rest))
  # our own progress at INFO; libraries speak up only when something is wrong
  logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
  logging.getLogger("gtalign_jax").setLevel(logging.INFO)
  return module.run(args)
