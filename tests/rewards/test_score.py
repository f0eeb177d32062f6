"""Corrected mode, batch scoring, metrics of a batch, own tasks, the recorded judge."""

import json
import math

import numpy as np
import pytest
import samples
from samples import chain, row

from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import Table
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, score, tasks
from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.tasks.base import Task, same_credit

RULE = judges.make(JudgeConfig())
NUMERIC = (
  "score", "user_reward", "llm_reward", "utility", "answer_reward", "format", "payoff_reward",
  "decision", "choice", "carried_out",
)  # fmt: skip


def scored(*rows, judge=RULE, **config):
  return score.score_rows(rows, RewardConfig(**config), judge)


def sigmoid(x):
  return 1 / (1 + math.exp(-x))


def test_a_row_by_hand():
  [got] = scored(row())
  band = lambda n, a, b: sigmoid(0.005 * (n - a)) * sigmoid(0.005 * (b - n))  # noqa: E731
  text = chain()
  chars = len("The question is definite: DQ.") + len("The sum is largest at DQ_DA.")
  user = 1e-4 + 0.5 + 0.2 * band(6, 20, 500) + 0.3 * math.exp(-chars / 500)
  llm = 1e-4 + 0.2 + 0.2 + 0.4 + 0.2 * band(len(text.split()), 500, 1000)
  assert got["user_reward"] == pytest.approx(user, rel=1e-12)
  assert got["llm_reward"] == pytest.approx(llm, rel=1e-12)
  assert got["score"] == pytest.approx(math.sqrt(user * llm), rel=1e-12)
  assert (got["decision"], got["choice"], got["carried_out"]) == (1, 1, 1)
  assert got["payoff_reward"] == got["decision"]
  assert (got["parsed"], got["parse_error"], got["valid"], got["format"]) == (True, None, True, 1)
  assert (got["named_cell"], got["user_type"], got["pareto"]) == ("DQ_DA", "DQ", True)


def test_special_tokens_inside_a_chain_are_stray_text():
  """The text alone cannot tell them: <|im_start|> inside a block would parse, and be paid in full."""
  text = chain().replace("<response>", "<response><|im_start|>")
  clean, marked, broken = scored(
    row(completion=text),
    row(completion=text, control_tokens=1),
    row(completion=text[:40], control_tokens=1),
  )
  assert clean["parsed"] and clean["format"] == 1
  assert not marked["parsed"] and marked["parse_error"] == "stray_text" and marked["format"] == 0
  assert marked["decision"] == 0 and marked["score"] < clean["score"]
  assert broken["parse_error"] == "truncated"


@pytest.mark.parametrize(
  ("analyze", "thinking", "response", "choice", "carried_out"),
  [
    ("DQ_DA", "It is DQ.", "Paris.", 1, 1),
    ("DQ_AQ", "It is DQ.", "It is Paris, of course. More?", 0.5, 1),
    ("DQ_CQ", "It is DQ.", "Which year?", 0, 1),
    ("VQ_CQ", "It is VQ.", "Which year?", 1, 1),  # its row alone is in play
    ("VQ_CQ", "unclear", "Which year?", 0, 1),  # all six are
    ("nothing named", "It is DQ.", "Paris.", 0, 0),
    ("DQ_DA, no, DQ_CQ", "It is DQ.", "Paris.", 0, 0),
  ],
)
def test_decision(analyze, thinking, response, choice, carried_out):
  [got] = scored(row(chain(thinking, analyze=analyze, response=response)))
  assert (got["choice"], got["carried_out"]) == (choice, carried_out)
  assert got["decision"] == (choice + carried_out) / 2


def test_unjudged_is_not_zero():
  rows = [row(judge=None), row(judge=0.5), row(judge=7), row(judge=0)]
  got = scored(*rows)
  assert [each["valid"] for each in got] == [False, False, False, True]
  for each in got[:3]:
    assert all(each[name] is None for name in NUMERIC)
    assert each["parsed"]
  assert got[3]["score"] > 0
  metrics = score.summarise(rows, got)
  assert metrics["judge/invalid_frac"] == 0.75
  assert metrics["rewards/answer/mean"] == 0.0
  assert metrics["chain/parse_rate"] == 1.0


@pytest.mark.parametrize("source", ["wildguard", "advbench"])
def test_harmful_outcomes_are_ordered(source):
  credit = {j: scored(row(source=source, truth="harmful", judge=j))[0] for j in (0, 1, 0.5)}
  assert credit[0]["user_reward"] < credit[1]["user_reward"] < credit[0.5]["user_reward"]
  assert credit[0]["score"] < credit[1]["score"] < credit[0.5]["score"]
  paper = {
    j: scored(row(source="wildguard", truth="harmful", judge=j), mode="paper")[0]["score"]
    for j in (0, 1)
  }
  assert paper[0] > paper[1]  # what corrected mode puts right


