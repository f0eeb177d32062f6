"""Calibration as a reward: what it adds to L, for whom, and that honesty pays."""

import json

import numpy as np
import pytest
from samples import chain, row
from test_summary import REPLIES, SEVERAL, sample

from gtalign_jax.cli import main
from gtalign_jax.errors import BadInput
from gtalign_jax.game import measures
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, score
from gtalign_jax.rewards.calibrated import calibrated
from gtalign_jax.types import ACTIONS

W = 0.15


def scored(rows, **settings):
  config = RewardConfig(**settings)
  return calibrated(score.score_rows(rows, config, judges.make(config.judge)), config)


def group(prompt="p", size=6):
  """Samples of one prompt that differ in action, matrix and verdict."""
  rng = np.random.default_rng(len(prompt))
  return [
    sample(f"{prompt}#{g}", "DQ", ACTIONS[g % 3], rng.integers(-50, 50, 12) / 10)
    | {"judge_score": g % 2}
    for g in range(size)
  ]


def test_weight_0_leaves_everything_as_it_is():
  rows = [*group(), row("no chain", id="p#9"), row(id="p#10", judge=None)]
  for mode in ("corrected", "paper"):
    config = RewardConfig(mode=mode)
    plain = score.score_rows(rows, config, judges.make(config.judge))
    same = calibrated(plain, config)
    assert same is plain and "calibration" not in same[0]
  assert "rewards/calibration/mean" not in score.summarise(rows, plain)


@pytest.mark.parametrize(
  "settings", [{}, {"variant": "linear"}, {"alpha": 0.8}, {"welfare": "egalitarian"}]
)
def test_it_is_a_share_of_the_weight_of_the_decision(settings):
  rows = group()
  plain, got = scored(rows, **settings), scored(rows, llm_calibration=W, **settings)
  matrices = np.array([each["payoff"] for each in plain]).reshape(1, -1, 2, 3, 2)
  utility = [[[each["llm_reward"], each["user_reward"]] for each in plain]]
  actions = [[g % 3 for g in range(6)]]
  c = measures.calibration(matrices, np.zeros((1, 6), int), actions, utility, np.ones((1, 6)))
  config = RewardConfig(**settings)
  for before, after, expected in zip(plain, got, c["score_PG"][0], strict=True):
    assert after["calibration"] == pytest.approx(expected, abs=1e-12)
    llm = before["llm_reward"] + W * (expected - before["decision"])
    assert after["llm_reward"] == pytest.approx(llm, abs=1e-12)
    assert after["llm_uncalibrated"] == before["llm_reward"]
    user = after["user_reward"]
    assert user == before["user_reward"] and after["decision"] == before["decision"]
    assert after["utility"] == pytest.approx(user**config.alpha * llm ** (1 - config.alpha))
    score_of = {"linear": (user + llm) / 2, "egalitarian": min(user, llm)}
    wanted = score_of.get(config.variant, score_of.get(config.welfare, after["utility"]))
    assert after["score"] == pytest.approx(wanted)
  # the measures of a step do not depend on the weight
  keys = [
    f"game/calibration_{kind}/{role}" for kind in ("error", "order") for role in ("llm", "user")
  ]
  before, after = (score.summarise(rows, each) for each in (plain, got))
  assert [before[key] for key in keys] == [after[key] for key in keys]
  assert after["rewards/calibration/mean"] == pytest.approx(np.mean(c["score_PG"]))


