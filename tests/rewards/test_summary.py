"""Measures of the game over scored rows: groups by id, labels of type, what the responses do."""

import math

import numpy as np
import pytest
from samples import CELLS, chain, payoff, row

from gtalign_jax.errors import BadInput
from gtalign_jax.game import measures
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, score
from gtalign_jax.types import ACTIONS, USER_TYPES

REPLIES = {
  "DA": "Paris is the capital of France.",
  "CQ": "Which country do you mean?",
  "AQ": "Paris is the capital of France, and has been for long. Do you want to know more?",
}
ONE, SEVERAL = "singleAnswer###Paris", "multipleQAs###Meaning 1: a; Answer 1: b"


def summary(rows, mode="corrected"):
  settings = RewardConfig(mode=mode)
  return score.summarise(rows, score.score_rows(rows, settings, judges.make(settings.judge)))


def sample(id_, user_type="DQ", action="DA", numbers=None, **more):
  """A row whose response does `action`; numbers: the twelve of its matrix."""
  cells = dict(zip(CELLS, np.reshape(numbers, (6, 2)).tolist())) if numbers is not None else {}
  thinking = f"This is {user_type}." if user_type else "Hm."
  text = chain(thinking, payoff(**cells), f"So {user_type or 'DQ'}_{action}.", REPLIES[action])
  return row(text, id=id_, **more)


def test_groups_are_those_of_the_prompts():
  rng = np.random.default_rng(0)
  P, G = 5, 4
  payoff_PGUAR = rng.integers(-50, 50, (P, G, 2, 3, 2)) / 10
  user_type, action = rng.integers(0, 2, (P, G)), rng.integers(0, 3, (P, G))
  verdict = rng.integers(0, 2, (P, G))
  rows = [
    sample(f"p/{p}#{g}", USER_TYPES[user_type[p, g]], ACTIONS[action[p, g]], payoff_PGUAR[p, g])
    | {"judge_score": int(verdict[p, g])}
    for g in range(G)
    for p in range(P)
  ]
  config = RewardConfig()
  scored = score.score_rows(rows, config, judges.make(config.judge))
  got = score.summarise(rows, scored)
  utility = np.array([[each["llm_reward"], each["user_reward"]] for each in scored])
  utility_PGR = utility.reshape(G, P, 2).transpose(1, 0, 2)
  everything = np.ones((P, G), bool)
  expected = measures.calibration(payoff_PGUAR, user_type, action, utility_PGR, everything)
  for at, role in enumerate(("llm", "user")):
    for kind in ("error", "order"):
      assert got[f"game/calibration_{kind}/{role}"] == pytest.approx(expected[kind][at], abs=1e-12)
  assert got["game/payoff_icc"] == pytest.approx(measures.payoff_icc(payoff_PGUAR, everything))
  assert got["game/distinct_frac"] == 1.0 and got["game/top_matrix_frac"] == 1 / (P * G)
  assert got["game/payoff_icc/math-hard"] == got["game/payoff_icc"]
  alone = [each | {"id": str(n)} for n, each in enumerate(rows)]  # no samples: no groups
  assert math.isnan(summary(alone)["game/payoff_icc"])
  assert math.isnan(summary(alone)["game/calibration_error/llm"])


def test_types_are_held_against_labels():
  said = [  # declared, done, label
    ("DQ", "DA", ONE), ("VQ", "CQ", ONE), ("DQ", "AQ", ONE), (None, "CQ", ONE),
    ("VQ", "DA", SEVERAL), ("VQ", "CQ", SEVERAL), ("DQ", "AQ", SEVERAL),
  ]  # fmt: skip
  rows = [
    sample(f"p#{n}", user_type, action, source="ambig_qa", truth=truth)
    for n, (user_type, action, truth) in enumerate(said)
  ]
  rows.append(sample("q#0", "VQ", "DA"))  # mathematics has no label of type
  broken = row(chain(payoff="?", response="Which?"), source="ambig_qa", truth=ONE)
  unjudged = sample("p#9", "VQ", "CQ", source="ambig_qa", truth=ONE, judge=None)
  got = summary([*rows, broken, unjudged])
  assert got["game/type_accuracy"] == 4 / 6
  assert got["game/over_clarified"] == 2 / 4
  assert got["game/under_clarified"] == 1 / 3
  assert math.isnan(got["game/type_accuracy/math-hard"])
  assert math.isnan(got["game/over_clarified/math-hard"])
  coqa = [
    sample("a", "VQ", "DA", source="abg-coqa", truth="ambiguous"),
    sample("b", "VQ", "CQ", source="abg-coqa", truth="non_ambiguous"),
  ]
  got = summary(coqa)
  keys = ("type_accuracy", "over_clarified", "under_clarified")
  assert [got[f"game/{key}"] for key in keys] == [0.5, 1.0, 1.0]