def test_unharmful_outcomes():
  low, mid, high = (
    scored(row(source="wildguard", truth="unharmful", judge=j))[0] for j in (0, 0.5, 1)
  )
  assert low["score"] < mid["score"] == high["score"]


def test_another_label_is_a_data_error():
  with pytest.raises(BadInput, match=r"here: ground_truth='maybe'"):
    score.score_rows([row(source="wildguard", truth="maybe")], RewardConfig(), RULE, ["here"])
  assert scored(row(source="wildguard", truth="maybe"), mode="paper")[0]["valid"]


def test_a_bad_payoff_costs_format_and_decision_not_the_answer():
  good, bad = scored(row(), row(chain(payoff="{}")))
  assert bad["answer_reward"] == good["answer_reward"] == 1
  assert (bad["format"], bad["decision"], bad["parse_error"]) == (0, 0, "payoff_keys")
  assert bad["user_reward"] == good["user_reward"]


def test_none_or_several_responses_get_no_credit_and_no_judge():
  class Never:
    def judge(self, questions):
      raise AssertionError

  texts = ["42", chain()[:-11], chain() + "<response>42</response>", chain(thinking="<response>")]
  for each in scored(*(row(text, judge=...) for text in texts), judge=Never()):
    assert each["valid"]
    assert each["answer_reward"] == 0
    assert each["format"] == 0


def test_a_decoy_tag_earns_no_brevity():
  long = "I think about it. " * 200
  decoy = chain(thinking="<response></response>" + long, analyze=long + "DQ_DA")
  assert scored(row(decoy), mode="paper")[0]["user_reward"] > 0.29
  plain, gamed = scored(row(chain(long, analyze=long)), row(decoy))
  assert gamed["user_reward"] < plain["user_reward"]


def test_medium_credits_a_good_question():
  truth = "Solar panels turn light into power. They last for decades on most roofs."
  question = chain(response="Who will read the article about solar panels?")
  draft = chain(response=truth)
  asked, copied, bad = scored(
    row(question, "medium", truth, 4),
    row(draft, "medium", truth, 1),
    row(question, "medium", truth, 0),
  )
  assert asked["answer_reward"] == 1
  assert copied["answer_reward"] == pytest.approx(1.0)
  assert bad["answer_reward"] < 0.2
  assert copied["llm_reward"] < asked["llm_reward"]
  with pytest.raises(BadInput, match="ground_truth"):
    scored(row(question, "medium", None, 4))


def test_cjk_words_count():
  chinese = chain(response="巴黎是法国的首都" * 10)
  [corrected] = scored(row(chinese))
  [paper] = scored(row(chinese), mode="paper")
  ascii_like = chain(response="w " * 80)
  assert corrected["user_reward"] == pytest.approx(scored(row(ascii_like))[0]["user_reward"])
  assert paper["user_reward"] != corrected["user_reward"]


@pytest.mark.parametrize("variant", ["cobb_douglas", "user", "llm", "linear"])
def test_variants(variant):
  [got] = scored(row(), variant=variant)
  user, llm = got["user_reward"], got["llm_reward"]
  expected = {
    "cobb_douglas": math.sqrt(user * llm),
    "user": user,
    "llm": llm,
    "linear": (user + llm) / 2,
  }
  assert got["score"] == pytest.approx(expected[variant])
  assert got["utility"] == pytest.approx(math.sqrt(user * llm))


def test_weights_come_from_the_config():
  [got] = scored(row(), user_answer=0.0, user_length=0.0, user_brief=0.0, floor=0.5)
  assert got["user_reward"] == 0.5


def test_a_batch_equals_its_rows():
  rows = [
    row(chain(payoff="{}")), row(), row("x"), row(judge=None), row(chain(thinking="VQ"), judge=0),
    row(source="wildguard", truth="harmful", judge=0.5), row(chain()[:-4]),
  ]  # fmt: skip
  rows = [each | {"id": str(n)} for n, each in enumerate(rows)]
  assert scored(*rows) == [scored(each)[0] for each in rows]
  assert scored() == []


def test_the_rule_judge_is_asked_where_no_verdict_is_given():
  right = chain(response="The answer is 42.")
  wrong = chain(response="The answer is 41.")
  got = scored(row(right, judge=...), row(wrong, judge=...), row(wrong))
  assert [each["answer_reward"] for each in got] == [1, 0, 1]
  assert [each["judge_score"] for each in got] == [1, 0, 1]


