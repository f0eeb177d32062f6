"""Imports flow downward: a room imports rooms of lower levels only. Names are listed once."""

import ast
from pathlib import Path

import gtalign_jax
from gtalign_jax import sections, types

ROOT = Path(gtalign_jax.__file__).parent
LEVELS = {
  "config": 0, "sections": 0, "types": 0, "errors": 0, "arrays": 0, "jsonl": 0, "files": 0,
  "progress": 0, "hub": 0,
  "ops": 1, "parallel": 1, "game": 1,
  "models": 2, "data": 2, "rewards": 2,
  "rollout": 3, "algorithms": 3,
  "evaluate": 4, "synthesize": 4,
  "train": 5,
  "cli": 6, "__main__": 7,
}  # fmt: skip
# outside library -> the only places that may import it
GUARDED = {
  "orbax": {"train/checkpoint.py"},
  "datasets": {"data/"},
  "tensorflow_datasets": {"data/"},
  "grain": {"data/"},
  "safetensors": {"models/"},
  "gguf": {"models/"},
  "transformers": {"data/prompts.py", "models/"},
}
FORBIDDEN = {"tensorflow", "torch"}


def imports(path):
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      yield node.module
      if node.module == "gtalign_jax":
        yield from (f"gtalign_jax.{alias.name}" for alias in node.names)


def test_layers_and_guards():
  seen = 0
  for path in ROOT.rglob("*.py"):
    place = path.relative_to(ROOT).as_posix()
    room = place.split("/")[0].removesuffix(".py")
    for name in imports(path):
      seen += 1
      top = name.split(".")[0]
      assert top not in FORBIDDEN, f"{place} imports {name}"
      if top in GUARDED:
        assert any(place.startswith(home) for home in GUARDED[top]), f"{place} imports {name}"
      parts = name.split(".")
      if top == "gtalign_jax" and len(parts) > 1 and parts[1] in LEVELS and parts[1] != room:
        lower = LEVELS[parts[1]] < LEVELS[room]
        ground = LEVELS[room] == LEVELS[parts[1]] == 0
        assert lower or ground, f"{place} (L{LEVELS[room]}) imports {name} (L{LEVELS[parts[1]]})"
  assert seen > 50
  assert all((ROOT / room).exists() or (ROOT / f"{room}.py").exists() for room in LEVELS)


def enumerations():
  """Every tuple of names in sections.py and types.py."""
  for module in (sections, types):
    for name, value in vars(module).items():
      if name.isupper() and isinstance(value, tuple) and all(isinstance(x, str) for x in value):
        yield name, set(value)


def listed(tree):
  """(line, strings) of every literal tuple, list and set.

  Not of dicts: one that maps names to what they do is the code behind the names, and a name that it
  lacks fails when it is used.
  """
  for node in ast.walk(tree):
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
      found = {x.value for x in node.elts if isinstance(x, ast.Constant)}
      yield node.lineno, {x for x in found if isinstance(x, str)}


def spelled_again(source):
  """Lines that list three names of an enumeration, or both of one that has two."""
  for line, strings in listed(ast.parse(source)):
    for name, values in enumerations():
      if len(strings & values) >= min(3, len(values)) and (len(values) > 2 or strings == values):
        yield f"line {line} spells {name} again; import it"


def test_names_are_listed_once():
  assert len(dict(enumerations())) > 15
  assert list(spelled_again('KINDS = ["grpo", "gspo", "cispo"]'))
  assert list(spelled_again('choices=("float32", "bfloat16")'))
  for path in ROOT.rglob("*.py"):
    if path.name not in ("sections.py", "types.py"):
      found = list(spelled_again(path.read_text(encoding="utf-8")))
      assert not found, f"{path.relative_to(ROOT)}: {found}"
