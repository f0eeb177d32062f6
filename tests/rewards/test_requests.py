"""Prices charged to realised utilities, and what a record's own condition does to its reward."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import chain, row

from gtalign_jax.cli import main
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.game import conditions, pricing
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, score
from gtalign_jax.rewards.calibrated import calibrated

RULE = judges.make(JudgeConfig())
ASKS = "Which year do you mean?"
BOTH = "It ended in 1945, in Europe that is. Or do you mean the other war?"
POLICY = """
[shift.CQ]
user = -0.5
[shift.AQ]
user = -1
LLM = 2
[price]
user = 0.01
[price_per_character]
LLM = -0.001
"""


def scored(*rows, **config):
  return score.score_rows(list(rows), RewardConfig(**config), RULE)


def said(response, analyze="DQ_DA", **more):
  return row(chain(analyze=analyze, response=response), **more)


def charges(*rows, **config):
  """(LLM, user) that pricing has added to each row's utilities."""
  before, after = scored(*rows), scored(*rows, **config)
  keys = ("llm_reward", "user_reward")
  return [[b[key] - a[key] for key in keys] for a, b in zip(before, after)]


@pytest.mark.parametrize(
  "response, analyze, shift",
  [
    ("Paris.", "DQ_DA", (0, 0)),
    (ASKS, "DQ_CQ", (0, -0.5)),
    (BOTH, "DQ_AQ", (2, -1)),
    (BOTH, "DQ_CQ", (0, -0.5)),  # it could be either: what the chain names
    (f"{ASKS} {ASKS}", "DQ_CQ", (0, -1)),  # none of the three: each role's smallest shift
  ],
)
def test_a_response_is_charged_by_what_it_does_and_its_length(tmp_path, response, analyze, shift):
  path = tmp_path / "metered.toml"
  path.write_text(POLICY)
  [got] = charges(said(response, analyze, response_tokens=12), pricing=str(path))
  expected = [(shift[0] + 0.001 * len(response)) / 10, (shift[1] - 0.01 * 12) / 10]
  assert got == pytest.approx(expected, abs=1e-12)


def test_a_charge_leaves_the_floor_and_invalid_rows_alone():
  rows = [said("Paris.", response_tokens=10**6), said("Paris.", response_tokens=9, judge=None)]
  poor, invalid = scored(*rows, pricing="pay_per_token")
  assert poor["user_reward"] == 1e-4 and poor["llm_reward"] > 1
  assert invalid["score"] is None and invalid["user_reward"] is None


def test_without_prices_every_number_stays():
  rows = [said("Paris."), said(ASKS, "VQ_CQ"), row("nothing to read"), row(judge=None)]
  assert scored(*rows) == scored(*rows, pricing="free")
  assert scored(*rows, mode="paper") == scored(
    *[each | {"extra_info": {"condition": {"alpha": 0.9}}} for each in rows], mode="paper"
  )


def test_a_price_per_token_needs_the_number_of_tokens():
  with pytest.raises(BadInput, match="row '0': response_tokens=None, but pricing 'pay_per_token'"):
    scored(said("Paris."), pricing="pay_per_token")
  assert scored(said("Paris."), pricing="pay_per_character")[0]["valid"]
  with pytest.raises(BadInput, match=r"rewards\.pricing='pay_per_tokn' .*did you mean pay_per_tok"):
    scored(said("Paris."), pricing="pay_per_tokn")


def condition(**table):
  return {"extra_info": {"condition": table}}


