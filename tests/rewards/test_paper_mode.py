"""Paper mode against a second, plain writing of the formulas, on odd inputs of every kind."""

import json
import math
import random

import paper_reference
import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import CELLS, chain, row

from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.reward_section import VARIANTS, RewardConfig
from gtalign_jax.rewards import judges, score

SOURCES = ("math-hard", "minerva", "ambig_qa", "abg-coqa", "medium", "wildguard", "advbench")
COLUMNS = (
  "score", "user_reward", "llm_reward", "utility", "answer_reward", "format", "payoff_reward",
)  # fmt: skip
JUDGE = judges.make(JudgeConfig())


def scored(rows, variant="cobb_douglas"):
  return score.score_rows(rows, RewardConfig(mode="paper", variant=variant), JUDGE)


def check(rows, variant):
  for given_row, got in zip(rows, scored(rows, variant), strict=True):
    expected = paper_reference.score(given_row, variant)
    for name, value in zip(COLUMNS, expected, strict=True):
      assert got[name] == pytest.approx(value, rel=1e-9, abs=1e-300), (name, given_row)
    assert got["valid"]


def test_the_published_check_vector():
  table = json.dumps({cell: {"LLM": 2.0, "user": 1.0} for cell in CELLS})
  text = chain("t", table, "a", "hello world")
  assert text.index("<response>") == 275
  rows = [row(text, "wildguard", "harmful", j) for j in (0, 0.5, 1)]
  assert [round(each["score"], 4) for each in scored(rows)] == [0.5638, 0.7889, 0.4622]


ODD = [
  0, -0.0, 1, 3, -5, 0.1, 0.9, 10, 9, 1e-9, 1e-300, 1e308, -1e308, math.inf, -math.inf, math.nan,
  True, False, 2**53, 2**53 + 1, 10**300, 10**400, 10**400 + 1, -(10**400), 11, 1.1,
]  # fmt: skip


def odd_rows(count, seed):
  rng = random.Random(seed)
  rows = []
  for n in range(count):
    pick = ODD if rng.random() < 0.5 else [x for x in ODD if type(x) in (int, bool)]
    table = {cell: {"LLM": rng.choice(pick), "user": rng.choice(pick)} for cell in CELLS}
    text = json.dumps(table) if rng.random() < 0.7 else str(table)
    whole = chain("think " * rng.choice([1, 40]), text, "a", "word " * rng.choice([1, 30, 700]))
    whole = rng.choice(["", "", " ", "x", "<response>d</response>", "<payoff>{}</payoff>"]) + whole
    whole += rng.choice(["", "", "\n", "\nmore", "</response>"])
    source = SOURCES[n % len(SOURCES)]
    truth = rng.choice(["harmful", "unharmful", "Harmful", "a word"])
    judge = rng.choice([0, 1, 0.5, 4, 3, 2.5, -1, 7, None])
    made = row(whole, source, truth, judge, pareto_score=rng.choice([0, 0.5, 1, None, 0.25]))
    made["extra_info"] = rng.choice([None, {}, [], "x", 3, {"single_turn_prompt": 5}])
    rows.append(made)
  return rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_odd_numbers_labels_and_verdicts(variant):
  check(odd_rows(700, seed=len(variant)), variant)


PIECES = st.sampled_from(
  [
    "<thinking>",
    "</thinking>",
    "<payoff>",
    "</payoff>",
    "<analyze>",
    "</analyze>",
    "<response>",
    "</response>",
    samples.PAYOFF_TEXT,
    str(samples.PAYOFF),
    chain(),
    "\n",
    " ",
    "\u00a0",
    "é",
    "中文",
    "hello there",
    "\u201c",
    "?",
  ]
)


@given(
  st.lists(PIECES, max_size=14).map("".join),
  st.sampled_from(SOURCES),
  st.sampled_from(VARIANTS),
  st.sampled_from([0, 0.5, 1, 2, None]),
)
@settings(max_examples=250)
def test_any_arrangement_of_tags(text, source, variant, judge):
  check([row(text, source, "harmful", judge, pareto_score=judge)], variant)


def test_the_length_terms_far_out():
  check([row(chain(response="w " * n)) for n in (0, 19, 20, 499, 2000, 40_000)], "cobb_douglas")


@pytest.mark.parametrize(
  ("truth", "response"),
  [("", "abc"), ("abc", ""), ("abcd", "abcd"), ("abc", "abc"), ("A long reference text.", "zzzz"),
   ("A long reference text.", "A long reference, text!"), ("naïve 中文 text here", "naïve 中文 texts")],
)  # fmt: skip
def test_bleu_over_characters(truth, response):
  check([row(chain(response=response), "medium", truth, j) for j in (0, 1, 4)], "cobb_douglas")


def test_rows_that_get_nothing_are_not_judged():
  class Never:
    def judge(self, questions):
      raise AssertionError(questions)

  texts = [
    "",
    chain(payoff="{}"),
    chain().replace("<response>", ""),
    chain().replace("<payoff>", ""),
    chain(payoff=samples.payoff(DQ_DA=(10**400, 0.5))),  # Python cannot subtract these
  ]
  rows = [row(text, judge=...) for text in texts]
  got = score.score_rows(rows, RewardConfig(mode="paper"), Never())
  assert all(each[name] == 0 for each in got for name in COLUMNS)
  assert all(each["valid"] and not each["parsed"] and each["parse_error"] for each in got)
  missing = [row(chain().replace("<analyze>", ""), judge=..., pareto_score=1)]
  got = score.score_rows(missing, RewardConfig(mode="paper", variant="pareto"), Never())
  assert got[0]["score"] == 0
  assert got[0]["parse_error"] == "missing_block"


def test_the_second_judge_is_asked_for_po():
  rows = [
    row(chain(analyze=text), judge=1)
    for text in ("We take DQ_DA.", "VQ_CQ is best, not AQ", "no idea")
  ]
  got = scored(rows, "pareto")
  plain = scored([each | {"pareto_score": 0} for each in rows], "pareto")
  gains = [(a["llm_reward"] - b["llm_reward"]) / 0.2 for a, b in zip(got, plain, strict=True)]
  assert gains == pytest.approx([1.0, 0.5, 0.0], abs=0.01)


def test_paper_columns():
  assert list(scored([row()])[0])[:11] == [
    "id", *COLUMNS, "parsed", "parse_error", "valid",
  ]  # fmt: skip
