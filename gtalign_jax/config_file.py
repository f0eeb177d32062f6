"""Executes a config file (`def config() -> Config`), wherever it lies; see `config.load`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import re
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.fields import did_you_mean

PACKAGE = Path(__file__).parent


def execute(path: Path, sections: Mapping[str, Any]) -> Any:
  """What `config()` of the file at `path` returns.

  sections: the dataclasses of a config by name, for hints. Raises BadInput, which names file and
  line, where the file fails or defines no such function.
  """
  if not path.is_file():
    raise BadInput(
      f"config {str(path)!r} is not a file; pass a file of configs/, e.g. configs/smoke.py"
    )
  places = _places(path)
  with _importable(places):
    try:
      # by path, not by name: a config may lie anywhere and be called anything, 3b-long.py too
      make = runpy.run_path(str(path)).get("config")
      found = make() if callable(make) else None
    except (Exception, SystemExit) as error:  # whatever it is, it is the file's: exit 2, not 1
      raise BadInput(f"{_line(error, places) or path}: {_what(error, sections)}") from error
  if not callable(make):
    raise BadInput(f"config {str(path)!r} defines no function config(); see configs/smoke.py")
  return found


def _places(path: Path) -> list[str]:
  """Folders that a config file imports from: the one above its package, or its own; and the cwd."""
  root = path.resolve().parent
  # a file of a package sees what the package's files see, and none of them as a top-level module:
  # configs/ablations/linear.py must not answer to `import linear`
  while (root / "__init__.py").exists():
    root = root.parent
  return [str(place) for place in dict.fromkeys((root, Path.cwd()))]


@contextlib.contextmanager
def _importable(places: Sequence[str]) -> Iterator[None]:
  """Puts `places` first on the import path, and afterwards forgets what was imported from there.

  A file that is edited between two calls is read again, and two clones do not share `configs`.
  """
  before = set(sys.modules)
  sys.path[:0] = places
  importlib.invalidate_caches()  # files may be younger than the import system's listing
  try:
    yield
  finally:
    for place in places:  # not a copy of the old path: a config file may have added to it
      with contextlib.suppress(ValueError):
        sys.path.remove(place)
    # whole packages that are new: a part of gtalign_jax that the file was first to import stays
    new = [name for name in sys.modules if name.partition(".")[0] not in before]
    for name in [name for name in new if _home(name) in places]:
      del sys.modules[name]


def _home(name: str) -> str:
  """The folder in which the import system found the package, or else the module, of `name`."""
  spec = getattr(sys.modules.get(name.partition(".")[0]), "__spec__", None)
  if spec is None:
    return ""
  found = list(spec.submodule_search_locations or [spec.origin or ""])
  return str(Path(found[0]).parent)


def _line(error: BaseException, places: Sequence[str]) -> str:
  """`file:line` of the innermost config file that `error` came through; "" if there is none."""
  if isinstance(error, SyntaxError) and error.filename:
    return f"{error.filename}:{error.lineno}"
  found = ""
  for frame in traceback.extract_tb(error.__traceback__):
    file = Path(frame.filename).resolve()
    above = {str(folder) for folder in file.parents}
    library = PACKAGE in file.parents or "site-packages" in file.parts
    generated = file.suffix != ".py"  # "<string>": the __init__ of a dataclass
    if above & set(places) and not (library or generated):
      found = f"{frame.filename}:{frame.lineno}"
  return found


def _what(error: BaseException, sections: Mapping[str, Any]) -> str:
  """One line for an error of a config file: ours as it is, others with their type."""
  if isinstance(error, BadInput):
    return str(error)
  # the words of Python 3.11 to 3.13; should they change, the general line below still says it
  match = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
  section = sections.get(match[1]) if match else None
  if match and dataclasses.is_dataclass(section):
    known = [each.name for each in dataclasses.fields(section)]
    return f"{match[1]} has no key {match[2]!r}{did_you_mean(match[2], known)}"
  return f"{type(error).__name__}: {first_line(error)}"