@settings(max_examples=15)
@given(st.lists(st.sampled_from([None, 0.0, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=6))
def test_each_row_is_scored_by_its_own_alpha(alphas):
  texts = ["Paris.", ASKS, BOTH] * 2
  rows = [said(text, id=str(n)) for n, text in enumerate(texts[: len(alphas)])]
  own = [
    each | (condition(alpha=alpha) if alpha is not None else {})
    for each, alpha in zip(rows, alphas)
  ]
  for config in ({}, {"welfare": "ces", "rho": -2.0}):
    for got, each, alpha in zip(scored(*own, **config), rows, alphas):
      alone = scored(each, **config, **({} if alpha is None else {"alpha": alpha}))
      assert [got] == [each | ({} if alpha is None else {"alpha": alpha}) for each in alone]


def test_calibration_weighs_by_the_rows_own_alpha():
  rows = [said(text, id=f"{n}#0") for n, text in enumerate(("Paris.", "London.", BOTH))]
  config = RewardConfig(llm_calibration=0.2)
  own = calibrated(
    scored(*[each | condition(alpha=0.9) for each in rows], llm_calibration=0.2), config
  )
  alone = calibrated(scored(*rows, alpha=0.9), RewardConfig(llm_calibration=0.2, alpha=0.9))
  assert [each["score"] for each in own] == [each["score"] for each in alone]
  assert [each["score"] for each in own] != [
    each["score"] for each in calibrated(scored(*rows), config)
  ]


def test_each_row_is_charged_by_its_own_policy():
  plain = said(BOTH, "DQ_AQ", response_tokens=20)
  names = ("free", "subscription", "pay_per_token", "pay_per_character")
  tables = [name if n % 2 else pricing.table(pricing.PRESETS[name]) for n, name in enumerate(names)]
  own = [plain | condition(pricing=table) for table in tables]
  alone = [scored(plain, pricing=name)[0] for name in names]
  assert scored(*own) == alone == scored(*own, pricing="subscription")  # the row's goes first
  assert len({each["score"] for each in alone}) == 4


@pytest.mark.parametrize(
  "table, message",
  [
    ({"alpha": 1.5}, r"extra_info\.condition\.alpha=1\.5: must be a number in \[0, 1\]"),
    ({"alpha": True}, r"alpha=True: must be"),
    ({"alfa": 0.5}, r"unknown key 'alfa'; it holds alpha or pricing"),
    ({"pricing": "fre"}, r"pricing='fre' is not one of free, "),
    ({"pricing": {"price": {"user": "x"}}}, r"condition\.pricing: price\.user='x' must be a numb"),
    ({"pricing": 3}, r"pricing=3 must be a name or an object"),
  ],
)
def test_a_condition_that_is_none_is_told(table, message):
  with pytest.raises(BadInput, match=message) as caught:
    conditions.of({"condition": table}, "here")
  assert str(caught.value).startswith("here: extra_info.condition")


def test_conditions_as_files_hold_them():
  """Parquet fills what a row lacks with null; a field of that name may be something else."""
  table = {
    "alpha": None,
    "pricing": {"name": "x", "shift": None, "price": {"LLM": None, "user": 1}},
  }
  found = conditions.of({"condition": table}, "here")
  assert found.alpha is None and found.pricing == pricing.Pricing(name="x", price=(0.0, 1.0))
  assert conditions.of({"condition": found.table()}, "") == found
  for other in (None, "new", 3, ["used"], {}):
    assert conditions.of({"condition": other}, "here") == conditions.NONE
  assert conditions.of(None, "") == conditions.of("x", "") == conditions.NONE


def test_the_command_reads_both(tmp_path, capsys):
  given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  rows = [said(BOTH, "DQ_AQ", response_tokens=20), said("Paris.") | condition(alpha=0.8)]
  rows = [each | {"id": str(n)} for n, each in enumerate(rows)]
  given.write_text("".join(json.dumps(each) + "\n" for each in rows))
  assert main.main(["score", str(given), str(out), "rewards.pricing=pay_per_character"]) == 0
  got = [json.loads(line)["score"] for line in out.read_text().splitlines()]
  alone = [scored(each, pricing="pay_per_character")[0]["score"] for each in rows]
  np.testing.assert_array_equal(got, alone)
  assert main.main(["score", str(given), str(out), "rewards.pricing=x.toml"]) == 2
  assert "x.toml: cannot be read" in capsys.readouterr().err
