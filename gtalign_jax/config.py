"""A run's config: all sections in one frozen dataclass, loaded from one Python file.

`load(path, overrides)` executes a config file (`def config() -> Config`) and applies `key=value`
overrides; `vary(config, {key: value})` does the same inside a config file. Both take options of TRL
and verl as well (aliases.py). Unknown keys fail with the nearest name, values with the rule they
break. `differences` and `placement_changes` say what is new between two starts of a run. Standard
library only.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import json
import logging
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gtalign_jax import config_file, config_rules, effects, hints, translate
from gtalign_jax.conversation_section import ConversationConfig as ConversationConfig
from gtalign_jax.endpoint_sections import AssistantConfig
from gtalign_jax.endpoint_sections import JudgeConfig as JudgeConfig  # for config files
from gtalign_jax.endpoint_sections import TeacherConfig as TeacherConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import PLACEMENT, placed, settle
from gtalign_jax.fields import Table as Table
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.sections import (
  ChainConfig,
  CheckpointConfig,
  CriticConfig,
  DataConfig,
  EvalConfig,
  GRPOConfig,
  LogConfig,
  MeshConfig,
  OptimConfig,
  PolicyConfig,
  RolloutConfig,
  SFTConfig,
  WatchConfig,
)
from gtalign_jax.types import FORMS, has_payoff

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config:
  """One run.

  inherited: keys of a preset that a variant of it leaves without effect (sft.batch_size after
  sft.steps=0); `vary` notes them, because only what the variant itself sets in vain is a mistake.
  """

  inherited: ClassVar[frozenset[str]] = frozenset()
  workdir: str = placed("runs/default")  # folder of the run: checkpoints, metrics, report
  # hub id | HF directory | .gguf file | random:tiny
  model: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
  seed: int = 0  # of every draw of the run but those of prompts (data.seed)
  policy: PolicyConfig = field(default_factory=PolicyConfig)
  data: DataConfig = field(default_factory=DataConfig)
  chain: ChainConfig = field(default_factory=ChainConfig)
  rollout: RolloutConfig = field(default_factory=RolloutConfig)
  rewards: RewardConfig = field(default_factory=RewardConfig)
  conversation: ConversationConfig = field(default_factory=ConversationConfig)
  grpo: GRPOConfig = field(default_factory=GRPOConfig)
  optim: OptimConfig = field(default_factory=OptimConfig)  # of the policy; others have their own
  critic: CriticConfig = field(default_factory=CriticConfig)
  sft: SFTConfig = field(default_factory=SFTConfig)
  eval: EvalConfig = field(default_factory=EvalConfig)
  mesh: MeshConfig = field(default_factory=MeshConfig, metadata=PLACEMENT)
  checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig, metadata=PLACEMENT)
  log: LogConfig = field(default_factory=LogConfig, metadata=PLACEMENT)
  watch: WatchConfig = field(default_factory=WatchConfig, metadata=PLACEMENT)
  teacher: TeacherConfig = field(default_factory=TeacherConfig, metadata=PLACEMENT)
  endpoint: AssistantConfig = field(default_factory=AssistantConfig, metadata=PLACEMENT)

  def __post_init__(self):
    settle("", self)
    if not 0 <= self.seed < 2**63:  # jax takes 64 bits with a sign, numpy no sign
      raise BadInput(f"seed={self.seed}: must be at least 0 and below 2**63")
    config_rules.check(self)

  @property
  def has_payoff(self) -> bool:
    """Whether chains hold a matrix. Keys that need one do nothing without (effects.py)."""
    return has_payoff(self.chain.form)

  @property
  def budgets(self) -> dict[str, int]:
    """Most tokens of each block, where chains are constrained; else empty."""
    return dict(zip(FORMS[self.chain.form], self.rollout.constrain))

  @property
  def intervenes(self) -> bool:
    """Whether training edits payoffs."""
    return self.has_payoff and self.rollout.intervene > 0

  @property
  def has_critic(self) -> bool:
    """Whether the policy learns by PPO, with a critic."""
    return self.grpo.advantage == "gae"

  @property
  def has_reference(self) -> bool:
    """Whether KL to the start policy is part of the loss or of the reward."""
    return bool(self.grpo.kl_coef) or (self.has_critic and bool(self.critic.kl_coef))


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
  """Executes the config file at `path` and applies `key=value` overrides.

  The file may import files of its own package (`configs`) from any working directory, files beside
  it, and what the working directory holds. Raises BadInput, which names file and line, where the
  file fails, and where a key is unknown or a value breaks a rule.
  """
  found = config_file.execute(Path(path), globals())
  if not isinstance(found, Config):
    raise BadInput(f"config() of {str(path)!r} returned {type(found).__name__}; return a Config")
  for key, why in _inert(found).items():
    if key not in found.inherited:
      raise BadInput(f"{path}: {why}")
  return override(found, overrides)


def vary(config: Config, changes: Mapping[str, Any]) -> Config:
  """A variant of `config`: `changes` maps dotted keys to values, e.g. {"rewards.variant": "user"}.

  Rules are checked when all changes are in. What options of TRL or verl mean here is logged in one
  line. Raises BadInput at an unknown key, a value of another type, a broken rule, a change that has
  no effect (effects.py), or an option that cannot be said in our keys (translate.py).
  """
  changes, told = translate.translate(changes)
  nested: dict[str, Any] = {}
  for key, value in changes.items():
    _field_type(config, key)
    *above, name = key.split(".")
    node = nested
    for section in above:
      node = node.setdefault(section, {})
    node[name] = value
  new = _rebuild(config, nested)
  before, after = _inert(config), _inert(new)
  for key in changes:
    if why := after.get(key):
      raise BadInput(why)
  if told:
    log.info("translated: %s", "; ".join(told))
  # idle because of a change, not by a mistake: the preset may be run without its warm start
  object.__setattr__(new, "inherited", after.keys() - before.keys() | config.inherited)
  return new


def _inert(config: Config) -> dict[str, str]:
  """Key -> why it has no effect, for all keys that were changed in vain."""
  return effects.inert(values(config), values(Config()), keys(config))


def values(config: Config) -> dict[str, Any]:
  """Dotted key -> value, of the whole config."""
  return {key: functools.reduce(getattr, key.split("."), config) for key in keys(config)}


def override(config: Config, assignments: Sequence[str]) -> Config:
  """`vary` with changes written as `key=value` strings, as on a command line."""
  changes: dict[str, Any] = {}
  for assignment in assignments:
    key, equals, text = assignment.partition("=")
    if not equals:
      raise BadInput(f"override {assignment!r} is not of the form key=value")
    kinds = [_field_type(config, each) for each in translate.sets(key)[:1]]
    changes[key] = text if kinds == [str] else _literal(text)
  return vary(config, changes)


def _literal(text: str) -> Any:
  named = {"true": True, "false": False, "none": None}
  if text.lower() in named:
    return named[text.lower()]
  with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
    return ast.literal_eval(text)
  if text.startswith("{"):  # {"enable_thinking": false} is of JSON alone
    with contextlib.suppress(ValueError, RecursionError):
      return json.loads(text)
  return text


def _rebuild(section: Any, changes: Mapping[str, Any], path: str = "") -> Any:
  new = {}
  # innermost first, and each section once: its rules see all of its new values together
  for name, value in changes.items():
    old = getattr(section, name)
    below = f"{path}.{name}" if path else name
    new[name] = _rebuild(old, value, below) if dataclasses.is_dataclass(old) else value
  try:
    return dataclasses.replace(section, **new)
  except BadInput as error:
    # OptimConfig serves two places and names its keys as of one: optim.lr may be sft.optim.lr
    above, _, leaf = path.rpartition(".")
    misplaced = above and str(error).startswith(f"{leaf}.")
    raise BadInput(f"{above}.{error}" if misplaced else str(error)) from error


def roles(section: Any, prefix: str = "", role: str = "identity") -> dict[str, str]:
  """Every dotted key of a config with what it is: identity, placement or extendable."""
  found: dict[str, str] = {}
  for each in dataclasses.fields(section):
    value, own = getattr(section, each.name), each.metadata.get("role", role)
    if dataclasses.is_dataclass(value):
      found |= roles(value, f"{prefix}{each.name}.", own)
    else:
      found[prefix + each.name] = own
  return found


def keys(config: Config) -> list[str]:
  """All dotted keys of a config."""
  return list(roles(config))


def _field_type(config: Config, key: str) -> Any:
  """The type of a key. Raises BadInput with the nearest name where there is no such key."""
  known = keys(config)
  if key not in known:
    below = [each for each in known if each.startswith(key + ".")]
    if below:
      raise BadInput(f"key {key!r} is a section; set one of its keys, e.g. {below[0]!r}")
    hint = hints.near_key(key, known)
    raise BadInput(f"unknown key {key!r}" + (f"; did you mean {hint!r}?" if hint else ""))
  *above, name = key.split(".")
  section: Any = config
  for part in above:
    section = getattr(section, part)
  return typing.get_type_hints(type(section))[name]


def as_dict(config: Config) -> dict[str, Any]:
  """The config as JSON-ready nested dicts."""
  # through JSON and back: tuples become lists, as in a file, so that the two compare equal
  return json.loads(json.dumps(dataclasses.asdict(config)))


def stored(config: Config) -> str:
  """The text of config.json in a work directory."""
  return json.dumps(as_dict(config), indent=2) + "\n"


def from_dict(nested: Mapping[str, Any], where: str | Path) -> Config:
  """The config that `as_dict` wrote, as in the config.json `where` of a work directory.

  Raises BadInput at a key that this version does not know.
  """
  return _from_dict(Config, nested, f"{where}: ")


def _from_dict(kind: Any, value: Any, where: str) -> Any:
  if not dataclasses.is_dataclass(kind):
    return value
  hints = typing.get_type_hints(kind)
  if not isinstance(value, Mapping):
    raise BadInput(f"{where}{value!r} is no table of keys; put the run's config.json back")
  unknown = sorted(value.keys() - hints.keys())
  if unknown:
    raise BadInput(
      f"{where}unknown key {unknown[0]!r}; the run is of another version of gtalign_jax"
    )
  section: Any = kind  # mypy takes it for an instance
  return section(**{key: _from_dict(hints[key], value[key], f"{where}{key}: ") for key in value})


def flat(nested: Mapping[str, Any], kind: Any = Config) -> dict[str, Any]:
  """`{"a": {"b": 1}}` as `{"a.b": 1}` for each section "a"; the value of a Table stays a dict."""
  hints = typing.get_type_hints(kind)
  out: dict[str, Any] = {}
  for name, value in nested.items():
    section = hints.get(name)
    if dataclasses.is_dataclass(section) and isinstance(value, Mapping):
      out |= {f"{name}.{key}": each for key, each in flat(value, section).items()}
    else:
      out[name] = value
  return out


def identity(config: Config) -> dict[str, Any]:
  """Every key of identity with its value: what decides the numbers of a job on any machine."""
  role = roles(config)
  # numbers of steps are left out too: no job but training has steps, and that compares its own
  return {key: value for key, value in flat(as_dict(config)).items() if role[key] == "identity"}


def differences(
  old: Mapping[str, Any],
  new: Config,
  reached: Mapping[str, int] | None = None,
  explain: bool = False,
) -> list[str]:
  """Lines `key: old -> new` for the keys in which `new` is another run than a stored config.

  old: as `as_dict` wrote it, by this version or another. A key that it lacks had its default; a key
  that this version does not know counts as changed, for nobody can tell whether it mattered.
  reached: phase -> last committed step, of "sft" and "grpo"; None = not known. explain: adds why a
  number of steps cannot be changed, which it mostly can.
  """
  return _changes(old, new, reached, explain)[0]


def placement_changes(
  old: Mapping[str, Any], new: Config, reached: Mapping[str, int] | None = None
) -> list[str]:
  """Lines as of `differences` for the changes that the run goes on with: its placement."""
  return _changes(old, new, reached)[1]


def _changes(
  old: Mapping[str, Any], new: Config, reached: Mapping[str, int] | None, explain: bool = False
) -> tuple[list[str], list[str]]:
  role_of, after = roles(new), flat(as_dict(new))
  # an upgrade adds keys: a run of before them had, in effect, their defaults
  before = flat(as_dict(Config())) | flat(old)
  identity: list[str] = []
  placement: list[str] = []
  for key in sorted(before):
    if key not in after:
      identity.append(f"{key}: {before[key]!r} -> unknown to this version of gtalign_jax")
    elif before[key] != after[key]:
      role = role_of[key]
      why = ""
      with contextlib.suppress(TypeError):  # a value of another type, put there by hand
        if effects.silenced(before, key) and effects.silenced(after, key):
          role = "placement"  # as where a version changes the default of what is off
      if role == "extendable":
        why = _against(key.partition(".")[0], before[key], after[key], new, reached)
        role = "identity" if why else "placement"
      lines = placement if role == "placement" else identity
      lines.append(f"{key}: {before[key]!r} -> {after[key]!r}{why if explain else ''}")
  return identity, placement


def _against(
  phase: str, old: object, new: int, config: Config, reached: Mapping[str, int] | None
) -> str:
  """Why a phase of `new` steps cannot go on from what was done of `old`; "" where it can.

  A rate that decays does so over all steps, so another number of them changes every update. From or
  to 0 steps is another job. GRPO and the evaluation before it start from the end of the warm start,
  which may move only while it is ahead, or where no GRPO follows.
  """
  optim = config.sft.optim if phase == "sft" else config.optim
  if not isinstance(old, int) or not old or not new:
    return " (another job)"
  if optim.decay != "constant":
    return f" (the rate decays over all steps: decay={optim.decay})"
  done = old if reached is None else reached.get(phase, 0)
  if phase == "sft" and done >= old and config.grpo.steps:
    return " (what follows began from its end)"
  return f" ({done} are done)" if new < done else ""


def is_extended(old: Mapping[str, Any], new: Config) -> bool:
  """Whether the stored config of a run and a new one differ in a number of steps."""
  before, after = flat(as_dict(Config())) | flat(old), flat(as_dict(new))
  steps = [key for key, role in roles(new).items() if role == "extendable"]
  return any(before[key] != after[key] for key in steps)
