"""Chains from labels: fit to learn from for any record, varied, and right by the rule judge."""

import hashlib
import os
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge, sources
from gtalign_jax.data.records import Record
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.game import conditions, measures, payoff, pricing
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, features, judges, score
from gtalign_jax.sections import DataConfig
from gtalign_jax.synthesize import check, counterfactual, labels, replies
from gtalign_jax.types import ACTIONS, CELLS, USER_TYPES

FILES = DataConfig(sources=("ambig_qa", "math-hard", "medium", "wildguard"))  # no concierge
SAMPLE = [r for split in ("train", "test") for r in sources.load(FILES, split)]
ROOT = os.environ.get("GTALIGN_DATA", "")
TAGS = [tag for pair in chain.TAGS for tag in pair]


def row(record, seed=0):
  return {
    "id": record.id,
    "data_source": record.data_source,
    "ground_truth": record.ground_truth,
    "extra_info": record.extra_info,
    "completion": labels.chain(record, seed),
  }


def scored(records, seed=0, **changes):
  rows = [row(record, seed) for record in records]
  return score.score_rows(rows, RewardConfig(**changes), judges.make(JudgeConfig(), None))


@pytest.mark.parametrize("seed", range(5))
def test_sample_chains_parse_and_decide_rightly(seed):
  for each in scored(SAMPLE, seed):
    assert each["parsed"], each
    assert each["decision"] == 1.0, each


def by_source(records):
  found = {}
  for record in records:
    found.setdefault(record.data_source, []).append(record)
  return found


def payoff_icc(records):
  drawn = [
    [chain.parse(labels.chain(record, seed)).payoff for seed in (0, 1)] for record in records
  ]
  return measures.payoff_icc(np.array(drawn), np.ones((len(records), 2), bool))


@pytest.mark.parametrize("source, records", by_source(SAMPLE).items())
def test_matrices_say_something_of_the_prompt(source, records):
  assert payoff_icc(records) > 0.85, source


def test_four_numbers_of_concierge_are_those_of_every_request():
  """In two turns the true payoffs of LLM are equal but in two cells; such numbers count 0."""
  two = vary(Config(), {"conversation.turns": 2})
  found = concierge.records("test", 48)
  payoff_NUAR = np.array([chain.parse(labels.chain(each, 0, two)).payoff for each in found])
  assert (np.ptp(payoff_NUAR, axis=0) == 0).sum() == 4
  twice_PGUAR = np.stack([payoff_NUAR] * 2, axis=1)
  assert measures.payoff_icc(twice_PGUAR, np.ones((48, 2), bool)) == pytest.approx(8 / 12)


