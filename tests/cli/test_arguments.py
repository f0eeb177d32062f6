"""Arguments that the commands share: overrides of a config, ranges, and the JSON of a result."""

import argparse
import json

import pytest

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


def test_a_path_that_holds_a_sign_is_no_override(tmp_path):
  """B15: runs/lr=1e-4/out.jsonl is where eval writes, not a key."""
  out = tmp_path / "lr=1e-4" / "out.jsonl"
  out.parent.mkdir()
  flags = ["--group-size", "1", "--max-new-tokens", "2", "--prompts", "1", "--data", ""]
  keys = ["data.max_prompt_tokens=2048", "rollout.prompt_buckets=(2048,)"]
  assert main(["eval", "--model", "random:tiny", *flags, str(out), *keys]) == 0
  assert len(out.read_text().splitlines()) == 1