def test_metrics_of_a_batch():
  rows = [
    row(),
    row(chain(analyze="VQ_CQ", thinking="VQ", response="Which?"), "ambig_qa"),
    row("nothing"),
    row(chain()[:-8]),
  ]
  metrics = score.summarise(rows, scored(*rows))
  assert metrics["chain/parse_rate"] == 0.5
  assert metrics["chain/fail/missing_block"] == 0.25
  assert metrics["chain/fail/truncated"] == 0.25
  assert metrics["chain/fail/stray_text"] == 0.0
  assert metrics["game/action_frac/DA"] == 0.5
  assert metrics["game/action_frac/CQ"] == 0.5
  assert metrics["game/choice_consistent"] == 0.5
  assert metrics["game/pareto_frac"] == 1.0
  assert metrics["rewards/format/mean/ambig_qa"] == 1.0
  assert metrics["rewards/format/mean/math-hard"] == pytest.approx(1 / 3)
  assert all(isinstance(value, float) for value in metrics.values())
  json.dumps(scored(*rows), allow_nan=False)


def test_dilemma_and_gap_of_a_prisoners_dilemma():
  table = samples.payoff(
    DQ_DA=(3, 3), DQ_CQ=(4, 0), DQ_AQ=(-9, -9), VQ_DA=(0, 4), VQ_CQ=(1, 1), VQ_AQ=(-9, -9)
  )
  [got] = scored(row(chain(payoff=table)))
  assert got["dilemma"] is True
  assert got["equilibrium_gap"] == pytest.approx(2.0)


def own_task(example):
  """A task of a user: right if the response says so."""

  def rule(question):
    return float("yes" in question.response)

  def question():
    return Question(example.id, "own", "", "", example.response, BINARY, "{response}", rule)

  return Task(BINARY, same_credit, question)


def test_own_tasks():
  own = Table({"mine": f"{__name__}:own_task", "math-hard": f"{__name__}:own_task"})
  config = {"tasks": own}
  yes = chain(response="yes indeed")
  got = scored(
    row(yes, "mine", judge=...), row(yes, judge=...), row(source="mine", judge=...), **config
  )
  assert [each["answer_reward"] for each in got] == [1, 1, 0]


@pytest.mark.parametrize(
  ("path", "message"),
  [("no_such_module:f", "no_such_module"), ("json:nothing", "nothing"), ("json", "package.module"),
   ("json:__doc__", "not a function")],
)  # fmt: skip
def test_own_tasks_that_cannot_be_had(path, message):
  with pytest.raises(BadInput, match=message):
    scored(row(source="mine"), tasks=Table({"mine": path}))


def test_an_unknown_source_names_the_key():
  with pytest.raises(BadInput, match=r"rewards\.tasks"):
    scored(row(source="mine"))
  assert set(tasks.TASKS) == {
    "math-hard", "minerva", "ambig_qa", "abg-coqa", "medium", "wildguard", "advbench", "concierge",
  }  # fmt: skip


def test_recorded_verdicts_replay_a_run(tmp_path):
  rows = [row(chain(response=f"The answer is {n}."), judge=..., id="p#0") for n in (41, 42)] + [
    row(judge=..., id="q#0"),
    row(judge=..., id="unknown"),
  ]
  log = tmp_path / "log.jsonl"
  first = scored(*rows[:2])
  lines = [r | {"judge_score": s["judge_score"]} for r, s in zip(rows, first, strict=False)]
  lines += [{"id": "q#0", "judge_score": None}]
  log.write_text("".join(json.dumps(line) + "\n" for line in lines))
  recorded = judges.make(JudgeConfig(kind="recorded", log=str(log)))
  again = scored(*rows, judge=recorded)
  assert again[:2] == first
  assert [each["valid"] for each in again] == [True, True, False, False]


def test_a_bad_log_is_bad_input(tmp_path):
  log = tmp_path / "log.jsonl"
  log.write_text('{"id": "a", "judge_score": "high"}\n')
  with pytest.raises(BadInput, match=r"log.jsonl:1: judge_score"):
    judges.make(JudgeConfig(kind="recorded", log=str(log)))


def test_memory_holds_no_more_than_the_rows():
  rows = [row(id=str(n)) for n in range(3)]
  got = scored(*rows)
  assert [each["id"] for each in got] == ["0", "1", "2"]
  assert np.isfinite([each["score"] for each in got]).all()
