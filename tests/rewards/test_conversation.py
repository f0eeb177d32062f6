"""Rows of conversations: patience, sums over turns, intents, invalid ones, malformed ones."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import chain, row

from gtalign_jax.cli.main import main
from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge, sources
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.game import reward
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, score
from gtalign_jax.rewards.calibrated import calibrated
from gtalign_jax.rewards.judges.base import Judge
from gtalign_jax.rewards.reward import check_verdicts
from gtalign_jax.rewards.tasks import builtin
from gtalign_jax.rollout import collect
from gtalign_jax.sections import DataConfig

RULE = judges.make(JudgeConfig())
ASKS = chain("A vague one: VQ.", analyze="So VQ_CQ.", response="Which year do you mean?")
ANSWERS = chain("Now DQ.", analyze="So DQ_DA.", response="It was the year 1984, in June.")
BROKEN = ANSWERS.partition("</analyze>")[0]


def talk(*completions, ended="answered", said="1984, please.", **more):
  """A row whose assistant wrote `completions`."""
  turns = [{"role": "assistant", "completion": completions[0]}]
  for each in completions[1:]:
    turns += [{"role": "user", "content": said}, {"role": "assistant", "completion": each}]
  return row(completions[0], turns=turns, n_turns=len(completions), ended=ended, **more)


def scored(*rows, judge=RULE, **config):
  return score.score_rows(rows, RewardConfig(**config), judge)


def band(n, low, high):
  return 1 / (1 + math.exp(-0.005 * (n - low))) / (1 + math.exp(-0.005 * (high - n)))


def plain(row):
  """The row without what makes it a conversation."""
  return {k: v for k, v in row.items() if k not in ("turns", "n_turns", "ended", "intent")}


@pytest.mark.parametrize("patience", [{}, {"user_patience": 0.5, "llm_patience": 1.0}])
def test_two_turns_by_hand(patience):
  [got] = scored(talk(ASKS, ANSWERS), **patience)
  chars = len("A vague one: VQ." + "So VQ_CQ." + "Now DQ." + "So DQ_DA.")
  user = 0.5 + 0.2 * band(7, 20, 500) + 0.3 * math.exp(-chars / 500)
  words = len(ASKS.split()) + len(ANSWERS.split())
  # VQ_CQ is the best cell of its row, and so is DQ_DA; each is carried out
  llm = 0.2 + 0.2 + 0.4 + 0.2 * band(words, 500, 1000)
  user = 1e-4 + patience.get("user_patience", 0.9) * user
  llm = 1e-4 + patience.get("llm_patience", 0.95) * llm
  assert got["user_reward"] == pytest.approx(user, rel=1e-12)
  assert got["llm_reward"] == pytest.approx(llm, rel=1e-12)
  assert got["score"] == got["utility"] == pytest.approx(math.sqrt(user * llm), rel=1e-12)
  assert (got["n_turns"], got["ended"], got["format"], got["decision"]) == (2, "answered", 1, 1)
  # what is said of the game is said of the first turn
  assert (got["named_cell"], got["user_type"], got["action"]) == ("VQ_CQ", "VQ", "CQ")


def test_format_and_decision_are_means_over_turns():
  names_nothing = chain("Now DQ.", analyze="So what.", response="It was 1984.")
  [got] = scored(talk(ASKS, names_nothing, ended="turns"))
  assert (got["format"], got["choice"], got["carried_out"], got["decision"]) == (1, 0.5, 0.5, 0.5)
  wrong = chain("Now DQ.", payoff="{}", analyze="So DQ_DA.", response="It was 1984.")
  [got] = scored(talk(ASKS, wrong))
  assert (got["format"], got["decision"], got["parsed"]) == (0.5, 0.5, True)


def test_an_unreadable_second_turn_is_worth_nothing_and_is_judged_by_nobody():
  class Never(Judge):
    def judge(self, questions):
      raise AssertionError

  [got] = scored(talk(ASKS, BROKEN, ended="unreadable", judge=...), judge=Never())
  assert got["valid"] and got["answer_reward"] == 0 and got["format"] == 0.5
  # no reasoning to be brief in, no response to have a length; the first turn parses
  assert got["user_reward"] == pytest.approx(1e-4 + 0.9 * 0.2 * band(0, 20, 500), rel=1e-12)
  assert got["parsed"] and got["parse_error"] is None


def test_a_conversation_whose_user_failed_is_invalid_whatever_it_brings():
  [got] = scored(talk(ASKS, ended="invalid", judge=1))
  assert not got["valid"] and got["score"] is got["user_reward"] is got["format"] is None
  assert got["judge_score"] is None and (got["n_turns"], got["ended"]) == (1, "invalid")


SOURCES = {
  "math-hard": ("42", {}),
  "medium": ("A text about the year 1984.", {}),
  "wildguard": ("unharmful", {}),
  "abg-coqa": ("ambiguous", {}),
  "ambig_qa": ("multipleQAs###Meaning 0: a; Answer 0: 1984\nMeaning 1: b; Answer 1: 1985\n", {}),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("completion", [ASKS, ANSWERS, BROKEN], ids=["asks", "answers", "broken"])
def test_a_conversation_of_one_turn_is_the_row_it_was(source, completion):
  truth, _ = SOURCES[source]
  one = talk(completion, source=source, truth=truth, judge=..., response_tokens=9)
  for config in ({}, {"pricing": "pay_per_token"}, {"welfare": "nash", "alpha": 0.3}):
    # in one batch with a longer one: neither moves the other
    got, before, _ = scored(one, plain(one), talk(ASKS, ANSWERS, response_tokens=20), **config)
    assert {k: v for k, v in got.items() if k not in ("n_turns", "ended")} == before
    assert scored(plain(one), **config) == [before]


MEANT = {"kind": "meaning", "text": "I mean the book by Orwell.", "answer": "1984"}


@pytest.mark.parametrize(
  ("last", "credit"),
  [
    (ANSWERS, 1),
    (chain(response="It is the year 1985, which was a year of the ox."), 0),
    (ASKS, 0),  # a good question to a single row, but nothing that the user wanted
    (chain(response="The book by Orwell is 1984; the film is from 1985."), 1),
  ],
)
def test_ambig_qa_is_judged_by_what_was_meant(last, credit):
  truth = SOURCES["ambig_qa"][0]
  given = talk(ASKS, last, source="ambig_qa", truth=truth, judge=..., extra_info={"intent": MEANT})
  [got] = scored(given)
  assert got["answer_reward"] == credit
  # the column does where extra_info has none, and a plain row is judged as ever
  [again] = scored(given | {"extra_info": {}, "intent": MEANT})
  assert again == got
  [first] = scored(plain(given), plain(given) | {"extra_info": {}})[:1]
  assert first["answer_reward"] == scored(plain(given) | {"extra_info": {}})[0]["answer_reward"]


def test_judges_are_told_the_intent():
  asked = []

  class Notes(Judge):
    def judge(self, questions):
      asked.extend(questions)
      return [1.0] * len(questions)

  statement = {"kind": "statement", "text": "What is 6 times 7?", "answer": "42"}
  scored(
    talk(ASKS, ANSWERS, source="ambig_qa", truth="singleAnswer###1984", judge=..., intent=MEANT),
    talk(ASKS, ANSWERS, judge=..., intent=statement),
    judge=Notes(),
  )
  meaning, problem = asked
  assert "I mean the book by Orwell.###1984" in meaning.prompt()
  assert "only asks, does not" in meaning.prompt() and "multipleQAs" not in meaning.prompt()
  assert (problem.asked, problem.truth) == ("What is 6 times 7?", "42")
  assert problem.response == meaning.response == "It was the year 1984, in June."


def test_prices_are_of_all_responses_and_of_the_first_action(tmp_path):
  policy = tmp_path / "own.toml"
  policy.write_text(
    "[shift]\nCQ = { LLM = 0.5, user = -1.0 }\n[price]\nuser = 0.01\n"
    "[price_per_character]\nLLM = -0.002\n"
  )
  free, charged = (
    scored(talk(ASKS, ANSWERS, response_tokens=40), pricing=each)[0] for each in ("", str(policy))
  )
  characters = len("Which year do you mean?") + len("It was the year 1984, in June.")
  assert charged["user_reward"] - free["user_reward"] == pytest.approx((-1 - 0.01 * 40) / 10)
  gained = (0.5 + 0.002 * characters) / 10
  assert charged["llm_reward"] - free["llm_reward"] == pytest.approx(gained)  # after patience
  [floored] = scored(talk(ASKS, ANSWERS, response_tokens=4000), pricing=str(policy))
  assert floored["user_reward"] == 1e-4


def test_attention_is_paid_for_an_answer_with_a_question_whatever_follows(monkeypatch):
  task = builtin.TASKS["math-hard"]
  both = chain(analyze="DQ_AQ", response="It is 42, I think, by all means. Is it?")
  rows = [row(both), talk(both), talk(both, ANSWERS), talk(ASKS, both)]
  before = scored(*rows)
  tired = dataclasses.replace(task, attention=reward.ATTENTION)
  monkeypatch.setitem(builtin.TASKS, "math-hard", tired)
  for factor, was, now in zip([0.97, 0.97, 0.97, 1], before, scored(*rows), strict=True):
    assert now["user_reward"] - 1e-4 == pytest.approx(factor * (was["user_reward"] - 1e-4))
    assert now["llm_reward"] == was["llm_reward"]


def test_calibration_is_weighed_with_patience():
  config = RewardConfig(llm_calibration=0.2)
  rows = [
    talk(ASKS, ANSWERS) | {"id": "p#0"},
    talk(ASKS, ANSWERS, judge=0) | {"id": "p#1"},
  ]
  before = score.score_rows(rows, config, RULE)
  for was, now in zip(before, calibrated(before, config), strict=True):
    gain = 0.95 * 0.2 * (now["calibration"] - was["decision"])
    assert now["llm_reward"] == pytest.approx(was["llm_reward"] + gain, rel=1e-12)


@given(
  st.integers(1, 4), st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 900)
)
def test_more_turns_are_no_gain_by_themselves(turns, user, llm, answer, words):
  weights = RewardConfig(user_patience=user, llm_patience=llm)
  features = reward.Features(*([each] for each in (answer, answer, words, words, 50.0, 1.0, 0.5)))
  fewer, more = (
    reward.terms(
      features,
      weights,
      "corrected",
      request=reward.Request(None, None, reward.patience(weights, [n])),
    )
    for n in (turns, turns + 1)
  )
  for a, b in zip(fewer, more):
    assert b[0] <= a[0] and b[0] >= 1e-4 * (1 - 1e-12)


BAD = [
  ({"turns": "x"}, "turns='x' must be a list of turns, or null"),
  ({"turns": []}, "turns=[] must be a list"),
  ({"turns": [7]}, "turns[0]=7 must be an object"),
  ({"ended": "bored"}, "ended='bored' must be one of answered, left, unreadable, turns, invalid"),
  ({"ended": None}, "ended=None must be one of"),
  ({"n_turns": 3}, "n_turns=3 must be 2"),
  ({"n_turns": True}, "n_turns=True must be 2"),
  ({"completion": ANSWERS}, "turns[0].completion must be the completion of the row"),
  ({"intent": "1984"}, "intent='1984' must be an object"),
  ({"intent": {"kind": "meaning", "text": "x"}}, "intent.answer=None must be text"),
  ({"extra_info": {"intent": {"kind": "statement"}}}, "intent.text=None must be text"),
]
BAD_TURN = [
  (0, {"role": "user"}, "turns[0].role='user' must be assistant"),
  (1, {"role": "system"}, "turns[1].role='system' must be user"),
  (1, {"content": None}, "turns[1].content=None must be text"),
  (2, {"completion": 5}, "turns[2].completion=5 must be text"),
  (2, {"response": 5}, "turns[2].response=5 must be text, or null"),
  (2, {"action": "XX"}, "turns[2].action='XX' must be DA or CQ or AQ, or null"),
  (2, {"completion_tokens": -1}, "turns[2].completion_tokens=-1 must be an integer of at least 0"),
  (2, {"control_tokens": True}, "turns[2].control_tokens=True must be an integer"),
  (0, {"finish_reason": 1}, "turns[0].finish_reason=1 must be text"),
]


@pytest.mark.parametrize(
  ("change", "said"),
  BAD + [({"turns": (at, change)}, said) for at, change, said in BAD_TURN],
  ids=lambda each: each[:30] if isinstance(each, str) else "",
)
def test_a_malformed_conversation_is_named(change, said):
  made = talk(ASKS, ANSWERS)
  if isinstance(change.get("turns"), tuple):
    at, field = change["turns"]
    made["turns"][at] |= field
  else:
    made |= change
  with pytest.raises(BadInput) as caught:
    score.score_rows([made], RewardConfig(), RULE, ["rows.jsonl:3"])
  assert str(caught.value).startswith(f"rows.jsonl:3: {said}") and "\n" not in str(caught.value)


def test_score_takes_conversations_from_a_file_and_paper_mode_refuses_them(tmp_path, capsys):
  source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  rows = [
    plain(talk(ASKS)) | {"turns": None, "id": "p#0"},  # as a table with both kinds has it
    talk(ASKS, ANSWERS, intent=None) | {"id": "p#1"},
    talk(ASKS, ended="invalid", judge=...) | {"id": "p#2"},
  ]
  source.write_text("".join(json.dumps(each) + "\n" for each in rows))
  loose = ["rewards.judge.max_invalid_frac=1"]
  assert main(["score", str(source), str(out), *loose]) == 0
  written = [json.loads(line) for line in out.read_text().splitlines()]
  for got, want in zip(written, scored(*rows), strict=True):
    assert {k: v for k, v in got.items() if k in want} == {k: want[k] for k in got if k in want}
  assert [each.get("ended") for each in written] == [None, "answered", "invalid"]
  patient = ["rewards.user_patience=1", *loose]
  assert main(["score", str(source), str(tmp_path / "more.jsonl"), *patient]) == 0
  more = [json.loads(line)["user_reward"] for line in (tmp_path / "more.jsonl").open()]
  before = [each["user_reward"] for each in written]
  assert more[0] == before[0] and more[1] > before[1] and more[2] is before[2] is None
  capsys.readouterr()
  assert main(["compare", str(out), str(out), "--json"]) == 0
  runs = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
  assert [(each["n"], each["null_rows"]) for each in runs.values()] == [(2, 1)] * 2
  assert main(["score", str(source), str(tmp_path / "no.jsonl"), "--mode", "paper"]) == 2
  assert f"{source}:2: turns: rewards.mode='paper' scores no conv" in capsys.readouterr().err
  rows[1]["turns"][1]["content"] = 4
  source.write_text("".join(json.dumps(each) + "\n" for each in rows))
  assert main(["score", str(source), str(tmp_path / "no.jsonl"), *loose]) == 2
  assert f"{source}:2: turns[1].content=4 must be text" in capsys.readouterr().err


def test_too_many_failures_of_the_user_end_a_run_as_those_of_the_judge_do():
  rows = scored(talk(ASKS, ended="invalid"), talk(ASKS, ANSWERS))[:1]
  with pytest.raises(RunFailure, match="or the user, who gave 1 of them no answer, and run"):
    check_verdicts(rows, RewardConfig(), "step 3")


def test_conversations_that_were_played_score_the_same_from_their_file(tmp_path):
  config = vary(Config(), {"conversation.turns": 2, "rewards.pricing": "pay_per_token"})
  records = concierge.records("test", 8)
  for source in ("ambig_qa", "medium", "wildguard"):
    records += sources.load(DataConfig(sources=(source,)), "test")[:4]

  def assistant(chats):
    """Asks every other user what is meant, and then says back what it was told."""
    return [
      chain(response=f"So this is {chat[-1]['content'].rstrip('?')}.")
      if at % 2 or any(each["role"] == "assistant" for each in chat)
      else chain(analyze="DQ_CQ", response=f"Which one of these do you mean: {at}?")
      for at, chat in enumerate(chats)
    ]

  played = collect.play(assistant, records, config, 0)
  assert {each["n_turns"] for each in played} == {1, 2}
  assert {"answered", "left", "turns"} >= {each["ended"] for each in played} > {"answered"}
  brought = [{k: v for k, v in each.items() if k != "judge_score"} for each in played]
  (tmp_path / "in.jsonl").write_text("".join(json.dumps(each) + "\n" for each in brought))
  given = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]
  assert main(["score", *given, "rewards.pricing=pay_per_token"]) == 0
  for before, line in zip(played, (tmp_path / "out.jsonl").open(), strict=True):
    again = json.loads(line)
    assert {key: before[key] for key in again} == again
