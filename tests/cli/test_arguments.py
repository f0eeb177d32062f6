"""Arguments that the commands share: overrides of a config, ranges, and the JSON of a result."""

import argparse
import json
import re
from pathlib import Path

import pytest

from gtalign_jax import config as configs
from gtalign_jax.cli import arguments
from gtalign_jax.cli.main import COMMANDS, main
from gtalign_jax.errors import BadInput

CHAIN = (
  "<thinking>t DQ</thinking><payoff>{}</payoff><analyze>DQ_DA</analyze><response>yes</response>"
)
ROW = {"id": "a", "data_source": "math-hard", "completion": CHAIN, "judge_score": 1}


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("grpo.steps=3", True),
    ("seed=", True),
    ("rewards.judge.base_url=http://host/v1?a=b", True),
    ("out.jsonl", False),
    ("runs/lr=1e-4/out.jsonl", False),
    ("./lr=1e-4.jsonl", False),
    ("=3", False),
    ("1e-4=x", False),
  ],
)
def test_a_path_with_an_equals_sign_is_no_override(text, expected):
  assert arguments.is_override(text) == expected


def test_ranges():
  args = argparse.Namespace(group_size=0, temperature=float("nan"), limit=None, seed=2**63)
  with pytest.raises(BadInput, match="--group-size=0: must be at least 1"):
    arguments.check(args, group_size=1)
  with pytest.raises(BadInput, match="--temperature=nan: must be at least 0"):
    arguments.check(args, temperature=0)
  with pytest.raises(BadInput, match=r"--seed=9223372036854775808: must be below 2\*\*63"):
    arguments.check(args, seed=0)
  arguments.check(args, limit=1)  # not given


def test_a_sweep_is_evenly_spaced_numbers():
  names = ("price", "alpha")
  assert arguments.sweep("price=0:0.02:5", names) == ("price", (0, 0.005, 0.01, 0.015, 0.02))
  assert arguments.sweep("alpha=0.1:0.4:4", names) == ("alpha", (0.1, 0.2, 0.3, 0.4))
  for bad in ("cost=0:1:3", "price", "price=0:1", "price=0:x:3", "price=1:0:3", "price=0:nan:3",
              "price=0:1:1", "price=-1:1:3", "price=0:inf:3", "price=0:1:3.5"):  # fmt: skip
    with pytest.raises(BadInput, match=f"--sweep '{re.escape(bad)}'"):
      arguments.sweep(bad, names)


def test_the_last_line_is_strict_json(capsys):
  arguments.show(argparse.Namespace(json=True), "for people\n", {"x": float("nan")})
  assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"x": None}
  arguments.show(argparse.Namespace(json=False), "for people\n", {"x": 1})
  assert capsys.readouterr().out == "for people\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
  with pytest.raises(SystemExit) as done:
    main([command, "--help"])
  assert done.value.code == 0
  assert f"usage: gtalign {command}" in capsys.readouterr().out


def score(tmp_path, *flags):
  source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  source.write_text(json.dumps(ROW) + "\n")
  code = main(["score", str(source), str(target), *flags])
  return code, json.loads(target.read_text()) if target.exists() else None


def test_both_forms_of_an_override_reach_the_reward(tmp_path):
  _, plain = score(tmp_path)
  _, positional = score(tmp_path, "rewards.alpha=0.05")
  _, flag = score(tmp_path, "--set", "rewards.alpha=0.05")
  assert positional == flag != plain
  assert score(tmp_path, "rewards.alpha=0.5", "--set", "rewards.alpha=0.05")[1] == flag


@pytest.mark.parametrize("each", ["rewards.nonsense=7", "total_rubbish", "grpo.steps=1", "alpha=1"])
def test_score_refuses_what_is_no_reward_setting(tmp_path, capsys, each):
  for flags in ([each], ["--set", each]):
    assert score(tmp_path, *flags) == (2, None)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and each.partition("=")[0] in error


