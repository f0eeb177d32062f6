"""A setting without effect is refused where somebody sets it, and not where a preset brings it."""

import ast
import contextlib
import dataclasses
import functools
from pathlib import Path

import pytest

import gtalign_jax
from gtalign_jax import config as configs
from gtalign_jax import effects, endpoint_sections, reward_section, sections
from gtalign_jax.config import Config, load, vary
from gtalign_jax.errors import BadInput
from gtalign_jax.train import watch

ROOT = Path(__file__).parent.parent
DEFAULTS = configs.values(Config())
# every switch at a value at which its keys work
ON = {
  "grpo.steps": 5, "sft.steps": 5, "policy.lora_rank": 4, "grpo.inner_epochs": 2, "grpo.kind": "gspo",
  "grpo.kl_coef": 0.1, "grpo.mismatch": "token", "rollout.group_size": 16, "optim.decay": "linear",
  "data.sources": ("medium", "wildguard"), "rewards.judge.kind": "http",
  "rewards.judge.base_url": "http://localhost/v1", "rewards.judge.model": "m",
  "teacher.base_url": "http://localhost/v1", "teacher.model": "m",
  "endpoint.base_url": "http://localhost/v1", "endpoint.model": "m", "rewards.welfare": "ces",
}  # fmt: skip
TALKS = {
  "conversation.turns": 2, "conversation.user.kind": "http", "conversation.user.model": "m",
  "conversation.user.base_url": "http://localhost/v1",
}  # fmt: skip
# what a key needs that another one excludes
MORE = {
  "grpo.gdpo_weights": {"grpo.advantage": "gdpo"},
  "rollout.intervene": {"rollout.prompt_buckets": (256, 576)},
  "rewards.disagreement": {"rewards.welfare": "nash"},
  "data.condition_alphas": {"data.condition": "alpha"},
  "data.condition_policies": {"data.condition": "pricing"},
  "rewards.variant": {"rewards.welfare": ""},
  # pareto, which has weights of its own, is of paper mode
  **{
    f"rewards.llm_{key}": {"rewards.welfare": ""}
    for key in ("format", "decision", "answer", "length")
  },
  "rewards.judge.log": {"rewards.judge.kind": "recorded", "rewards.judge.log": "x"},
  **{
    key: {"conversation.turns": 2}
    for key in DEFAULTS
    if key.startswith("conversation.") or key.endswith("_patience")
  },
  **{key: TALKS for key in DEFAULTS if key.startswith("conversation.user.")},
  "conversation.user.log": {
    "conversation.turns": 2,
    "conversation.user.kind": "recorded",
    "conversation.user.log": "x",
  },
  **{f"rollout.{key}": {"grpo.mismatch": "off"} for key in ("top_k", "top_p", "min_p")},
  **{key: {"grpo.advantage": "gae"} for key in DEFAULTS if key.startswith("critic.")},
  "critic.optim.final_lr_frac": {"grpo.advantage": "gae", "critic.optim.decay": "linear"},
}
# switch -> a value at which its keys do nothing
OFF = {
  "grpo.steps": 0, "sft.steps": 0, "policy.lora_rank": 0, "data.sources": ("medium",),
  "rewards.mode": "paper", "rewards.variant": "pareto", "rewards.judge.kind": "rule",
  "rewards.welfare": "egalitarian",
  "grpo.advantage": "gdpo", "grpo.inner_epochs": 1, "grpo.kind": "cispo", "grpo.kl_coef": 0.0,
  "grpo.mismatch": "off", "rollout.group_size": 4, "optim.decay": "constant",
  "sft.optim.decay": "constant", "critic.optim.decay": "constant", "eval.temperature": 0.0, "teacher.model": "",
  "endpoint.model": "",
  "rewards.user_length": 0.0, "rewards.llm_length": 0.0, "rewards.user_brief": 0.0,
  "data.condition": "none", "conversation.turns": 1, "conversation.user.kind": "rule",
  "chain.form": "think",
}  # fmt: skip
ADVANTAGE_OFF = {
  ("grpo.gdpo_weights",): "grpo", ("critic.*",): "grpo", ("grpo.resample_rounds",): "gae",
}  # fmt: skip
# the same where one value does not do for all keys of a switch
OFF_OF = {
  ("rewards.alpha", "data.condition"): "alpha",
  ("rewards.pricing", "data.condition"): "pricing",
  ("rollout.constrain", "chain.form"): "none",
}
ALSO_OFF = {
  "watch.skipped": {"sft.steps": 0},
  "teacher.model": {"teacher.base_url": ""},
  "endpoint.model": {"endpoint.base_url": ""},
  "pareto": {"rewards.mode": "paper"},
  "eval.temperature": {"grpo.steps": 0},
  "policy.remat": {"sft.steps": 0},
  "checkpoint.keep": {"sft.steps": 0},
}
# values that the rules of a section would not let be guessed
OTHERS = {
  "grpo.train_samples": 4, "grpo.micro_samples": 2, "data.weights": {"medium": 2.0}, "grpo.dual_clip": 3.0,
  "grpo.length_buckets": (64,), "policy.lora_targets": ("q",), "grpo.gdpo_weights": (0.3, 0.7),
  "grpo.mismatch_bounds": (0.5, 2.0), "grpo.mismatch_veto": (1e-4, 1e2), "grpo.block_weights": (1, 2, 1, 1), "rewards.variant": "user",
  "rollout.group_size": 4, "rollout.constrain": (20, 120, 20, 20),
  "grpo.inner_epochs": 3, "checkpoint.keep": 3, "rewards.disagreement": (0.1, 0.2),
  "grpo.minibatch_prompts": 4, "watch.parse_fall": 0.1, "rewards.llm_calibration": 0.1,
  "data.condition_alphas": (0.2, 0.8), "data.condition_policies": ("free",),
  "rewards.judge.base_url": "http://localhost:1/v1", "rewards.judge.extra_body": {"a": [1]},
  "conversation.context_buckets": (1024,),
  "conversation.user.base_url": "http://localhost:1/v1",
  "conversation.user.extra_body": {"a": [1]}, "teacher.extra_body": {"a": {"b": False}},
  "endpoint.extra_body": {"a": [2]}, "teacher.tries": 3,
  "rewards.response_words": (5, 50), "rewards.completion_words": (5, 50),
}  # fmt: skip
NAMES = [
  each
  for value in (vars(sections) | vars(reward_section) | vars(endpoint_sections)).values()
  if isinstance(value, tuple)
  for each in value
]


