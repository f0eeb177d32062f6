"""Imports flow downward: a room imports rooms of lower levels only."""

import ast
from pathlib import Path

import gtalign_jax

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
