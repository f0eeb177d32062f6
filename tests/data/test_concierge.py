"""Concierge: its records, and the solution of its game."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from gtalign_jax.concierge_words import KINDS, VALUES
from gtalign_jax.data import concierge, concierge_chain, sources
from gtalign_jax.errors import BadInput
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.sections import DataConfig
from gtalign_jax.types import ACTIONS

TRAIN, TEST = concierge.records("train", 4000), concierge.records("test", 400)
EACH = TRAIN[: 2 * len(KINDS)]  # a complete and a lacking request of each kind
PLAIN = RewardConfig()


def asked(record):
  return record.messages[-1]["content"]


def test_no_two_requests_are_equal_within_or_across_splits_and_seeds_of_them():
  assert len({asked(record) for record in TRAIN + TEST}) == 4400
  other = concierge.records("test", 400, seed=1)
  assert not {asked(record) for record in other} & {asked(record) for record in TRAIN}
  assert len({record.id for record in TRAIN + TEST}) == 4400


def test_records_are_a_function_of_split_and_seed_and_fewer_are_the_first_ones():
  assert concierge.records("train", 60) == TRAIN[:60]
  assert concierge.records("train", 60, seed=3) != TRAIN[:60]


def test_kinds_complete_and_lacking_requests_are_equally_common():
  count = Counter((r.extra_info["kind"], r.extra_info["lacking"] is None) for r in TEST[:384])
  assert len(KINDS) >= 8 and len(count) == 2 * len(KINDS)
  assert set(count.values()) == {384 // len(count)}
  qs = [kind.q for kind in KINDS.values()]
  assert min(qs) <= 0.2 and max(qs) >= 0.98 and len(set(qs)) >= 8


def test_a_request_names_its_slots_and_the_system_message_says_what_is_meant_else():
  for record in TRAIN[:600]:
    kind, slots = KINDS[record.extra_info["kind"]], record.extra_info["slots"]
    assert all(value in asked(record) for value in slots.values())
    lacking = set(kind.slots) - set(slots)
    assert lacking == ({kind.open} if record.extra_info["lacking"] else set())
    assert record.ground_truth.startswith("lacking###" if lacking else "complete###")
    rule = record.messages[0]["content"]
    assert kind.default in rule and kind.sure in rule
    assert not re.search(r"[\[\]{}]|\s\s|\s[.,]", asked(record))


@pytest.mark.parametrize("split, n", [("train", 4001), ("test", 401), ("test", -1), ("dev", 1)])
def test_what_it_does_not_have_is_said(split, n):
  with pytest.raises(BadInput, match=rf"{n} records of '{split}'.*4000 of 'train'"):
    concierge.records(split, n)


def test_the_source_is_there_for_whoever_names_it(tmp_path):
  assert sources.load(DataConfig(sources=("concierge",)), "test") == TEST
  sample = [r for r in sources.load(DataConfig(), "test") if r.data_source == "concierge"]
  assert sample == TEST[:24]
  both = sources.load(DataConfig(sources=("ambig_qa", "concierge")), "test")
  assert both[-400:] == TEST and both[0].data_source == "ambig_qa"
  with pytest.raises(BadInput, match="'concierge' has no split 'dev'"):
    sources.load(DataConfig(sources=("concierge",)), "dev")
  with pytest.raises(BadInput, match=r"concierge.*did you mean"):
    sources.load(DataConfig(sources=("concerge",)), "test")


def test_intents_mean_the_default_as_often_as_the_kind_says():
  rng = random.Random(0)
  for record in EACH:
    drawn = [concierge.intent(record, rng) for _ in range(2000)]
    kind = KINDS[record.extra_info["kind"]]
    if record.extra_info["lacking"] is None:
      assert all(each == drawn[0] for each in drawn) and drawn[0]["text"] == asked(record)
      continue
    share = np.mean([each["meant"] for each in drawn])
    assert abs(share - kind.q) < 4 * np.sqrt(kind.q * (1 - kind.q) / 2000)
    assert {each["slots"][kind.open] for each in drawn} == set(VALUES[kind.open])
    for each in drawn[:50]:
      assert each["meant"] == (each["slots"][kind.open] == kind.default)
      assert each["answer"] == kind.line.format(**each["slots"])
      for reply in (each["text"], f"No, I meant this: {each['text']}"):
        assert concierge_chain.heard(kind, reply) == each["slots"][kind.open]


# ---------------------------------------------------------------- the solution


def test_each_action_is_best_for_some_kind_and_definite_requests_are_answered():
  best = {r.extra_info["kind"]: concierge.best_action(r, PLAIN) for r in EACH[len(KINDS) :]}
  assert {kind: action for kind, action in best.items() if action != "AQ"} == {
    **dict.fromkeys(("cake", "flowers", "hotel", "table", "message"), "CQ"),
    **dict.fromkeys(("reminder", "taxi", "list"), "DA"),
  }
  assert list(best.values()).count("AQ") == 4
  assert {concierge.best_action(r, PLAIN) for r in EACH[: len(KINDS)]} == {"DA"}


def test_by_default_the_largest_sum_is_the_largest_welfare():
  for record in TRAIN[:240]:
    assert concierge.choice(record, PLAIN) == concierge.best_action(record, PLAIN)


def test_without_a_second_turn_a_question_earns_no_answer():
  for record in EACH:
    once = concierge.true_payoffs(record, PLAIN, turns=1)
    twice = concierge.true_payoffs(record, PLAIN)
    assert once[1, 0] < 0.5 and once[1, 1] < 0.4 and (once[1] < twice[1]).all()
    np.testing.assert_array_equal(once[0], twice[0])
    assert concierge.best_action(record, PLAIN, turns=1) != "CQ" or record.extra_info["q"] < 0.3


def test_prices_and_patience_move_the_borders():
  table = next(r for r in EACH if r.ground_truth == "lacking###number of people")
  assert concierge.best_action(table, PLAIN) == "CQ"
  hurried = RewardConfig(user_patience=0.4, llm_patience=0.4)
  assert concierge.best_action(table, hurried) in ("DA", "AQ")
  policy = {"name": "no questions", "shift": {"CQ": {"user": -3.0}, "AQ": {"user": -3.0}}}
  priced = table._replace(extra_info=table.extra_info | {"condition": {"pricing": policy}})
  assert concierge.best_action(priced, PLAIN) == "DA"
  shifted = concierge.true_payoffs(priced, PLAIN) - concierge.true_payoffs(table, PLAIN)
  np.testing.assert_allclose(shifted, [[0, 0], [0, -0.3], [0, -0.3]], atol=1e-9)
  weighed = table._replace(extra_info=table.extra_info | {"condition": {"alpha": 1.0}})
  np.testing.assert_allclose(
    concierge.true_score(weighed, PLAIN), concierge.true_payoffs(table, PLAIN)[:, 1]
  )


def test_a_chain_is_as_long_whatever_its_numbers_are():
  """Else the payoffs would depend on the lengths, and the lengths on the payoffs."""
  rng = np.random.default_rng(0)
  for record in EACH:
    case = concierge_chain.case(record.extra_info)
    for action in range(len(ACTIONS)):
      written = [
        concierge_chain.write(case, action, rng.integers(-49, 50, (2, 3, 2))) for _ in range(5)
      ]
      assert len({len(each.analyze) for each in written}) == 1
      assert len({len(each.text().split()) for each in written}) == 1
