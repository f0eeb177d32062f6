"""Labels and tasks of all rows are looked at before anything is loaded, sampled or judged (B9)."""

import json

import pytest
from real_runs import TINY

from gtalign_jax.cli.main import main

CHAIN = "<thinking>t</thinking><payoff>{}</payoff><analyze>a</analyze><response>yes</response>"
GOOD = {"data_source": "wildguard", "ground_truth": "harmful"}
BAD = {
  "another label": ({"ground_truth": "Harmful"}, "ground_truth='Harmful' must be harmful or unh"),
  "no label": ({"ground_truth": None}, "ground_truth=None must be text"),
  "no source of ours": ({"data_source": "poems"}, "data_source='poems' is no known task"),
  "the label of another source": ({"ground_truth": "ambiguous"}, "must be harmful or unharmful"),
}


@pytest.fixture
def refused(tmp_path, capfd, monkeypatch):
  """Runs a command on good rows and one bad row; its line on stderr, and what it left behind."""
  # the file's last row: what is looked at row by row as the work goes on would come too late
  monkeypatch.setattr("gtalign_jax.models.load", lambda *_, **__: pytest.fail("loaded a model"))

  def run(change, *command):
    rows = [GOOD | {"id": str(n)} for n in range(40)] + [GOOD | {"id": "last"}]
    more = {"prompt": [{"role": "user", "content": "Hi"}], "completion": CHAIN, "extra_info": {}}
    path = tmp_path / "rows.jsonl"
    rows = [row | more for row in rows]
    rows[-1] |= change
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([each.format(path=path, out=tmp_path / "out") for each in command]) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]
    return capfd.readouterr().err.strip().splitlines()[-1]

  return run


COMMANDS = {
  "score": ("score", "{path}", "{out}"),
  "eval": ("eval", "--model", "random:tiny", "--data", "{path}", "{out}"),
  "train": ("train", str(TINY), "data.root={path}", "workdir={out}"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("command", COMMANDS)
def test_of_what_is_judged(refused, command, what):
  change, said = BAD[what]
  line = refused(change, *COMMANDS[command])
  assert said in line and ("rows.jsonl:41" in line or "record 'last'" in line)


@pytest.mark.parametrize(
  "command",
  [
    ("sft", str(TINY), "data.root={path}", "workdir={out}"),
    ("synthesize", str(TINY), "{out}", "data.root={path}"),
  ],
)
@pytest.mark.parametrize("label", ["Harmful", "ambiguous"])
def test_of_what_chains_are_written_from(refused, command, label):
  """A chain for a label that nobody knows would teach it as an answer."""
  line = refused({"ground_truth": label}, *command)
  assert f"ground_truth={label!r} must be harmful or unharmful" in line and "'last'" in line


@pytest.mark.parametrize("command", ["sft", "train"])
def test_of_the_chains_that_a_warm_start_reads(refused, tmp_path, command):
  line = refused({"completion": None}, command, str(TINY), "sft.data={path}", "workdir={out}")
  assert "rows.jsonl:1: completion must be" not in line and "rows.jsonl:41" in line