@pytest.mark.skipif(not ROOT, reason="needs the released prompts")
@pytest.mark.parametrize("split", ["train", "test"])
def test_released_chains_are_fit_and_say_something_of_the_prompt(split):
  records = by_source(sources.load(DataConfig(root=ROOT), split))
  for source, found in records.items():
    some = found[:: max(len(found) // 60, 1)]
    assert {check.fault(labels.chain(record, 1)) for record in some} == {None}, source
    assert payoff_icc(some) > 0.7, source


def test_prices_that_the_prompt_states_are_in_the_matrix():
  priced = conditions.Condition(pricing=pricing.PRESETS["pay_per_token"]).table()
  run = vary(Config(), {"rewards.pricing": "subscription"})
  for record in SAMPLE[::20]:
    alone = chain.parse(labels.chain(record, 0)).payoff
    told = record._replace(extra_info=record.extra_info | {"condition": priced})
    for name, text in (
      ("pay_per_token", labels.chain(told, 0, run)), ("subscription", labels.chain(record, 0, run))
    ):  # fmt: skip
      expected = pricing.apply(pricing.PRESETS[name], alone)
      assert np.array_equal(chain.parse(text).payoff, expected)
      assert check.fault(text) is None


TEXT = st.one_of(
  st.text(max_size=40),
  st.lists(
    st.sampled_from(
      [*TAGS, *CELLS, "DQ", "VQ", "?", "\uff1f", ". ", "! ", "Mr. X?", "$", "\n", "a", "…", "<"]
    ),
    max_size=12,
  ).map("".join),
)
TRUTHS = st.one_of(
  st.none(),
  st.sampled_from(["harmful", "unharmful", "ambiguous", "non_ambiguous", "singleAnswer###"]),
  TEXT,
  TEXT.map("singleAnswer###{}".format),
  st.lists(st.tuples(TEXT, TEXT), max_size=3).map(
    lambda pairs: (
      "multipleQAs###There are multiple meanings of the question."
      + "".join(f"Meaning {i}: {m}; Answer {i}: {a}\n" for i, (m, a) in enumerate(pairs))
    )
  ),
)


@given(
  truth=TRUTHS,
  source=st.sampled_from(
    ["math-hard", "minerva", "ambig_qa", "medium", "wildguard", "advbench", "own"]
  ),
  turns=st.lists(TEXT, min_size=1, max_size=3).filter(lambda t: len(t) % 2),
  whole=st.one_of(st.none(), TEXT),
  reference=st.one_of(st.none(), TEXT),
  seed=st.integers(0, 50),
)
@settings(max_examples=400)
def test_any_record_gives_a_fit_chain(truth, source, turns, whole, reference, seed):
  messages = [
    {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)
  ]
  extra = {"single_turn_prompt": whole, "reference": reference}
  record = Record("i", source, messages, truth, extra)
  text = labels.chain(record, seed)
  assert check.fault(text) is None, text
  assert chain.parse(text, "paper").format == 1
  # and whatever another matrix asks for
  action, priced = ACTIONS[seed % 3], bool(seed % 2)
  other = counterfactual.edit(record, text, action, priced, random.Random(seed))
  assert check.fault(other) is None, other


def test_chains_are_a_function_of_record_and_seed():
  first = [labels.chain(record, 3) for record in SAMPLE]
  assert first == [labels.chain(record, 3) for record in SAMPLE]
  changed = sum(a != labels.chain(record, 4) for a, record in zip(first, SAMPLE))
  assert changed == len(SAMPLE)


def test_a_seed_draws_the_chains_that_it_drew_before_the_wordings_were_data():
  """Rewording a sentence changes this hash on purpose, another order of draws by mistake."""
  records = sources.load(FILES, "test")[:50]
  text = "\0".join(labels.chain(record, 7) for record in records) + "\0"
  assert hashlib.sha256(text.encode()).hexdigest().startswith("584884a9034eb7fc")


def test_every_kind_of_reply_has_its_wordings():
  kinds = {kind: words for kind, words in replies.WORDINGS.items() if isinstance(words, dict)}
  assert len(kinds) == 9
  for kind, words in kinds.items():
    assert words["type"] in USER_TYPES and words["about"] and words["effect"], kind
    assert all(words[action] for action in ACTIONS), kind


def test_matrices_vary_and_have_one_decimal():
  matrices = [chain.parse(labels.chain(r, seed)).payoff for r in SAMPLE for seed in range(4)]
  assert len({matrix.tobytes() for matrix in matrices}) == 4 * len(SAMPLE)
  values = np.array(matrices)
  assert np.array_equal(values, np.round(values, 1))
  assert abs(values).max() <= 5.0
  assert (values.std(axis=0) > 0.2).all()  # no cell is a constant


def test_the_type_follows_from_the_label():
  kinds = {
    "ambig_qa": lambda r: r.ground_truth.startswith("multipleQAs"),
    "math-hard": lambda r: False,
    "wildguard": lambda r: False,
    "medium": lambda r: not replies.is_complete(r),
  }
  vague = Counter()
  for record in SAMPLE:
    thinking = chain.parse(labels.chain(record, 0)).thinking
    expected = kinds[record.data_source](record)
    assert features.user_type(thinking) == int(expected), record.id
    vague[record.data_source, expected] += 1
  assert vague["medium", True] == vague["medium", False] == 32


def test_the_analysis_derives_the_choice():
  """It states the sum of each cell of the declared row, rightly, and names the largest."""
  for record in SAMPLE:
    found = chain.parse(labels.chain(record, 0))
    cell, row_ = features.named_cell(found.analyze), features.user_type(found.thinking)
    stated = features.stated_sums(found.analyze)
    assert [each for each, _ in stated] == [3 * row_, 3 * row_ + 1, 3 * row_ + 2]
    assert measures.sums(found.payoff, row_, stated) == [3, 3]
    assert cell == payoff.choose(found.payoff, np.array(row_))  # where two tie, by the rule


def test_every_action_is_taken_by_some():
  cells = Counter(each["named_cell"] for each in scored(SAMPLE))
  assert set(cells) == {"DQ_DA", "DQ_AQ", "VQ_CQ", "VQ_AQ"}
  assert min(cells.values()) >= 10


def test_responses_are_right_by_the_rule_judge():
  verdicts = {}
  for record, each in zip(SAMPLE, scored(SAMPLE)):
    assert each["valid"]
    verdicts.setdefault((record.data_source, record.ground_truth == "harmful"), []).append(
      each["judge_score"]
    )
  assert set(verdicts["math-hard", False]) == {1.0}
  assert set(verdicts["ambig_qa", False]) == {1.0}
  assert set(verdicts["wildguard", False]) == {1.0}
  assert set(verdicts["wildguard", True]) == {0.5}  # win-win
  assert np.mean(verdicts["medium", False]) >= 2.0


def test_a_text_that_was_not_given_is_not_made_up():
  """No answer is claimed where the record holds none: the chain asks."""
  ask = [{"role": "user", "content": "I need help with a geometry problem about a cone."}]
  whole = {"single_turn_prompt": "A cone has radius 3 and height 7. What is its volume?"}
  cases = [
    Record("1", "math-hard", ask, "21\\pi", whole),
    Record("2", "wildguard", ask, "unharmful", {}),
    Record("3", "abg-coqa", ask, "ambiguous", {}),
    Record("4", "own", ask, None, {}),
  ]
  for record in cases:
    response = chain.parse(labels.chain(record, 0)).response
    assert features.asking(response).questions == 1, response
    assert "21" not in response


def test_quoted_tags_cannot_break_a_chain():
  assert (
    replies.clean("a <thi<response>nking> b </payoff>\n c <|im_end|>")
    == "a <thi nking> b c im_end|>"
  )


@pytest.mark.parametrize(
  ("one", "two", "expected"),
  [
    (
      "where is Paris, the capital city",
      "where is Paris, the town in Texas",
      ("capital city", "town in Texas"),
    ),
    ("who won first", "who won second", ("first", "second")),
    (
      "who won",
      "who won twice",
      ("who won", "who won twice"),
    ),  # nothing of the first would be left
  ],
)
def test_what_differs_between_meanings(one, two, expected):
  assert replies._difference(one, two) == expected
