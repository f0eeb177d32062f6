"""benchmarks/learning.py: a grid of runs on the tiny model, its failures and its end of time."""

import contextlib
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from gtalign_jax import config as configs
from gtalign_jax.cli import arguments
from gtalign_jax.cli.evaluate import READ
from gtalign_jax.cli.main import main

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_device")
TINY = ["--grid", "smoke", "--config", str(ROOT / "tests" / "train" / "tiny_config.py")]


@pytest.fixture(scope="module")
def learning():
  spec = importlib.util.spec_from_file_location("learning", ROOT / "benchmarks" / "learning.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class Here:
  """`launch` in this process; fails: a command that does.

  The base policy is evaluated and the table made for real. What would train leaves what it promises,
  after its config was read: the programs of a real run take half a minute to compile.
  """

  def __init__(self, fails=None):
    self.fails, self.ran = fails, []

  def __call__(self, arguments, log, seconds=None):
    name, *rest = arguments
    self.ran.append(name)
    with log.open("a") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
      if name == self.fails:
        file.write("gtalign: no space left on the disk\n")
        return 1
      if name == "compare" or "model=random:tiny" in rest:
        return main([name, *rest])
    if name in ("sft", "train"):
      run = Path(configs.load(rest[0], rest[1:]).workdir)
      run.mkdir(parents=True)
      (run / "DONE").touch()
      (run / "metrics.jsonl").write_text('{"phase": "grpo", "step": 1, "W": 0.5}\n')
    elif name == "export":
      (out := Path(rest[rest.index("--out") + 1])).mkdir()
      (out / "config.json").touch()
    else:
      out = Path(rest[1])
      shutil.copy(out.with_name("base-game-t1.jsonl"), out)
    return 0


def test_a_failed_run_is_told_and_tried_again(learning, tmp_path, capsys):
  first, again = Here(fails="train"), Here()
  learning.main([str(tmp_path), *TINY, "--rewards", "linear"], first)
  assert json.loads(capsys.readouterr().out) == {"done": 3, "failed": 1, "left": 1}
  assert first.ran.count("sft") == 1 and first.ran.count("eval") == 2
  table = (tmp_path / "table.md").read_text()
  assert "| game-linear-t1-s0 | failed |  |" in table and "no space left on the disk" in table
  assert "| base-game-t1 | 0." in table  # the policies that are there are compared already
  learning.main([str(tmp_path), *TINY, "--rewards", "linear"], again)
  assert json.loads(capsys.readouterr().out) == {"done": 4, "failed": 0, "left": 0}
  assert [each for each in again.ran if each != "compare"] == ["train", "export", "eval"]
  table = (tmp_path / "table.md").read_text()
  assert "| game-linear-t1-s0 | done | 1 |" in table and "## W, row less column" in table
  run = tmp_path / "runs" / "game-linear-t1-s0"
  assert not (run / "model").exists() and (tmp_path / "report.html").exists()
  rows = [json.loads(line) for line in (tmp_path / "rows" / "base-game-t1.jsonl").open()]
  ids = [[json.loads(line)["id"] for line in path.open()] for path in tmp_path.glob("rows/*.jsonl")]
  assert len(ids) == 3 and all(each == [row["id"] for row in rows] for each in ids)


def test_the_end_of_time_leaves_a_table_and_what_needs_another_waits(learning, tmp_path, capsys):
  arguments = [str(tmp_path), *TINY, "--minutes", "0", "--forms", "game,none", "--seeds", "0,1"]
  learning.main(arguments, Here())
  assert json.loads(capsys.readouterr().out)["done"] == 0
  table = (tmp_path / "table.md").read_text()
  assert "| warm-none-t1 | stopped |" in table and "| none-linear-t1-s1 | waiting |" in table
  with pytest.raises(SystemExit):
    learning.main([str(tmp_path), "--rewards", "best"])


def test_every_command_of_every_grid_has_a_config_that_holds(learning, tmp_path, monkeypatch):
  monkeypatch.setenv("GTALIGN_DATA", "/data")
  monkeypatch.chdir(ROOT)
  for grid in learning.GRIDS.values():
    for job in learning.jobs(tmp_path, grid):
      for (name, *rest), _ in job.steps:
        if name in ("sft", "train"):
          configs.load(rest[0], rest[1:])
        elif name == "eval":
          given = [each for each in rest[2:] if each != "--intervene"]
          arguments.only(given, READ, "eval")
          configs.load(rest[0], ["grpo.steps=0", "sft.steps=0", *given])
  names = [job.name for job in learning.jobs(tmp_path, learning.GRIDS["concierge"])]
  assert len(names) == len(set(names)) == 3 * 3 + 12 and names[3] == "game-cobb_douglas-t2-s0"


def test_a_command_runs_in_a_process_of_its_own_that_ends_in_time(learning, tmp_path):
  log = tmp_path / "log"
  assert learning.launch(("--version",), log) == 0 and log.read_text().startswith("0.")
  assert learning.launch(("compare", "a"), log) == 2 and learning.last(log).startswith("gtalign: ")
  assert learning.launch(("--version",), log, 0) is None
