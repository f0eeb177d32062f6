"""`gtalign config [CONFIG.py] [key=value …]`: every key with its value, default and meaning."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import re
import textwrap
from typing import Any, NamedTuple

from gtalign_jax import config as configs
from gtalign_jax import endpoint_sections, reward_section, sections
from gtalign_jax.cli import arguments
from gtalign_jax.config import Config
from gtalign_jax.errors import BadInput

WIDTH = 100  # columns of the text
_ENUMERATION = re.compile(r"\b[A-Z][A-Z_]{4,}\b")  # the name of a tuple of names in sections.py


class Key(NamedTuple):
  """One key. role: identity, placement or extendable (sections.py says what that is)."""

  key: str
  value: Any
  default: Any
  role: str
  meaning: str


ARGUMENTS: arguments.Declared = {
  "arguments": dict(
    nargs="*", metavar="CONFIG.py key=value", help="without CONFIG.py, the defaults are shown"
  ),
}


def run(args: argparse.Namespace) -> int:
  """Prints the keys; with --json also as one object."""
  overrides = [each for each in args.arguments if arguments.is_override(each)]
  paths = [each for each in args.arguments if each not in overrides]
  if len(paths) > 1:
    raise BadInput(f"gtalign config takes one CONFIG.py, got {' '.join(paths)}")
  config = configs.load(paths[0], overrides) if paths else configs.override(Config(), overrides)
  found = keys(config)
  arguments.show(args, text(found), {"keys": [each._asdict() for each in found]})
  return 0


def keys(config: Config) -> list[Key]:
  """All keys of a config, in the order of its sections."""
  values, defaults = (configs.flat(configs.as_dict(each)) for each in (config, Config()))
  meaning, role = _meanings(config), configs.roles(config)
  return [Key(key, values[key], defaults[key], role[key], meaning[key]) for key in values]


def text(found: list[Key]) -> str:
  """The keys for people, section by section; * marks what is not the default."""
  lines = ["* not the default; (p) placement: may change between two starts of a run"]
  section = ""
  for each in found:
    above = each.key.rpartition(".")[0]
    if above != section:
      lines, section = [*lines, ""], above
    changed = each.value != each.default
    head = f"{'*' if changed else ' '} {each.key}={_shown(each.value)}"
    notes = "(p) " if each.role == "placement" else ""
    notes += each.meaning + (f" [default {_shown(each.default)}]" if changed else "")
    first = f"{head:<48}"
    lines += textwrap.wrap(
      notes, WIDTH, initial_indent=f"{first}  ", subsequent_indent=" " * 50
    ) or [head]
  return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
  """As it is typed on a command line, as far as there is one form."""
  return str(tuple(value)).replace(" ", "") if isinstance(value, list) else str(value)


def _meanings(section: Any, prefix: str = "") -> dict[str, str]:
  found: dict[str, str] = {}
  kinds = [each for each in reversed(type(section).__mro__) if dataclasses.is_dataclass(each)]
  comments = {name: said for kind in kinds for name, said in _comments(kind).items()}
  for each in dataclasses.fields(section):
    value = getattr(section, each.name)
    if dataclasses.is_dataclass(value):
      found |= _meanings(value, f"{prefix}{each.name}.")
    else:
      found[prefix + each.name] = _ENUMERATION.sub(_names, comments.get(each.name, ""))
  return found


def _names(found: re.Match[str]) -> str:
  names = vars(endpoint_sections) | vars(reward_section) | vars(sections)
  return " | ".join(names.get(found[0], (found[0],)))


@functools.cache  # to read source takes milliseconds
def _comments(section: Any) -> dict[str, str]:
  """Field -> comment behind it, else above it, of a dataclass: its source is its one document."""
  found: dict[str, str] = {}
  above: list[str] = []
  name = ""
  for line in inspect.getsource(section).partition("\n  def ")[0].splitlines():
    if line.startswith("  # "):
      above.append(line[4:])
      continue
    if declared := re.match(r"  (\w+): ", line):
      name = declared[1]
      found[name] = " ".join(above)
    if behind := re.search(r"  # (.*)", line):
      found[name] = behind[1]
    above = []
  return found
