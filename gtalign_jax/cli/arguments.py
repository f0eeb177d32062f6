"""What the arguments of the commands have in common: config, overrides, model, ranges, JSON."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gtalign_jax import config, files, hints, jsonl, translate, types
from gtalign_jax.config import Config
from gtalign_jax.errors import BadInput

# runs/lr=1e-4/out.jsonl is a path: what stands before its sign is no key
_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")
_FLAG = re.compile(r"--(?P<key>[A-Za-z_][\w.-]*)(?P<value>=.*)?", re.S)
ELSEWHERE = {"teacher": "synthesize", "endpoint": "eval"}  # section -> the command that reads it
MOST_VALUES = 100  # of a sweep, whose every prompt is answered once for each
BITS = 24  # of a count: larger ones overflow the sizes of arrays, in XLA without a word

# Arguments by name, with what argparse is told of them. Each command has its own `ARGUMENTS`; those
# of several commands stand here, and the command's entry adds to it.
Declared = dict[str, dict[str, Any]]
SHARED: Declared = {
  "config": dict(metavar="CONFIG.py", help="e.g. configs/quickstart.py"),
  "output": dict(metavar="OUT.jsonl", help="the file to write"),
  # main parses intermixed, else argparse would take them only in one piece before the flags
  "overrides": dict(nargs="*", metavar="key=value", help="changes to the config"),
  "--model": dict(required=True, help="HF directory, hub id, .gguf file or random:tiny"),
  "--overwrite": dict(action="store_true", help="replace the file of another job, else kept"),
  "--template-arguments": dict(
    default="{}",
    metavar="JSON",
    help='of the model\'s chat template, e.g. {"enable_thinking": false}',
  ),
  "--form": dict(
    choices=tuple(types.FORMS),
    help="of the chain: four blocks, thinking and response, the bare response (default: game)",
  ),
  "--json": dict(action="store_true", help="print one JSON object as the last line of stdout"),
}


def load(args: argparse.Namespace) -> config.Config:
  """The config of a run, as CONFIG.py and the overrides give it; a run asks no teacher, say."""
  found = config.load(args.config, args.overrides)
  for each in args.overrides:
    if command := ELSEWHERE.get(each.partition(".")[0]):
      raise BadInput(f"{each}: only gtalign {command} reads it; leave it out, or run that")
  return found


def is_override(argument: str) -> bool:
  """Whether a positional argument is of the form key=value, and not a path that holds a `=`."""
  return _OVERRIDE.match(argument) is not None


def template_arguments(args: argparse.Namespace) -> config.Table:
  """What --template-arguments says, checked as the key of a config is."""
  given = [f"data.template_arguments={args.template_arguments}"]
  return config.override(config.Config(), given).data.template_arguments


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
    key = found["key"].replace("-", "_") if found else ""
    if found is None or any(flag.startswith(f"--{found['key']}") for flag in known):
      out.append(each)
    elif found["value"]:
      out.append(key + found["value"])
    else:
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
    value, bits = getattr(args, name), 63 if name == "seed" else BITS
    if value is None:
      continue
    fault = ""
    if not value >= low:  # not `<`: NaN is refused as well
      fault = f"at least {low}"
    elif isinstance(value, int) and value >= 2**bits:
      fault = f"below 2**{bits}"
    elif math.isinf(value):
      fault = "a finite number"
    if fault:
      raise BadInput(f"--{name.replace('_', '-')}={value}: must be {fault}")


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


def needs_payoff(config: Config, what: str) -> None:
  """Raises BadInput where chains hold no payoffs, which `what` edits."""
  if not config.has_payoff:
    raise BadInput(
      f"chain.form={config.chain.form!r}: {what} edits payoffs, and such chains hold none; use game"
    )


def sweep(text: str, names: Sequence[str]) -> tuple[str, tuple[float, ...]]:
  """(name, values) of `name=start:stop:count`: so many values, evenly spaced, both ends included.

  Raises BadInput where it is of another form, or the name is none of `names`.
  """
  name, _, span = text.partition("=")
  if name not in names:
    raise BadInput(f"--sweep {text!r}: sweeps {' or '.join(names)}, e.g. {names[0]}=0:0.02:5")
  try:
    start, stop, count = span.split(":")
    low, high, steps = float(start), float(stop), int(count) - 1
  except ValueError:
    raise BadInput(f"--sweep {text!r} must be {name}=START:STOP:COUNT, three numbers") from None
  if not (0 <= low < high < math.inf and 1 <= steps < MOST_VALUES):
    raise BadInput(
      f"--sweep {text!r}: must go up from at least 0, in 2 to {MOST_VALUES} values, all finite"
    )
  # 12 digits: 0.1 + 2 * 0.1 is 0.30000000000000004, and a prompt says the number
  return name, tuple(round(low + (high - low) * k / steps, 12) for k in range(steps + 1))


def show(
  args: argparse.Namespace, text: str, result: Mapping[str, Any], alone: bool = False
) -> None:
  """Prints `text` for people and, with --json, `result` as the last line, or `alone`."""
  if not (args.json and alone):
    # the rows of OUT=/dev/stdout stand there alone, for the program that reads them
    rows = files.is_stdout(getattr(args, "output", ""))
    (sys.stderr if rows else sys.stdout).write(text)
  if args.json:  # jsonl.dumps: NaN is null, which every parser of JSON reads
    sys.stdout.write(jsonl.dumps(result) + "\n")
