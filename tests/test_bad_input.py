"""Bad input to the main job: exit 2, one line that names the key, the value and the fix."""

import json
from pathlib import Path

import pytest

from gtalign_jax.cli.main import main

MESH = ("mesh.data=4", "mesh.tensor=2")  # the tests' 8 devices
CONFIG = str(Path(__file__).parent / "train" / "tiny_config.py")


def refuse(capfd, tmp_path, *arguments, command="train", workdir=True):
  """Runs the command in this process; returns its one line on stderr."""
  given = [f"workdir={tmp_path / 'run'}"] if workdir else []
  assert main([command, *arguments, *given]) == 2
  lines = capfd.readouterr().err.strip().splitlines()
  ours = [line for line in lines if line.startswith("gtalign: ")]
  assert len(ours) == 1 and lines[-1] == ours[0] and "Traceback" not in "".join(lines)
  return ours[0]


@pytest.mark.parametrize(
  "override, expected",
  [
    ("rollout.group_sise=4", "did you mean 'rollout.group_size'"),
    ("grpo.stepz=4", "did you mean 'grpo.steps'"),
    ("rollout.group_size=1", "rollout.group_size=1: a group baseline needs at least 2"),
    ("grpo.group_size=1", "rollout.group_size=1: a group baseline needs at least 2"),
    ("grpo.kind=cipso", "did you mean cispo"),
    ("optim.lr=fast", "optim.lr=fast: expected float"),
    ("optim.lr=-1", "optim.lr=-1.0: must be positive"),
    ("data.max_prompt_tokens=99999", "rollout.prompt_buckets=(64,)"),
    ("grpo.micro_prompts=3", "grpo.micro_prompts=3 does not divide grpo.prompts_per_step=4"),
    ("grpo.train_samples=9", "grpo.train_samples=9 is more than rollout.group_size="),
    ("grpo.train_samples=1", "grpo.train_samples=1: must be at least 2"),
    ("grpo.train_samples=2 grpo.micro_samples=3", "does not divide grpo.train_samples=2"),
    ("rewards.variant=pareto", "rewards.mode='paper' only"),
    ("rewards", "is not of the form key=value"),
    ("rewards=3", "is a section"),
    ("mesh.data=-1 mesh.fsdp=-1", "at most one is -1"),
  ],
)
def test_config(capfd, tmp_path, override, expected):
  assert expected in refuse(capfd, tmp_path, CONFIG, *override.split())
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  "override, expected",
  [
    ("model=no/such/folder/anywhere", "no/such/folder/anywhere"),
    ("data.root=no/such/data", "data.root='no/such/data'"),
    ("data.max_prompt_tokens=5", "data.max_prompt_tokens=5: every prompt is longer"),
    ("mesh.data=3", "mesh.data=3"),
    ("mesh.data=1 mesh.tensor=8", "does not divide"),
    ("mesh.data=8 grpo.prompts_per_step=4", "grpo.prompts_per_step=4 does not split over"),
    ("data.sources=('poetry',)", "poetry"),
  ],
)
def test_what_the_run_finds(capfd, tmp_path, override, expected):
  mesh = () if "mesh" in override else MESH
  assert expected in refuse(capfd, tmp_path, CONFIG, *override.split(), *mesh)


def test_unreadable_parquet(capfd, tmp_path):
  folder = tmp_path / "prompts" / "math-hard"
  folder.mkdir(parents=True)
  (folder / "train.parquet").write_bytes(b"PAR1 this is no parquet")
  (folder / "test.parquet").write_bytes(b"")
  line = refuse(capfd, tmp_path, CONFIG, f"data.root={tmp_path / 'prompts'}", *MESH)
  assert "train.parquet" in line


def test_missing_and_broken_config_files(capfd, tmp_path):
  assert "is not a file" in refuse(capfd, tmp_path, str(tmp_path / "none.py"))
  empty = tmp_path / "empty.py"
  empty.write_text("x = 1\n")
  assert "defines no function config()" in refuse(capfd, tmp_path, str(empty))


def test_a_mistake_inside_a_config_file(capfd, tmp_path):
  wrong = tmp_path / "wrong.py"
  wrong.write_text(
    "from gtalign_jax.config import *\n"
    "def config():\n"
    "  return Config(optim=OptimConfig(warmpu=1))\n"
  )
  line = refuse(capfd, tmp_path, str(wrong))
  assert f"{wrong}:3: OptimConfig has no key 'warmpu'; did you mean warmup" in line


def test_unknown_command_and_arguments(capfd, tmp_path):
  assert "did you mean 'train'" in refuse(capfd, tmp_path, command="trian", workdir=False)
  assert "required" in refuse(capfd, tmp_path, command="train", workdir=False)
  assert main(["--help"]) == 0


def test_work_directory_of_another_config(capfd, tmp_path):
  workdir = tmp_path / "run"
  workdir.mkdir()
  (workdir / "config.json").write_text("{broken")
  broken = refuse(capfd, tmp_path, CONFIG)
  assert "is not JSON" in broken and "use another workdir=" in broken
  (workdir / "config.json").write_text(json.dumps({"seed": 1}))
  assert "seed: 1 -> 0" in refuse(capfd, tmp_path, CONFIG)


def test_work_directory_that_cannot_be_made(capfd, tmp_path):
  (tmp_path / "run").write_text("a file")
  assert "cannot be written" in refuse(capfd, tmp_path, CONFIG)


@pytest.mark.parametrize(
  "flags, expected",
  [
    ("--seed=9223372036854775808", "--seed=9223372036854775808: must be below 2**63"),
    ("--group-size=0", "--group-size=0: must be at least 1"),
    ("--temperature=-1", "--temperature=-1.0: must be at least 0"),
  ],
)
def test_generate_flags(capfd, tmp_path, flags, expected):
  given = ["--model=random:tiny", "--prompts=in.jsonl", "out.jsonl", flags]
  assert expected in refuse(capfd, tmp_path, *given, command="generate", workdir=False)
