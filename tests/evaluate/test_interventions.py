"""`gtalign eval --intervene --force`: columns, JSON and table; regret by hand; whose a file is."""

import json

import pytest
from scripted import POLICIES

from gtalign_jax.cli.main import main
from gtalign_jax.evaluate import interventions
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rollout import collect, intervene

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")
ACTIONS = ("DA", "CQ", "AQ")


@pytest.fixture
def data(tmp_path):
  rows = [
    {
      "id": f"p{n}", "data_source": "math-hard", "ground_truth": "2",
      "prompt": [{"role": "user", "content": f"What is number {n}?"}],
    }
    for n in range(3)
  ]  # fmt: skip
  path = tmp_path / "in.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_eval_intervenes_and_forces(data, tmp_path, monkeypatch, capsys):
  for module in (collect, intervene):
    monkeypatch.setattr(module, "stream", POLICIES["honest"].stream)
  out = tmp_path / "out.jsonl"
  asked = ["eval", "--model", "random:tiny", "--data", str(data), str(out), "--json"]
  asked += ["--group-size", "2", "--max-new-tokens", "640", "--intervene"]
  assert main([*asked, "--turns", "2", "--force"]) == 0
  *shown, last = capsys.readouterr().out.splitlines()
  got = json.loads(last)
  assert [got[key] for key in ("follow", "carry", "hold", "effect", "n")] == [1, 1, 1, 1, 6]
  assert got["follow_interval"] == pytest.approx([0.4385, 1.0], abs=1e-4)  # three prompts
  assert got["sources"]["math-hard"]["follow"] == got["game/follow"] == 1.0
  worth = got["realised"]["math-hard"]["DQ"]
  assert [worth[action]["n"] for action in ACTIONS] == [6, 6, 6]
  assert worth["DA"]["user"] > worth["CQ"]["user"]  # a question answers nothing
  assert got["regret_prompts"] == 3 and 0 <= got["regret"] <= 1
  rows = [json.loads(line) for line in out.read_text().splitlines()]
  for row in rows:
    column = row["intervention"]
    assert column["named"] == column["edited"] != column["chosen"] == row["named_cell"]
    assert [row["forced"][action]["action"] for action in ACTIONS] == list(ACTIONS)
    same = row["forced"][row["action"]]  # the action that it took anyway: the same words
    assert same["user"] == pytest.approx(row["user_reward"], abs=0.1)
  assert any(line.startswith("math-hard  1.00 [0.44, 1.00]") for line in shown)
  assert any(line.startswith("regret 0.") for line in shown)
  assert main([*asked, "--turns", "2"]) == 2  # another job: its rows have other columns
  assert "is there already" in capsys.readouterr().err


def played(**worth):
  return {
    action: {"LLM": value, "user": value, "action": action} for action, value in worth.items()
  }


def test_regret_by_hand():
  every = played(DA=0.9, CQ=0.5, AQ=0.7)
  rows = [
    {"id": "a#0", "action": "DA", "forced": every},
    {"id": "a#1", "action": "CQ", "forced": None},
    {"id": "b#0", "action": None, "forced": every},  # none of the three: as the worst
    {"id": "c#0", "action": "DA", "forced": played(DA=0.9, CQ=0.5)},  # AQ was never carried out
    {"id": "d#0", "action": "DA", "forced": every | {"AQ": every["AQ"] | {"action": "DA"}}},
  ]
  got = interventions.regret(rows, RewardConfig())
  assert got["regret"] == pytest.approx((0.2 + 0.4) / 2) and got["regret_prompts"] == 2
  assert interventions.regret(rows[3:], RewardConfig())["regret"] is None