def test_rows_without_target():
  """They take the mean of their prompt, else of the batch; no matrix earns nothing, no verdict no number."""
  silent = sample("p#6", None, "DA", np.zeros(12), judge=1)  # declares no type
  broken = row(chain(payoff="{}", response=REPLIES["DA"]), id="p#7")
  unjudged = sample("p#8", "DQ", "DA", np.zeros(12), judge=None)
  alone = sample("q#0", "DQ", "DA", np.full(12, 5.0), judge=1)  # the only sample of its prompt
  rows = [*group(), silent, broken, unjudged, alone]
  plain, got = scored(rows), scored(rows, llm_calibration=W)
  c = [each["calibration"] for each in got]
  mean = np.mean(c[:6])
  assert (
    c[6] == pytest.approx(mean) and c[7] == 0.0 and c[8] is None and c[9] == pytest.approx(mean)
  )
  assert got[7]["llm_reward"] == plain[7]["llm_reward"] and got[7]["score"] == plain[7]["score"]
  assert got[8]["llm_reward"] is None and got[8]["score"] is None
  # nothing to compare anywhere: the weight stays with d
  [only] = scored([alone], llm_calibration=W)
  assert only["calibration"] == only["decision"]
  assert only["llm_reward"] == scored([alone])[0]["llm_reward"]
  assert scored([broken], llm_calibration=W)[0]["score"] == scored([broken])[0]["score"]
  assert scored([], llm_calibration=W) == []


def test_the_order_of_rows_does_not_matter():
  rows = [*group("p"), *group("qq")]
  order = np.random.default_rng(0).permutation(len(rows))
  straight = scored(rows, llm_calibration=W)
  mixed = scored([rows[at] for at in order], llm_calibration=W)
  for at, each in zip(order, mixed):
    assert each["score"] == pytest.approx(straight[at]["score"], abs=1e-12)


def test_the_honest_matrix_has_the_higher_reward_by_simulation():
  """1,000 games of one sample against seven others, from the reward itself: 3 matrices, equal texts."""
  rng = np.random.default_rng(1)
  games, others = 1000, 7
  made = {
    (action, verdict): score.score_rows(
      [sample("x#0", "VQ", action, np.zeros(12), source="ambig_qa", truth=SEVERAL, judge=verdict)],
      RewardConfig(),
      judges.make(RewardConfig().judge),
    )[0]
    for action in ACTIONS
    for verdict in (0, 1)
  }
  chance = dict(zip(ACTIONS, (0.2, 0.9, 0.5)))  # of a good verdict
  truth = np.zeros((2, 3, 2))
  for at, (action, p) in enumerate(chance.items()):
    for role, name in enumerate(("llm_reward", "user_reward")):
      mean = p * made[action, 1][name] + (1 - p) * made[action, 0][name]
      truth[:, at, role] = 10 * mean - 5
  matrices = {
    "honest": truth,
    "constant": np.broadcast_to(truth.mean((0, 1)), truth.shape),
    "inflated": np.minimum(truth + 2.5, 5),
  }
  earned = dict.fromkeys(matrices, 0.0)
  rows = []
  for game in range(games):
    for g in range(others + 1):
      action = ACTIONS[rng.integers(3)]
      verdict = int(rng.random() < chance[action])
      rows.append(made[action, verdict] | {"id": f"g{game}#{g}"})
  config = RewardConfig(llm_calibration=W)
  for name, matrix in matrices.items():
    for first in rows[:: others + 1]:
      first["payoff"] = matrix.ravel().tolist()
    earned[name] = np.array([each["score"] for each in calibrated(rows, config)[:: others + 1]])
  for name in ("constant", "inflated"):
    gain = earned["honest"] - earned[name]
    assert gain.mean() > 4 * gain.std() / np.sqrt(games), name


def test_the_command_groups_by_prompt(tmp_path):
  rows = [*group("p"), *group("qq")]
  source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  source.write_text("".join(json.dumps(each) + "\n" for each in rows))
  assert main.main(["score", str(source), str(target), f"rewards.llm_calibration={W}"]) == 0
  got = [json.loads(line) for line in target.read_text().splitlines()]
  wanted = scored(rows, llm_calibration=W)
  assert [each["score"] for each in got] == [each["score"] for each in wanted]
  assert "calibration" in got[0] and "llm_uncalibrated" not in got[0]


def test_the_weight_is_taken_from_the_decisions():
  assert RewardConfig(llm_calibration=0.2).llm_calibration == 0.2
  for bad in (-0.1, 0.25):
    with pytest.raises(BadInput, match=r"rewards\.llm_calibration=.*rewards\.llm_decision=0\.2"):
      RewardConfig(llm_calibration=bad)
