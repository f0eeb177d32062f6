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

from gtalign_jax import config_file, effects, hints, translate
from gtalign_jax.conversation_section import ConversationConfig as ConversationConfig
from gtalign_jax.endpoint_sections import AssistantConfig
from gtalign_jax.endpoint_sections import JudgeConfig as JudgeConfig  # for config files
from gtalign_jax.endpoint_sections import TeacherConfig as TeacherConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import PLACEMENT, divides, placed, settle
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
from gtalign_jax.types import BLOCKS, FORMS, has_payoff

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
    # groups without spread have no advantages: such a run would train on nothing
    greedy = {"temperature": 0, "top_k": 1, "top_p": 0, "min_p": 1}
    for key, value in greedy.items():
      if self.grpo.steps and getattr(self.rollout, key) == value:
        raise BadInput(
          f"rollout.{key}={value}: all samples of a prompt would be alike, and so their rewards; "
          "sample with some freedom (the evaluation has its own eval.temperature)"
        )
    G, K = self.rollout.group_size, self.grpo.train_samples
    if G < 2 and not self.has_critic:
      raise BadInput(
        f"rollout.group_size={G}: a group baseline needs at least 2 samples; use 2 or more, or a "
        "critic (grpo.advantage='gae')"
      )
    if K > G:
      raise BadInput(
        f"grpo.train_samples={K} is more than rollout.group_size={G}; use fewer, or 0 for all"
      )
    of = "grpo.train_samples" if K else "rollout.group_size"
    divides(self.grpo.micro_samples, K or G, "grpo.micro_samples", of)
    budget, buffer = self.rollout.max_new_tokens, self.grpo.overlong_buffer
    if buffer > budget:
      raise BadInput(
        f"grpo.overlong_buffer={buffer} is more than rollout.max_new_tokens={budget}; use fewer "
        "tokens, or 0 for off"
      )
    trains = self.grpo.steps or self.sft.steps
    if trains and self.policy.param_dtype != "float32" and not self.policy.lora_rank:
      raise BadInput(
        f"policy.param_dtype={self.policy.param_dtype!r} with policy.lora_rank=0: it holds the "
        "weights that are trained, and steps of lr 1e-6 are lost in it; use float32 (policy.dtype "
        "is what is computed in), or adapters, which are float32 over any base"
      )
    off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
    cuts = [f"rollout.{k}={v}" for k in off if (v := getattr(self.rollout, k)) != off[k]]
    uses = {"mismatch": "off", "mismatch_veto": None}
    used = [key for key, unset in uses.items() if getattr(self.grpo, key) != unset]
    if used and cuts:
      # the weights would compare the trained policy with another than was sampled
      raise BadInput(
        f"grpo.{used[0]}={getattr(self.grpo, used[0])!r} corrects for a sampler of the whole "
        f"distribution; use {'none' if uses[used[0]] is None else 'off'}, or drop {', '.join(cuts)}"
      )
    if self.has_critic and 0 < self.grpo.steps <= self.critic.warmup_steps:
      raise BadInput(
        f"critic.warmup_steps={self.critic.warmup_steps}: the policy learns after them, and there "
        f"are {self.grpo.steps} steps (grpo.steps) in all; use fewer"
      )
    if self.has_critic and self.conversation.turns > 1:
      raise BadInput(
        f"conversation.turns={self.conversation.turns} with grpo.advantage='gae': a critic values "
        "the tokens of one turn, not what the user's reply is worth; use a group advantage, or 1"
      )
    condition, score = self.data.condition, self.rewards.maximised
    unread = {
      f"rewards.mode={self.rewards.mode!r}": self.rewards.mode == "paper",
      f"the score {score!r}": condition == "alpha" and score not in ("cobb_douglas", "ces"),
      f"grpo.advantage={self.grpo.advantage!r}": condition == "alpha"
      and self.grpo.advantage == "gdpo",
    }
    for reader, cannot in unread.items():
      # the prompt would say what its reward does not do
      if condition != "none" and cannot:
        raise BadInput(
          f"data.condition={condition!r}: {reader} does not read it; change one of them"
        )
    largest = self.rollout.prompt_buckets[-1]
    if self.data.max_prompt_tokens > largest:
      raise BadInput(
        f"data.max_prompt_tokens={self.data.max_prompt_tokens} is more than the largest of "
        f"rollout.prompt_buckets={self.rollout.prompt_buckets}; add a bucket or lower the limit"
      )

    self._check_form()
    if self.intervenes and self.grpo.steps:
      self._check_intervene()

  def _check_form(self) -> None:
    form, weights = self.chain.form, self.grpo.block_weights
    if not self.has_payoff and self.rewards.mode == "paper":
      raise BadInput(
        f"chain.form={form!r}: rewards.mode='paper' gives nothing to a text without payoffs; use "
        "corrected, or game"
      )
    budgets = self.rollout.constrain
    if budgets and len(budgets) != len(FORMS[form]) > 0:
      raise BadInput(
        f"rollout.constrain={budgets}: must be {len(FORMS[form])} numbers, tokens of "
        f"{', '.join(FORMS[form])} (chain.form={form!r})"
      )
    idle = [b for b, w in zip(BLOCKS, weights) if b not in (*FORMS[form], "response") and w != 1]
    if idle:
      raise BadInput(
        f"grpo.block_weights={weights}: chain.form={form!r} has no {' or '.join(idle)}, whose "
        "weight must stay 1"
      )

  def _check_intervene(self) -> None:
    share, prompts = self.rollout.intervene, self.grpo.prompts_per_step
    given = f"rollout.intervene={share}"
    if not 0 < round(share * prompts) < prompts:
      raise BadInput(
        f"{given}: of grpo.prompts_per_step={prompts} that is {round(share * prompts)}; it must be "
        "one at least, and not all: take another share, or more prompts"
      )
    if self.rewards.mode == "paper":
      raise BadInput(
        f"{given}: rewards.mode='paper' does not read what a chain decides by its matrix; use "
        "corrected, or 0"
      )
    longest = self.data.max_prompt_tokens + self.rollout.max_new_tokens
    if self.rollout.prompt_buckets[-1] < longest:
      raise BadInput(
        f"{given}: a prompt and its opening may have data.max_prompt_tokens + "
        f"rollout.max_new_tokens={longest} tokens, more than the largest of "
        f"rollout.prompt_buckets={self.rollout.prompt_buckets}; add a bucket of {longest}"
      )

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
