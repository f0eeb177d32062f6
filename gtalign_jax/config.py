"""A run's config: all sections in one frozen dataclass, loaded from one Python file.

`load(path, overrides)` executes a config file (`def config() -> Config`) and applies `key=value`
overrides; unknown keys fail with the nearest name, values with the rule they break. Sections are
hashable, so they serve as jit static arguments. Standard library only.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import hashlib
import json
import runpy
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.sections import (
  CheckpointConfig,
  DataConfig,
  EvalConfig,
  GRPOConfig,
  JudgeConfig,
  LogConfig,
  MeshConfig,
  OptimConfig,
  PolicyConfig,
  RewardConfig,
  RolloutConfig,
  SFTConfig,
  Table,
)

__all__ = [
  "CheckpointConfig",
  "Config",
  "DataConfig",
  "EvalConfig",
  "GRPOConfig",
  "JudgeConfig",
  "LogConfig",
  "MeshConfig",
  "OptimConfig",
  "PolicyConfig",
  "RewardConfig",
  "RolloutConfig",
  "SFTConfig",
  "Table",
  "as_dict",
  "differences",
  "fingerprint",
  "flat",
  "from_dict",
  "keys",
  "load",
  "override",
]


@dataclass(frozen=True, kw_only=True)
class Config:
  """One run."""

  workdir: str = "runs/default"
  model: str = (
    "HuggingFaceTB/SmolLM2-135M-Instruct"  # hub id | HF directory | .gguf file | random:tiny
  )
  seed: int = 0
  policy: PolicyConfig = field(default_factory=PolicyConfig)
  data: DataConfig = field(default_factory=DataConfig)
  rollout: RolloutConfig = field(default_factory=RolloutConfig)
  rewards: RewardConfig = field(default_factory=RewardConfig)
  grpo: GRPOConfig = field(default_factory=GRPOConfig)
  optim: OptimConfig = field(default_factory=OptimConfig)
  sft: SFTConfig = field(default_factory=SFTConfig)
  eval: EvalConfig = field(default_factory=EvalConfig)
  mesh: MeshConfig = field(default_factory=MeshConfig)
  checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
  log: LogConfig = field(default_factory=LogConfig)

  def __post_init__(self):
    G, K, g = self.rollout.group_size, self.grpo.train_samples, self.grpo.micro_samples
    if K > G:
      raise BadInput(
        f"grpo.train_samples={K} is more than rollout.group_size={G}; use fewer, or 0 for all"
      )
    if g and (K or G) % g:
      of = f"grpo.train_samples={K}" if K else f"rollout.group_size={G}"
      raise BadInput(f"grpo.micro_samples={g} does not divide {of}; use a divisor, or 0 for all")
    largest = self.rollout.prompt_buckets[-1]
    if self.data.max_prompt_tokens > largest:
      raise BadInput(
        f"data.max_prompt_tokens={self.data.max_prompt_tokens} is more than the largest of "
        f"rollout.prompt_buckets={self.rollout.prompt_buckets}; add a bucket or lower the limit"
      )


# Spellings of other frameworks that users type; each names one of our keys.
ALIASES = {"grpo.group_size": "rollout.group_size", "steps": "grpo.steps"}
# Keys that may differ between a run and its resumption.
NOT_COMPARED = ("workdir",)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
  """Executes the config file at `path` and applies `key=value` overrides.

  Raises BadInput if the file has no `config()`, a key is unknown or a value breaks a rule.
  """
  path = Path(path)
  if not path.is_file():
    raise BadInput(
      f"config {str(path)!r} is not a file; pass a file of configs/, e.g. configs/smoke.py"
    )
  scope = runpy.run_path(str(path))
  if not callable(scope.get("config")):
    raise BadInput(f"config {str(path)!r} defines no function config(); see configs/smoke.py")
  config = scope["config"]()
  if not isinstance(config, Config):
    raise BadInput(f"config() of {str(path)!r} returned {type(config).__name__}; return a Config")
  return override(config, overrides)


def override(config: Config, assignments: Sequence[str]) -> Config:
  """Returns `config` with `key=value` strings applied together (rules are checked at the end)."""
  changes: dict[str, Any] = {}
  for assignment in assignments:
    key, equals, text = assignment.partition("=")
    if not equals:
      raise BadInput(f"override {assignment!r} is not of the form key=value")
    key = ALIASES.get(key, key)
    node: Any = changes
    parts = key.split(".")
    for part in parts[:-1]:
      node = node.setdefault(part, {})
    node[parts[-1]] = _parse(key, text, _field_type(config, key))
  return _rebuild(config, changes)


def _rebuild(section: Any, changes: Mapping[str, Any]) -> Any:
  new = {}
  for name, value in changes.items():
    old = getattr(section, name)
    new[name] = _rebuild(old, value) if dataclasses.is_dataclass(old) else value
  return dataclasses.replace(section, **new)


def keys(section: Any, prefix: str = "") -> list[str]:
  """All dotted keys of a config."""
  found = []
  for each in dataclasses.fields(section):
    value = getattr(section, each.name)
    if dataclasses.is_dataclass(value):
      found += keys(value, f"{prefix}{each.name}.")
    else:
      found.append(prefix + each.name)
  return found


def _field_type(config: Config, key: str) -> Any:
  section: Any = config
  parts = key.split(".")
  for depth, part in enumerate(parts):
    names = (
      {f.name for f in dataclasses.fields(section)} if dataclasses.is_dataclass(section) else set()
    )
    if part not in names:
      known = keys(config)
      near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
      same_leaf = [k for k in known if k.split(".")[-1] == parts[-1]]
      hint = (near or same_leaf or [""])[0]
      raise BadInput(f"unknown key {key!r}" + (f"; did you mean {hint!r}?" if hint else ""))
    if depth == len(parts) - 1:
      if dataclasses.is_dataclass(getattr(section, part)):
        raise BadInput(f"key {key!r} is a section; set one of its keys, e.g. {keys(section)[0]!r}")
      return typing.get_type_hints(type(section))[part]
    section = getattr(section, part)
  raise AssertionError(key)


def _parse(key: str, text: str, kind: Any) -> Any:
  """Reads `text` as a value of type `kind`."""
  if kind is str:
    return text
  try:
    value: Any = {"true": True, "false": False, "none": None}.get(text.lower(), ...)
    value = ast.literal_eval(text) if value is ... else value
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    value = text
  if not _fits(value, kind):
    raise BadInput(f"{key}={text}: expected {_describe(kind)}")
  return _convert(value, kind)


def _describe(kind: Any) -> str:
  return getattr(kind, "__name__", str(kind)) if not typing.get_args(kind) else str(kind)


def _fits(value: Any, kind: Any) -> bool:
  origin = typing.get_origin(kind)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, each) for each in typing.get_args(kind))
  if kind is type(None):
    return value is None
  if origin is tuple:
    args = typing.get_args(kind)
    values = value if isinstance(value, (tuple, list)) else (value,)
    if args[-1] is Ellipsis:
      return all(_fits(each, args[0]) for each in values)
    return len(values) == len(args) and all(map(_fits, values, args))
  if kind is float:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
  if kind is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if kind is Table:
    return isinstance(value, dict)
  return isinstance(value, kind)


def _convert(value: Any, kind: Any) -> Any:
  origin = typing.get_origin(kind)
  if origin is tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
  if kind is float:
    return float(value)
  if kind is Table:
    return Table(value)
  return value


def as_dict(config: Config) -> dict[str, Any]:
  """The config as JSON-ready nested dicts."""
  return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(nested: Mapping[str, Any], where: str | Path) -> Config:
  """The config that `as_dict` wrote, as in the config.json `where` of a work directory.

  Raises BadInput at a key that this version does not know.
  """
  return _from_dict(Config, nested, f"{where}: ")


def _from_dict(kind: Any, value: Any, where: str) -> Any:
  if not dataclasses.is_dataclass(kind):
    return _convert(value, kind)
  hints = typing.get_type_hints(kind)
  unknown = sorted(value.keys() - hints.keys())
  if unknown:
    raise BadInput(
      f"{where}unknown key {unknown[0]!r}; the run is of another version of gtalign_jax"
    )
  section: Any = kind  # mypy takes it for an instance
  return section(**{key: _from_dict(hints[key], value[key], f"{where}{key}: ") for key in value})


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
  out: dict[str, Any] = {}
  for name, value in nested.items():
    if isinstance(value, dict) and value and prefix + name not in ("data.weights", "rewards.tasks"):
      out |= flat(value, f"{prefix}{name}.")
    else:
      out[prefix + name] = value
  return out


def fingerprint(config: Config) -> str:
  """Hash of every key that a resumed run must share."""
  shared = {k: v for k, v in flat(as_dict(config)).items() if k not in NOT_COMPARED}
  return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Config) -> list[str]:
  """Lines `key: old -> new` for keys in which a stored config (as_dict) differs from `new`."""
  before, after = flat(old), flat(as_dict(new))
  return [
    f"{key}: {before.get(key, 'absent')!r} -> {after.get(key, 'absent')!r}"
    for key in sorted(before.keys() | after.keys())
    if key not in NOT_COMPARED and before.get(key, "absent") != after.get(key, "absent")
  ]