def another(key):
  """A value of `key` that the rules of its section allow, other than the default."""
  section, _, name = key.rpartition(".")
  made = functools.reduce(getattr, section.split("."), Config())
  for value in [OTHERS.get(key), 2, 0.25, True, *NAMES, "text"]:
    with contextlib.suppress(BadInput):
      value = getattr(dataclasses.replace(made, **{name: value}), name)
      if value not in (None, DEFAULTS[key], ON.get(key)):
        return value
  raise AssertionError(f"no other value for {key}; put one into OTHERS")


def cases():
  for rule in effects.RULES:
    for key in DEFAULTS:
      if effects.covers(rule, key) and key != rule.switch:
        yield pytest.param(rule, key, id=f"{key}-{rule.switch}")


@pytest.mark.parametrize("rule, key", cases())
def test_each_key_of_a_rule_is_refused_and_taken(rule, key):
  value = another(key)
  on = vary(vary(Config(), ON), MORE.get(key, {}))
  if key in ("grpo.steps", "sft.steps"):
    on = vary(on, {key: 1})
  assert configs.values(vary(on, {key: value}))[key] == value
  idle = OFF_OF.get((key, rule.switch), ADVANTAGE_OFF.get(rule.keys, OFF[rule.switch]))
  switched = {rule.switch: idle} | ALSO_OFF.get(idle, {}) | ALSO_OFF.get(rule.switch, {})
  off = vary(on, switched | (ALSO_OFF.get(key, {}) if rule.switch == "grpo.steps" else {}))
  with pytest.raises(BadInput) as caught:
    vary(off, {key: value})
  said = str(caught.value)
  assert said.startswith(f"{key}={value!r} has no effect with {rule.switch}={idle!r}; ")
  assert said.endswith(f"or leave {key} at {DEFAULTS[key]!r}") and "\n" not in said


