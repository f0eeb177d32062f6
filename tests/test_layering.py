"""The house: imports flow downward and never in a circle; mesh axes are named in parallel/ only."""

import ast
from pathlib import Path

import pytest

import gtalign_jax
from gtalign_jax import endpoint_sections, reward_section, sections, types

ROOT = Path(gtalign_jax.__file__).parent
LEVELS = {
  "__init__": 0, "config": 0, "config_file": 0, "config_rules": 0, "effects": 0, "fields": 0, "sections": 0,
  "endpoint_sections": 0, "conversation_section": 0, "reward_section": 0, "types": 0, "errors": 0, "arrays": 0, "jsonl": 0, "files": 0, "finished": 0, "hints": 0, "aliases": 0, "translate": 0, "progress": 0, "hub": 0, "address": 0, "wording": 0, "concierge_words": 0, "confirmation": 0, "looks": 0,
  "endpoint": 1, "ops": 1, "parallel": 1, "game": 1,
  "models": 2, "data": 2, "rewards": 2, "users": 2,
  "rollout": 3, "algorithms": 3,
  "evaluate": 4, "report": 4, "synthesize": 4,
  "train": 5, "serve": 5,
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
  "httpx2": {"endpoint/"},
  "transformers": {"data/prompts.py", "models/"},
  "starlette": {"serve/"},
  "uvicorn": {"serve/"},
  "prometheus_client": {"serve/"},
  "matplotlib": {"report/charts.py", "evaluate/plots.py", "evaluate/pictures.py"},
}
FORBIDDEN = {"tensorflow", "torch"}

AXES = ("data", "fsdp", "tensor")
# calls whose arguments name mesh axes
SPECS = {"P", "PartitionSpec", "NamedSharding", "Mesh", "AbstractMesh", "make_mesh", "shard_map"}
COLLECTIVES = {
  "psum", "pmean", "pmax", "pmin", "all_gather", "all_to_all", "psum_scatter", "ppermute",
  "axis_index", "axis_size",
}  # fmt: skip
KEYWORDS = {"axis_name", "axis_names", "in_specs", "out_specs", "spmd_axis_name"}


def parse(path):
  return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      yield node.module
      if node.module == "gtalign_jax":
        yield from (f"gtalign_jax.{alias.name}" for alias in node.names)


def module_name(path):
  parts = path.relative_to(ROOT.parent).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_imports(tree, modules):
  """Modules of `modules` that a file names, in functions as well: a deferred import hides a circle.

  `from room import file` means the file, not the room's __init__, which Python also runs.
  """
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names if alias.name in modules)
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        name = f"{node.module}.{alias.name}"
        yield from (each for each in [name if name in modules else node.module] if each in modules)


def circles(graph):
  """Groups of modules that reach each other, each sorted; graph: module -> modules it imports."""

  def reach(start):
    found, waiting = set(), [start]
    while waiting:
      for each in graph[waiting.pop()] - found:
        found.add(each)
        waiting.append(each)
    return found

  reached = {module: reach(module) for module in graph}
  groups = {
    tuple(sorted(each for each in reached[module] if module in reached[each]))
    for module in graph
    if module in reached[module]
  }
  return sorted(groups)


def test_no_module_imports_itself_through_others():
  trees = {module_name(path): parse(path) for path in ROOT.rglob("*.py")}
  graph = {name: set(module_imports(tree, trees)) for name, tree in trees.items()}
  assert sum(map(len, graph.values())) > 200
  assert not circles(graph), circles(graph)


def test_the_circle_check_sees_circles():
  modules = ("a", "a.b", "a.c", "d")
  deferred = ast.parse("def f():\n  from a import b\n  import d")
  assert set(module_imports(deferred, modules)) == {"a.b", "d"}
  assert set(module_imports(ast.parse("from a import load"), modules)) == {"a"}
  assert circles({"a": {"a.b"}, "a.b": {"a.c"}, "a.c": set(), "d": {"a"}}) == []
  assert circles({"a": {"a.b"}, "a.b": {"a.c"}, "a.c": {"a.b"}, "d": {"a"}}) == [("a.b", "a.c")]
  assert circles({"d": {"d"}}) == [("d",)]


