"""Config files and their variants; what may change between two starts of a run."""

import dataclasses
import functools
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from gtalign_jax import config as configs
from gtalign_jax import effects, reward_section
from gtalign_jax.config import (
  Config,
  DataConfig,
  GRPOConfig,
  OptimConfig,
  RewardConfig,
  RolloutConfig,
  differences,
  load,
  override,
  placement_changes,
  vary,
)
from gtalign_jax.errors import BadInput

ROOT = Path(__file__).parent.parent
BASE = "from gtalign_jax.config import Config, GRPOConfig, vary\n"
PLAIN = BASE + "def config():\n  return Config(seed=5)\n"


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  return path


# Files that import files.


def test_a_variant_is_found_from_any_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(ROOT))])
  assert load(ROOT / "configs/ablations/rloo.py").grpo.advantage == "rloo"


def test_a_file_elsewhere_varies_a_config_of_the_repository(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  text = BASE + "from configs.quickstart import config as base\n"
  mine = write(tmp_path / "mine.py", text + "def config():\n  return vary(base(), {'seed': 3})\n")
  assert load(mine).seed == 3 and load(mine).sft.steps == load("configs/quickstart.py").sft.steps


def test_a_file_imports_what_lies_beside_it_and_reads_it_again(tmp_path):
  beside = write(tmp_path / "mine" / "shared_part.py", "SEED = 4\n")
  mine = write(
    tmp_path / "mine" / "one.py",
    BASE + "from shared_part import SEED\ndef config():\n  return Config(seed=SEED)\n",
  )
  path = list(sys.path)
  assert load(mine).seed == 4
  beside.write_text("SEED = 17  # edited in a notebook's lifetime\n")
  assert load(mine).seed == 17
  assert sys.path == path and "shared_part" not in sys.modules


def test_two_clones_do_not_share_their_configs(tmp_path):
  seeds = []
  for name in ("a", "b"):
    package = tmp_path / name / "configs"
    write(package / "__init__.py", "")
    write(package / "base.py", PLAIN.replace("5", str(len(name) + len(seeds))))
    mine = BASE + "from configs.base import config as base\ndef config():\n  return base()\n"
    seeds.append(load(write(package / "mine.py", mine)).seed)
  assert seeds == [1, 2]


@pytest.mark.parametrize(
  "text, line, expected",
  [
    ("def config():\n  return Config(grpo=GRPOConfig(stepz=3))\n", 3, "did you mean steps"),
    (
      "def config():\n  return Config(mdel='x')\n",
      3,
      "Config has no key 'mdel'; did you mean model",
    ),
    ("def config():\n  return vary(Config(), {'grpo.stepz': 3})\n", 3, "did you mean 'grpo.steps'"),
    ("def config():\n  return vary(Config(), {'seed': '3'})\n", 3, "seed=3: expected int"),
    ("def config():\n  return GRPOConfig(steps=-1)\n", 3, "grpo.steps=-1: must be at least 0"),
    ("\ndef config(:\n", 3, "SyntaxError: "),
    ("import no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'"),
    ("def config():\n  return 1 / 0\n", 3, "ZeroDivisionError"),
    ("def config():\n  raise SystemExit('no')\n", 3, "SystemExit: no"),
    ("import broken_part\n", 1, "ValueError: of the file beside"),
  ],
)
def test_a_broken_file_is_one_line_with_its_place(tmp_path, text, line, expected):
  path = write(tmp_path / "mine.py", BASE + text)
  write(tmp_path / "broken_part.py", "raise ValueError('of the file beside')\n")
  with pytest.raises(BadInput) as caught:
    load(path)
  place = tmp_path / "broken_part.py" if "broken_part" in text else path
  assert str(caught.value).startswith(f"{place}:{line}: ") and expected in str(caught.value)


def test_a_file_that_is_no_config(tmp_path):
  for text, expected in (("x = 1\n", "no function config()"), ("config = 3\n", "no function")):
    with pytest.raises(BadInput, match=expected.replace("(", r"\(").replace(")", r"\)")):
      load(write(tmp_path / "mine.py", text))
  with pytest.raises(BadInput, match="returned int; return a Config"):
    load(write(tmp_path / "mine.py", "def config():\n  return 3\n"))


def test_loading_needs_the_standard_library_only():
  code = "import sys, gtalign_jax.config; print(*sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  tops = {name.split(".")[0] for name in done.stdout.split()}
  assert "gtalign_jax" in tops and not tops & {"jax", "numpy", "flax", "transformers"}


# Variants.


def test_vary_and_override_are_one():
  changes = {
    "grpo.group_size": 4, "optim.lr": 1, "sft.steps": 3, "sft.optim.lr": 1e-3, "rollout.prompt_buckets": [8, 512],
    "grpo.dual_clip": 3.0, "grpo.inner_epochs": 2, "data.weights": {"medium": 2.0}, "model": "3", "log.tensorboard": True,
  }  # fmt: skip
  varied = vary(Config(), changes)
  assert varied.rollout.group_size == 4 and varied.rollout.prompt_buckets == (8, 512)
  assert varied.optim.lr == 1.0 and isinstance(varied.optim.lr, float)
  assert varied.sft.optim == OptimConfig(lr=1e-3, warmup=3, decay="linear")
  hash(varied)
  assert override(Config(), [f"{key}={value}" for key, value in changes.items()]) == varied


def test_rules_are_checked_when_all_changes_are_in():
  both = {"rewards.variant": "pareto", "rewards.mode": "paper"}
  assert vary(Config(), both).rewards.variant == "pareto"
  with pytest.raises(BadInput, match=r"set one of its keys, e\.g\. 'rewards.judge.model'"):
    vary(Config(), {"rewards.judge": "http"})


@pytest.mark.parametrize(
  "assignment",
  [
    "seed=-1", f"seed={2**63}", "data.seed=-1", "policy.lora_alpha=0", "grpo.clip_low=1.5",
    "grpo.clip_low=-0.1", "grpo.clip_high=-1", "grpo.dual_clip=1.0", "grpo.micro_samples=-1",
    "grpo.mismatch_bounds=(2.0,0.5)", "grpo.mismatch_bounds=(-1,2)", "grpo.overlong_buffer=-1",
    "grpo.overlong_buffer=321", "grpo.gdpo_weights=(0,0)", "grpo.gdpo_weights=(-1,2)",
    "grpo.mismatch_veto=(1,0.5)", "grpo.block_weights=(0,0,0,0)", "grpo.block_weights=(1,1,1,-1)",
    "optim.b1=1.0", "optim.b2=1.0", "optim.b2=-0.5", "optim.eps=0", "optim.weight_decay=-1",
    "optim.final_lr_frac=2", "rewards.length_slope=0", "rewards.brief_scale=0",
    "rewards.user_answer=-0.5", "rewards.floor=-1", "rewards.response_words=(500,20)",
    "rewards.judge.deadline_s=0", "rewards.judge.breaker_failures=0", "eval.temperature=-1",
    "eval.bootstrap=0", "eval.every=-1", "sft.every=0", "sft.max_tokens=1", "log.samples=-1",
    "sft.micro_batch=3", "sft.optim.lr=0", "rewards.judge.concurrency=0", "rewards.floor=2",
    "rewards.llm_format=1e300", "data.weights={'medium': -1}", "data.weights={'medium': 'much'}",
    f"eval.prompts={2**63}",
  ],
)  # fmt: skip
def test_nonsense_is_refused_by_name(assignment):
  key, _, _ = assignment.partition("=")
  with pytest.raises(BadInput, match=rf"^{key}(\[.*\])?=.*(must|is more than|does not divide)"):
    override(Config(), [assignment])


NUMBERS = [
  key for key in configs.keys(Config()) if "float" in str(configs._field_type(Config(), key))
]


@pytest.mark.parametrize("key", NUMBERS)
def test_numbers_are_finite(key):
  """Every key that holds floats, those that later versions add as well."""
  held = configs._field_type(Config(), key)
  for bad in (math.nan, math.inf, -math.inf):
    with pytest.raises(BadInput, match=rf"^{key}=.*: must be a finite number"):
      several = (bad, 0.5, 0.5, 0.5)[: str(held).count("float")]
      vary(Config(), {key: several if str(held).startswith("tuple") else bad})
  section, _, name = key.rpartition(".")
  if section and "tuple" not in str(held):  # a section by itself, as in a config file
    kind = type(functools.reduce(getattr, section.split("."), Config()))
    with pytest.raises(BadInput, match="must be a finite number"):
      kind(**{name: math.inf})


def test_sections_are_checked_for_types_wherever_they_are_made():
  assert RolloutConfig(stop=["a"], temperature=1).stop == ("a",)
  hash(DataConfig(weights={"medium": 1}))
  for make, said in (
    (lambda: GRPOConfig(steps=3.0), "grpo.steps=3.0: expected int"),
    (lambda: RolloutConfig(stop=[3]), r"rollout.stop=\[3\]: expected tuple"),
    (lambda: DataConfig(weights={3: 1.0}), "data.weights={3: 1.0}: expected a table"),
    (lambda: RewardConfig(tasks={"mine": ["a:b"]}), "rewards.tasks=.*: expected a table"),
    (lambda: Config(optim=1e-3), "optim=0.001: expected OptimConfig"),
    (lambda: Config(workdir=Path("x")), "workdir=x: expected str"),
  ):
    with pytest.raises(BadInput, match=said):
      make()


@pytest.mark.parametrize(
  "changes",
  [
    {"variant": "user", "user_answer": 0.0, "user_length": 0.0, "user_brief": 0.0},
    {"variant": "linear"}
    | dict.fromkeys(reward_section.USER_WEIGHTS + reward_section.LLM_WEIGHTS, 0.0),
    {"floor": 0.0} | dict.fromkeys(reward_section.LLM_WEIGHTS, 0.0),
    {"alpha": 1.0} | dict.fromkeys(reward_section.USER_WEIGHTS, 0.0),
    {"variant": "pareto", "mode": "paper", "floor": 0.0}
    | dict.fromkeys(reward_section.USER_WEIGHTS, 0.0),
    {"welfare": "egalitarian"} | dict.fromkeys(reward_section.USER_WEIGHTS, 0.0),
    {"welfare": "ces", "floor": 0.0} | dict.fromkeys(reward_section.LLM_WEIGHTS, 0.0),
    {"welfare": "ces", "alpha": 1.0} | dict.fromkeys(reward_section.USER_WEIGHTS, 0.0),
    {"welfare": "nash", "disagreement": (0.2, 1.5)},
  ],
)
def test_a_reward_that_is_the_same_for_all_is_refused(changes):
  with pytest.raises(BadInput, match="the same reward with these weights"):
    RewardConfig(**changes)


@pytest.mark.parametrize(
  "assignments, said",
  [
    ("rewards.mode=paper rewards.alpha=0.3", "alpha=0.3 has no effect with rewards.mode='paper'"),
    ("rewards.mode=paper rewards.aq_min_words=3", "aq_min_words=3 has no effect"),
    ("rewards.mode=paper rewards.welfare=ces", "welfare='ces' has no effect with rewards.mode"),
    ("rewards.rho=0.5", "rho=0.5 has no effect with rewards.welfare=''; take ces"),
    (
      "rewards.welfare=nash rewards.alpha=0.3",
      "alpha=0.3 has no effect with rewards.welfare='nash'",
    ),
    ("rewards.welfare=nash rewards.variant=user", "name two scores; set one of them"),
    ("rewards.welfare=cobb_douglas rewards.variant=linear", "name two scores"),
    ("rewards.welfare=nash rewards.disagreement=(-1,0)", "must be at least 0, as utilities are"),
    ("grpo.advantage=gdpo rewards.welfare=ces", "has no effect with grpo.advantage='gdpo'"),
    ("rewards.mode=paper rewards.variant=pareto rewards.llm_answer=1", "has no effect with"),
    ("rewards.judge.model=m", "model='m' has no effect with rewards.judge.kind='rule'"),
    ("rewards.judge.base_url=http://h/v1", "has no effect with rewards.judge.kind='rule'"),
    ("rewards.judge.log=a.jsonl", "has no effect with rewards.judge.kind='rule'"),
    ("rewards.tasks={'mine':'tasks.polite'}", "must name a function as 'package.module:function'"),
    ("rewards.tasks={'mine':3}", "must name a function"),
    ("rollout.temperature=0", "all samples of a prompt would be alike"),
    ("rollout.top_k=1", "all samples of a prompt would be alike"),
  ],
)
def test_settings_that_do_nothing_are_refused(assignments, said):
  with pytest.raises(BadInput, match=said):
    override(Config(), assignments.split())


# Two starts of one run.


def stored(*assignments, base=None):
  """What config.json holds, read back."""
  return json.loads(configs.stored(override(base or Config(), assignments)))


STEADY = override(Config(), ["optim.decay=constant", "sft.steps=40", "sft.optim.decay=constant"])


def test_every_key_is_one_or_the_other():
  """A new knob is identity until somebody says otherwise; these are all that may change."""
  placement = {
    "workdir", "policy.remat", "rollout.prompt_buckets", "rollout.prompts_at_once",
    "rollout.segment", "rewards.judge.base_url", "rewards.judge.api_key_env",
    "rewards.judge.concurrency", "rewards.judge.deadline_s", "rewards.judge.max_attempts",
    "rewards.judge.breaker_failures", "rewards.judge.breaker_cooldown_s", "rewards.judge.cache",
    "rewards.judge.max_invalid_frac", "rewards.judge.max_tokens",
    "rewards.judge.max_tokens_key", "grpo.micro_prompts", "grpo.micro_samples",
    "grpo.length_buckets", "sft.micro_batch", "sft.length_bucket", "sft.every", "eval.every",
    "eval.bootstrap", "eval.intervene_prompts", "mesh.data", "mesh.fsdp", "mesh.tensor", "checkpoint.every",
    "checkpoint.keep", "log.tensorboard", "log.wandb", "log.samples",
  }  # fmt: skip
  placement |= {
    key for key in configs.keys(Config()) if key.startswith(("teacher.", "endpoint.", "watch."))
  }
  same = stored()
  for key in configs.keys(Config()):
    parts = key.split(".")
    changed = json.loads(json.dumps(same))
    node = changed
    for part in parts[:-1]:
      node = node[part]
    node[parts[-1]] = "another"
    allowed, other = placement_changes(changed, Config()), differences(changed, Config())
    free = key in placement or effects.silenced(configs.values(Config()), key)
    assert (len(allowed), len(other)) == ((1, 0) if free else (0, 1)), key


def test_changes_name_key_and_both_values():
  old = stored("seed=1", "mesh.fsdp=8")
  new = override(Config(), ["mesh.fsdp=4"])
  assert differences(old, new) == ["seed: 1 -> 0"]
  assert placement_changes(old, new) == ["mesh.fsdp: 8 -> 4"]


def test_tables_are_compared_whole():
  old = stored("data.weights={'medium': 2.0}")
  assert differences(old, Config()) == ["data.weights: {'medium': 2.0} -> {}"]
  assert configs.flat(old)["data.weights"] == {"medium": 2.0}


def test_a_newer_version_adds_keys_and_an_older_one_knew_others():
  old = stored()
  del old["grpo"]["dual_clip"], old["sft"]["optim"]["lr"], old["log"]
  assert differences(old, Config()) == placement_changes(old, Config()) == []
  assert differences(old, vary(Config(), {"optim.lr": 2e-6})) == ["optim.lr: 1e-06 -> 2e-06"]
  old["grpo"]["critic"], old["users"] = 1, {"kind": "rule"}
  assert differences(old, Config()) == [
    "grpo.critic: 1 -> unknown to this version of gtalign_jax",
    "users: {'kind': 'rule'} -> unknown to this version of gtalign_jax",
  ]


@pytest.mark.parametrize(
  "before, after, reached, goes_on",
  [
    # GRPO: more steps, or fewer that are still ahead
    ("grpo.steps=10", "grpo.steps=20", None, True),
    ("grpo.steps=10", "grpo.steps=20", {"sft": 40, "grpo": 10}, True),
    ("grpo.steps=10", "grpo.steps=5", None, False),
    ("grpo.steps=10", "grpo.steps=5", {"sft": 40, "grpo": 5}, True),
    ("grpo.steps=10", "grpo.steps=5", {"sft": 40, "grpo": 6}, False),
    # a phase that is added or dropped makes another job
    ("grpo.steps=0", "grpo.steps=5", {"sft": 9}, False),
    ("grpo.steps=5", "grpo.steps=0", {}, False),
    # the warm start: only before its end, from which all else begins
    ("sft.steps=40", "sft.steps=50", None, False),
    ("sft.steps=40", "sft.steps=50", {"sft": 39}, True),
    ("sft.steps=40", "sft.steps=50", {"sft": 40}, False),
    ("sft.steps=40", "sft.steps=30", {"sft": 31}, False),
  ],
)
def test_a_run_is_extended(before, after, reached, goes_on):
  old, new = stored(before, base=STEADY), override(STEADY, [after])
  assert (differences(old, new, reached) == []) == goes_on
  assert len(differences(old, new, reached) + placement_changes(old, new, reached)) == 1


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_a_schedule_that_ends_with_the_run_fixes_its_length(decay):
  base = override(Config(), [f"optim.decay={decay}"])
  old = stored("grpo.steps=10", base=base)
  assert differences(old, override(base, ["grpo.steps=20"])) == ["grpo.steps: 10 -> 20"]


def test_fingerprint_is_of_identity():
  same = configs.identity(Config())
  moved = ["mesh.fsdp=2", "workdir=x", "log.samples=0", "rollout.segment=8", "grpo.steps=7"]
  assert configs.identity(override(Config(), moved)) == same
  for change in ("model=x", "rollout.temperature=0.5", "rewards.alpha=0.4", "data.root=x"):
    assert configs.identity(override(Config(), [change])) != same


def test_a_stored_config_is_read_back():
  changes = ["grpo.dual_clip=3", "grpo.inner_epochs=2"]
  assert configs.from_dict(stored(*changes, base=STEADY), "x") == override(STEADY, changes)
  with pytest.raises(BadInput, match="x: grpo: 1 is no table of keys"):
    configs.from_dict({"grpo": 1}, "x")
  with pytest.raises(BadInput, match="x: unknown key 'critics'; the run is of another version"):
    configs.from_dict({"critics": 1}, "x")


def test_sections_are_hashable_and_frozen():
  assert hash(Config()) == hash(Config())
  with pytest.raises(dataclasses.FrozenInstanceError):
    GRPOConfig().steps = 3


def test_a_pair_that_may_be_none_is_a_tuple_wherever_it_comes_from():
  """Sections are static arguments of jit, so they must be hashable: a list of config.json is not."""
  made = override(Config(), ["grpo.mismatch=token", "grpo.mismatch_bounds=[0.5,2]"])
  assert made.grpo.mismatch_bounds == (0.5, 2.0)
  again = configs.from_dict(json.loads(configs.stored(made)), "config.json")
  assert again == made and hash(again.grpo) == hash(made.grpo)


def test_what_is_off_in_both_is_no_part_of_the_identity():
  """A version may change the default of an option that most runs leave off; they go on."""
  old = stored(base=STEADY)
  old["grpo"]["mismatch_bounds"] = [0.0, 2.0]
  assert differences(old, STEADY) == []
  assert differences(old, override(STEADY, ["grpo.mismatch=token"]))[0].startswith("grpo.mismatch:")
  assert len(differences(old, override(STEADY, ["grpo.mismatch=token"]))) == 2


def test_a_critic_needs_no_group():
  assert override(Config(), ["grpo.advantage=gae", "rollout.group_size=1"]).has_critic
  with pytest.raises(BadInput, match=r"rollout.group_size=1: a group baseline needs at least 2"):
    override(Config(), ["rollout.group_size=1"])