def test_every_rule_names_keys_that_exist():
  for rule in effects.RULES:
    assert rule.switch in DEFAULTS
    for each in rule.keys:
      assert any(effects.covers(rule._replace(keys=(each,)), key) for key in DEFAULTS), each


def test_every_key_is_read_somewhere():
  """No knob is without a reader: its name is read from an object outside of the config's own files."""
  own = {"config.py", "sections.py", "endpoint_sections.py", "reward_section.py", "effects.py"}
  read = {rule.key for rule in watch.RULES}  # a table that names its keys
  for path in Path(gtalign_jax.__file__).parent.rglob("*.py"):
    if path.name not in own:
      for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
          read.add(node.attr)
  assert [key for key in DEFAULTS if key.rpartition(".")[2] not in read] == []


def test_a_preset_may_be_run_without_a_phase_of_it():
  smoke, quickstart = ROOT / "configs/smoke.py", ROOT / "configs/quickstart.py"
  for off in ("sft.steps=0", "grpo.steps=0", "grpo.kl_coef=0"):
    assert load(smoke, [off]) and load(quickstart, [off])
  assert load(ROOT / "configs/lora.py", ["policy.lora_rank=0"])
  with pytest.raises(BadInput, match=r"^sft\.batch_size=4 has no effect with sft\.steps=0"):
    load(smoke, ["sft.steps=0", "sft.batch_size=4"])  # said by the user, not by the preset


FILE = """from gtalign_jax.config import *
from gtalign_jax.sections import *
def config():
  return {}
"""


@pytest.mark.parametrize(
  "made, key",
  [
    ("Config(grpo=GRPOConfig(kl_estimator='k1'))", "grpo.kl_estimator='k1'"),
    ("vary(Config(grpo=GRPOConfig(kl_estimator='k1')), {'seed': 1})", "grpo.kl_estimator='k1'"),
    ("vary(Config(), {'grpo.dual_clip': 3.0})", "grpo.dual_clip=3.0"),
    ("Config(sft=SFTConfig(data='x.jsonl'))", "sft.data='x.jsonl'"),
    ("vary(Config(sft=SFTConfig(steps=3, max_tokens=99)), {'sft.steps': 0})", None),
    (
      "vary(vary(Config(sft=SFTConfig(steps=3, max_tokens=99)), {'sft.steps': 0}), {'seed': 2})",
      None,
    ),
  ],
)
def test_a_file_is_held_to_what_it_sets_itself(tmp_path, made, key):
  path = tmp_path / "mine.py"
  path.write_text(FILE.format(made))
  if key is None:
    assert load(path, ["seed=3"]).sft.max_tokens == 99
    return
  with pytest.raises(BadInput) as caught:
    load(path)
  said = str(caught.value)
  assert said.startswith(str(path)) and f"{key} has no effect with " in said


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"policy.param_dtype": "bfloat16"}, "policy.param_dtype='bfloat16' with policy.lora_rank=0"),
    (
      {"grpo.mismatch": "token", "rollout.top_p": 0.9},
      "use off, or drop rollout.top_p=0.9",
    ),
    (
      {"grpo.mismatch_veto": (1e-4, 1e2), "rollout.top_k": 20, "rollout.min_p": 0.1},
      "use none, or drop rollout.top_k=20, rollout.min_p=0.1",
    ),
    (
      {"data.condition": "pricing", "rewards.mode": "paper"},
      "data.condition='pricing': rewards.mode='paper' does not read it",
    ),
    (
      {"data.condition": "alpha", "rewards.variant": "linear"},
      "data.condition='alpha': the score 'utilitarian' does not read it",
    ),
    (
      {"data.condition": "alpha", "grpo.advantage": "gdpo"},
      "data.condition='alpha': grpo.advantage='gdpo' does not read it",
    ),
  ],
)
def test_contradictions_are_refused_and_what_resolves_them_is_taken(changes, said):
  with pytest.raises(BadInput) as caught:
    vary(Config(), changes)
  assert said in str(caught.value)
  assert vary(Config(), {"grpo.steps": 0, "policy.param_dtype": "bfloat16", "policy.lora_rank": 0})
  assert vary(Config(), {"policy.param_dtype": "bfloat16", "policy.lora_rank": 4})
  assert vary(Config(), {"grpo.steps": 0, "eval.temperature": 0.0})
