"""What the arguments of the commands have in common: config, overrides, model, ranges, JSON."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from gtalign_jax import config, files, hints, jsonl, translate
from gtalign_jax.errors import BadInput

# runs/lr=1e-4/out.jsonl is a path: what stands before its sign is no key
_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")
_FLAG = re.compile(r"--(?P<key>[A-Za-z_][\w.-]*)(?P<value>=.*)?", re.S)
LARGEST = 2**24  # of a count: larger ones overflow the sizes of arrays, in XLA without a word


def config_file(parser: argparse.ArgumentParser) -> None:
  """CONFIG.py, the first argument of most commands; `load` reads it."""
  parser.add_argument("config", metavar="CONFIG.py", help="e.g. configs/quickstart.py")


def overrides(parser: argparse.ArgumentParser, metavar: str = "key=value") -> None:
  """Any number of `key=value`, after the other positional arguments."""
  # main parses intermixed, else argparse would take them only in one piece before the flags
  parser.add_argument("overrides", nargs="*", metavar=metavar, help="changes to the config")


def model_flag(parser: argparse.ArgumentParser, required: bool = True) -> None:
  """--model."""
  parser.add_argument(
    "--model", required=required, help="HF directory, hub id, .gguf file or random:tiny"
  )


def json_flag(parser: argparse.ArgumentParser) -> None:
  """--json."""
  parser.add_argument(
    "--json", action="store_true", help="print one JSON object as the last line of stdout"
  )


def load(args: argparse.Namespace) -> config.Config:
  """The config of a run, as CONFIG.py and the overrides give it; a run asks no teacher."""
  found = config.load(args.config, args.overrides)
  for each in args.overrides:
    if each.startswith("teacher."):
      raise BadInput(f"{each}: only gtalign synthesize reads it; leave it out, or run that first")
  return found


def is_override(argument: str) -> bool:
  """Whether a positional argument is of the form key=value, and not a path that holds a `=`."""
  return _OVERRIDE.match(argument) is not None


def output(parser: argparse.ArgumentParser) -> None:
  """OUT.jsonl."""
  parser.add_argument("output", metavar="OUT.jsonl", help="the file to write")


def template_flag(parser: argparse.ArgumentParser) -> None:
  """--template-arguments, for commands that take no key of a config."""
  parser.add_argument(
    "--template-arguments",
    default="{}",
    metavar="JSON",
    help='of the model\'s chat template, e.g. {"enable_thinking": false}',
  )


def template_arguments(args: argparse.Namespace) -> config.Table:
  """What --template-arguments says, checked as the key of a config is."""
  given = [f"data.template_arguments={args.template_arguments}"]
  return config.override(config.Config(), given).data.template_arguments


def overwrite_flag(parser: argparse.ArgumentParser) -> None:
  """--overwrite."""
  parser.add_argument(
    "--overwrite", action="store_true", help="replace the file of another job, which else is kept"
  )


def spelled(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
  """`argv` with `--key=value` as `key=value` where the parser takes overrides and has no such flag.

  Raises BadInput at a flag that is neither, naming the key that it may have meant.
  """
  known = parser._option_string_actions  # no public name; argparse has had it since 2.7
  if not any(action.dest in ("overrides", "arguments") for action in parser._actions):
    return list(argv)
  out = []
  for each in argv:
    found = _FLAG.fullmatch(each)
    if found is None or any(flag.startswith(f"--{found['key']}") for flag in known):
      out.append(each)
    elif found["value"]:
      out.append(found["key"].replace("-", "_") + found["value"])
    else:
      key = found["key"].replace("-", "_")
      known_keys = config.keys(config.Config())
      hint = key if key in known_keys else hints.near_key(key, known_keys)
      raise BadInput(
        f"{parser.prog}: no flag {each!r}; keys of the config are set as key=value"
        + (f", here {hint}=…" if hint else "")
        + f" (see {parser.prog} --help)"
      )
  return out


def check(args: argparse.Namespace, **lowest: float) -> None:
  """Raises BadInput where a number is below its lowest value, infinite, or too large for arrays."""
  for name, low in lowest.items():
    value = getattr(args, name)
    if value is None:
      continue
    shown = f"--{name.replace('_', '-')}={value}"
    if not value >= low:  # not `<`: NaN is refused as well
      raise BadInput(f"{shown}: must be at least {low}")
    highest, text = (2**63, "2**63") if name == "seed" else (LARGEST, "2**24")
    if isinstance(value, int) and value >= highest:
      raise BadInput(f"{shown}: must be below {text}")
    if math.isinf(value):
      raise BadInput(f"{shown}: must be a finite number")


def only(overrides: Sequence[str], allowed: Sequence[str], command: str) -> None:
  """Raises BadInput at an override that `command` would not look at.

  allowed: keys, or sections ending in a dot. A setting without effect would pass for one with.
  """
  known, sections = config.keys(config.Config()), tuple(x for x in allowed if x.endswith("."))
  for each in overrides:
    for key in translate.sets(each.partition("=")[0]):  # an unknown one is config's to refuse
      if key not in known or key in allowed or key.startswith(sections):
        continue
      raise BadInput(f"{each}: gtalign {command} reads only {', '.join(allowed)}; leave it out")


def show(args: argparse.Namespace, text: str, result: Mapping[str, Any]) -> None:
  """Prints `text` for people and then, with --json, `result` as the last line."""
  _for_people(args).write(text)
  if args.json:  # jsonl.dumps: NaN is null, which every parser of JSON reads
    sys.stdout.write(jsonl.dumps(result) + "\n")


def show_one(args: argparse.Namespace, text: str, result: Mapping[str, Any]) -> None:
  """Prints `result` alone with --json, else the line `text`."""
  if args.json:
    sys.stdout.write(jsonl.dumps(result) + "\n")
  else:
    _for_people(args).write(f"{text}\n")


def _for_people(args: argparse.Namespace) -> TextIO:
  # the rows of OUT=/dev/stdout stand there alone, for the program that reads them
  rows = files.is_stdout(getattr(args, "output", ""))
  return sys.stderr if rows else sys.stdout