@pytest.mark.parametrize("command", ["train", "sft", "prepare", "synthesize", "plan"])
def test_every_command_refuses_what_is_no_override(tmp_path, capsys, command):
  config = tmp_path / "c.py"
  config.write_text("from gtalign_jax.config import Config\ndef config(): return Config()\n")
  more = {"prepare": ["out"], "synthesize": ["out"], "plan": ["--topology=cpu:1"]}.get(command, [])
  assert main([command, str(config), *more, "total_rubbish"]) == 2
  assert "total_rubbish" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    ("policy.lr=1", "optim.lr"),
    ("lr=1", "optim.lr"),
    ("sft.lr=1", "sft.optim.lr"),
    ("sft.learning_rate=1", "sft.optim.lr"),
    ("grpo.stepz=1", "grpo.steps"),
    ("polcy.dtype=x", "policy.dtype"),
    ("data.weights.medium=2", "data.weights"),
    ("num_generation=4", "rollout.group_size"),
    ("trainer.learning_rate=1", "optim.lr"),
    ("rollout.num_generations=4", "rollout.group_size"),
    ("actor_rollout_ref.actor.clip_rato=1", "grpo.clip_low"),
    ("grpo.nonsense=1", ""),
    ("grpo.temp=1", ""),
  ],
)
def test_the_hint_names_the_key_that_was_meant(capsys, given, expected):
  """Typed as it is in other frameworks, under a wrong section, or with a slip; else no hint."""
  for form in (given, f"--{given}"):
    assert main(["config", form]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and given.partition("=")[0] in error
    assert (f"did you mean {expected!r}?" in error) if expected else ("did you mean" not in error)


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    (["--grpo.steps", "3"], "keys of the config are set as key=value, here grpo.steps=…"),
    (["--learning-rate", "3"], "here optim.lr=…"),
    (["--nonsense"], "no flag '--nonsense'; keys of the config are set as key=value (see"),
  ],
)
def test_a_key_that_is_typed_as_a_flag(capsys, given, expected):
  assert main(["config", *given]) == 2
  assert expected in capsys.readouterr().err


def test_every_key_is_explained(tmp_path, capsys):
  file = tmp_path / "c.py"
  file.write_text(
    "from gtalign_jax.config import *\ndef config(): return Config(optim=OptimConfig(lr=1e-3))\n"
  )
  assert main(["config", str(file), "--grpo.steps=7", "rollout.stop=('é','b')", "--json"]) == 0
  *lines, last = capsys.readouterr().out.splitlines()
  found = {each["key"]: each for each in json.loads(last)["keys"]}
  assert list(found) == configs.keys(configs.Config())
  assert all(each["meaning"] for each in found.values())
  assert found["grpo.steps"] == {
    "key": "grpo.steps", "value": 7, "default": 100, "role": "extendable",
    "meaning": "optimiser batches of fresh rollouts",
  }  # fmt: skip
  assert found["mesh.fsdp"]["role"] == "placement" and found["optim.lr"]["value"] == 1e-3
  assert "float32 | bfloat16" in found["policy.param_dtype"]["meaning"]
  assert max(map(len, lines)) <= 100
  changed = [line.split("=")[0] for line in lines[1:] if line.startswith("*")]
  assert changed == ["* rollout.stop", "* grpo.steps", "* optim.lr"]
  # what is shown can be typed
  shown = [line[2:50].strip() for line in lines if re.match(r"[ *] [a-z]+\.?[a-z._0-9]*=", line)]
  typed = [each for each in shown if not each.endswith((",", "'"))]
  assert len(typed) > 100 and main(["config", *typed]) == 0


@pytest.mark.parametrize("command", [["train"], ["sft"], ["plan", "--topology=cpu:1"]])
def test_a_run_asks_no_teacher(tmp_path, capsys, command):
  name, *flags = command
  smoke = Path(__file__).parents[2] / "configs/smoke.py"
  given = ["teacher.model=m", "teacher.base_url=http://x/v1"]
  assert main([name, str(smoke), *given, f"workdir={tmp_path / 'run'}", *flags]) == 2
  assert "teacher.model=m: only gtalign synthesize reads it" in capsys.readouterr().err
  assert not (tmp_path / "run").exists()