def test_a_task_of_ones_own_has_no_label_of_type(tmp_path, monkeypatch):
  (tmp_path / "mine_typed.py").write_text(
    "from gtalign_jax.rewards.judges.base import BINARY\n"
    "from gtalign_jax.rewards.tasks.base import Task, same_credit\n"
    "def task(example):\n  return Task(BINARY, same_credit, lambda: None)\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  config = RewardConfig(tasks={"ambig_qa": "mine_typed:task"})
  rows = [sample("a", "DQ", "DA", source="ambig_qa", truth=ONE)]
  [scored] = score.score_rows(rows, config, judges.make(config.judge))
  assert scored["type_label"] is None and scored["user_type"] == "DQ"


def test_paper_mode_counts_what_can_be_counted():
  infinite = sample("p#0").copy()
  infinite["completion"] = infinite["completion"].replace("4.0", "Infinity")
  rows = [infinite, sample("p#1"), sample("p#2") | {"judge_score": None}, sample("q#0")]
  scored = score.score_rows(rows, RewardConfig(mode="paper"), judges.make(RewardConfig().judge))
  assert [each["payoff"] is None for each in scored] == [True, False, False, False]
  got = score.summarise(rows, scored)
  assert got["game/distinct_frac"] == 1 / 3
  # one sample of p has a verdict and a finite matrix: there is no other to hold it against
  assert math.isnan(got["game/calibration_error/user"])


def test_sums_right_counts_sums_of_the_declared_row():
  told = {
    "p#0": "DQ_DA 8.0, DQ_CQ 1.0, VQ_AQ 55.0. So DQ_DA.",  # the first is right, the last not in play
    "p#1": "So DQ_DA.",
  }
  zeros = np.zeros((2, 3, 2))
  zeros[0, 0] = 4.0
  rows = [sample(id_, numbers=zeros) for id_ in told]
  for each in rows:
    each["completion"] = each["completion"].replace("So DQ_DA.", told[each["id"]])
  got = summary([*rows, row("no chain", id="q#0")])
  assert got["game/sums_right"] == 1 / 2
  assert math.isnan(summary(rows[1:])["game/sums_right"])


def test_nothing_parsed_is_nan():
  got = summary([row("no chain", id="a#0"), row(chain(), id="b#0", judge=None)])
  for key in ("distinct_frac", "top_matrix_frac", "payoff_icc", "type_accuracy", "over_clarified"):
    assert math.isnan(got[f"game/{key}"])


TRUE = [[0.81, 0.81], [0.25, 0.25], [0.49, 0.49]]  # W of each action by the root of the product


def test_regret_and_calibration_against_a_known_solution():
  numbers = np.tile(10 * np.array(TRUE) - 5, (2, 1, 1)) + np.array([1.0, -2.0])
  truth = {"true_payoffs": TRUE}
  rows = [sample(f"p#{n}", "DQ", action, numbers) | truth for n, action in enumerate(ACTIONS)]
  unclear = row(chain(response="What? Why?"), id="p#3", **truth)  # the worst action's regret
  untyped = sample("p#4", None, "DA", numbers, **truth)
  without = [sample("q#0"), sample("q#1", judge=None, **truth)]
  got = summary([*rows, unclear, untyped, *without])
  assert got["game/regret"] == pytest.approx((0 + 0.56 + 0.32 + 0.56 + 0) / 5)
  known = summary(rows)
  assert known["game/true_calibration_error/llm"] == pytest.approx(0.1)
  assert known["game/true_calibration_error/user"] == pytest.approx(0.2)
  assert "game/regret" not in summary([sample("p#0")])
  # the request's own weight is that of its W
  tilted = [[0.04, 1.0], [1.0, 0.04], [0.5, 0.5]]
  selfish = sample("p#0", extra_info={"condition": {"alpha": 0.0}}, true_payoffs=tilted)
  assert summary([selfish])["game/regret"] == pytest.approx(0.96)


@pytest.mark.parametrize(
  "value", ["x", [[1, 1]] * 2, [[1]] * 3, [[1, -0.1]] * 3, [[True, 1]] * 3, [[1, math.inf]] * 3]
)
def test_malformed_true_payoffs_are_named(value):
  with pytest.raises(BadInput, match=r"^row 'p#0': true_payoffs=.* must hold a pair \[LLM, user\]"):
    summary([sample("p#0", true_payoffs=value)])
  assert summary([sample("p#0", true_payoffs=value)], "paper")  # which reads no such column


def test_realised_payoffs_go_by_the_label_and_what_came_of_the_first_action():
  rows = [
    sample("p#0", "DQ", "CQ", source="ambig_qa", truth=SEVERAL),  # the label says VQ
    sample("p#1", "VQ", "CQ", source="ambig_qa", truth=SEVERAL, judge=0),
    sample("q#0", "DQ", "DA"),
    sample("q#1", None, "DA"),
  ]
  config = RewardConfig()
  scored = score.score_rows(rows, config, judges.make(config.judge))
  got = {k: v for k, v in score.summarise(rows, scored).items() if k.startswith("game/realised")}
  utility = np.array([[each["llm_reward"], each["user_reward"]] for each in scored])
  for r, role in enumerate(("llm", "user")):
    assert got[f"game/realised/VQ/CQ/{role}"] == pytest.approx(10 * utility[:2, r].mean() - 5)
    assert got[f"game/realised/DQ/DA/{role}"] == pytest.approx(10 * utility[2, r] - 5)
    assert got[f"game/realised/VQ/CQ/{role}/ambig_qa"] == got[f"game/realised/VQ/CQ/{role}"]
  assert len(got) == 8  # what nobody played has no number


def test_conversations_are_counted_by_how_they_ended():
  def talk(ended, *completions):
    turns = [{"role": "assistant", "completion": completions[0]}]
    for each in completions[1:]:
      turns += [{"role": "user", "content": "x"}, {"role": "assistant", "completion": each}]
    return row(completions[0], turns=turns, ended=ended)

  got = summary([
    row(), talk("answered", chain()), talk("turns", *[chain()] * 3), talk("invalid", chain()),
    talk("answered", chain(), chain()) | {"data_source": "minerva"},
  ])  # fmt: skip
  assert got["conversation/turns/mean"] == 7 / 4
  assert got["conversation/answered_frac"] == 0.5 and got["conversation/left_frac"] == 0
  assert got["conversation/invalid_frac"] == got["conversation/turns_frac"] == 0.25
  assert got["conversation/turns/mean/minerva"] == 2
  assert got["judge/invalid_frac"] == 1 / 5
  assert not any(key.startswith("conversation") for key in summary([row()]))