def axis_names(tree):
  """(line, axis) of each use of a mesh axis by name.

  "fsdp" and "tensor" mean nothing else here. "data" is an ordinary word too, so it counts only as
  an index of a shape (`mesh.shape["data"]`), in what describes a sharding or a mesh, in a
  collective, in a keyword for axes, in a tuple with another axis, and as an argument of a function
  of `parallel/`.
  """
  house = {
    alias.asname or alias.name
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gtalign_jax.parallel")
    for alias in node.names
  }
  for node in ast.walk(tree):
    if isinstance(node, ast.Constant) and node.value in AXES[1:]:
      yield node.lineno, node.value
    places = []
    if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "shape":
      places = [node.slice]
    elif isinstance(node, ast.Call):
      called = node.func
      name = getattr(called, "attr", getattr(called, "id", ""))
      base = getattr(getattr(called, "value", called), "id", "")  # `mesh` of mesh.rows(…)
      shape = getattr(getattr(called, "value", None), "attr", "") == "shape"  # .shape.get("data")
      if name in SPECS | COLLECTIVES or base in house or shape:
        places = [*node.args, *(each.value for each in node.keywords)]
      else:
        places = [each.value for each in node.keywords if each.arg in KEYWORDS]
    elif isinstance(node, ast.Tuple):
      words = [each.value for each in node.elts if isinstance(each, ast.Constant)]
      places = [node] if "data" in words and set(words) & set(AXES[1:]) else []
    for place in places:
      found = [each for each in ast.walk(place) if getattr(each, "value", None) == "data"]
      yield from ((each.lineno, "data") for each in found if isinstance(each, ast.Constant))


def test_mesh_axes_are_named_in_parallel_only():
  found = {
    f"{path.relative_to(ROOT).as_posix()}:{line} {axis}"
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] != "parallel"
    for line, axis in axis_names(parse(path))
  }
  assert not found, "\n" + "\n".join(sorted(found))


@pytest.mark.parametrize(
  ("code", "axes"),
  [
    ('shards = mesh.shape["data"] * mesh.shape["fsdp"]', ["data", "fsdp"]),
    ('run.mesh.shape.get("data", 1)', ["data"]),
    ('P(None, ("data", "fsdp"))', ["data", "fsdp"]),
    ('jax.sharding.PartitionSpec("data")', ["data"]),
    ('jax.lax.psum(x, "data")', ["data"]),
    ('jax.vmap(f, axis_name="data")', ["data"]),
    ('rows = {"num_heads": ("tensor", arch.num_heads)}', ["tensor"]),
    ('from gtalign_jax.parallel import sharding\nsharding.without(names, "fsdp")', ["fsdp"]),
    ('from gtalign_jax.parallel.mesh import size\nsize(mesh, "data")', ["data"]),
    ('_one_of("data", "template", value, ("compact", "full"))', []),
    ('flat["data"]["weights"]', []),
    ('config = {"data": {"root": "x"}, "rewards": {}}', []),
    ('"the data of a run, as fsdp splits it"', []),
    ("config.data.root", []),
    ('add_argument("--data", help="data")', []),
  ],
)
def test_the_axis_check_tells_axes_from_words(code, axes):
  assert sorted({axis for _, axis in axis_names(ast.parse(code))}) == axes


def test_layers_and_guards():
  seen = 0
  for path in ROOT.rglob("*.py"):
    place = path.relative_to(ROOT).as_posix()
    room = place.split("/")[0].removesuffix(".py")
    assert room in LEVELS, f"{place}: give the room {room!r} a level"
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
  """Every tuple of names in the sections and types.py."""
  for module in (sections, endpoint_sections, reward_section, types):
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
    if path.name not in ("sections.py", "endpoint_sections.py", "reward_section.py", "types.py"):
      found = list(spelled_again(path.read_text(encoding="utf-8")))
      assert not found, f"{path.relative_to(ROOT)}: {found}"
