"""Conditions of prompts: what is drawn, what the prompt says, what does not fit."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.data import batches, conditions, prompts, sources
from gtalign_jax.data.records import Record, from_row
from gtalign_jax.errors import BadInput
from gtalign_jax.game import conditions as of_game
from gtalign_jax.game import pricing
from gtalign_jax.game.conditions import Condition
from gtalign_jax.models import tokenizer as tokenizers
from gtalign_jax.sections import DataConfig

ALPHAS = DataConfig(condition="alpha", condition_alphas=(0.2, 0.5, 0.8), max_prompt_tokens=2000)
PRICES = dataclasses.replace(ALPHAS, condition="pricing")
SHIFTED = pricing.Pricing(
  name="evening", shift=((0.0, 0.0), (0.0, -0.5), (1.0, 0.5)), price_per_character=(0.0, 0.0025)
)


@pytest.fixture(scope="module")
def tiny():
  return tokenizers.tiny()


@pytest.fixture(scope="module")
def records():
  return sources.load(DataConfig(), "train")[::6]


def record(identity="q", **extra):
  return Record(identity, "mine", [{"role": "user", "content": "Which one?"}], "t", extra)


def said(condition, template="compact", of=None):
  return prompts.messages(conditions.conditioned(of or record(), condition), template)


@pytest.mark.parametrize(
  "condition, sentence",
  [
    (Condition(alpha=0.7), "In this exchange the user's payoff weighs 0.7 and yours 0.3."),
    (Condition(alpha=1.0), "In this exchange the user's payoff weighs 1 and yours 0."),
    (Condition(pricing=pricing.PRESETS["free"]), "Pricing 'free': nothing is charged."),
    (
      Condition(pricing=pricing.PRESETS["subscription"]),
      "Pricing 'subscription': a token of the response costs you 0.005.",
    ),
    (
      Condition(pricing=pricing.PRESETS["pay_per_token"]),
      "Pricing 'pay_per_token': a token of the response costs the user 0.01 and brings you 0.002.",
    ),
    (
      Condition(pricing=SHIFTED),
      "Pricing 'evening': a character of the response costs the user 0.0025; CQ costs the user "
      "0.5; AQ brings the user 0.5 and brings you 1.",
    ),
  ],
)
def test_the_prompt_says_it(condition, sentence):
  system, user = said(condition)
  assert system["content"] == f"{prompts.template_text('compact')}\n\n{sentence}"
  assert [user] == prompts.messages(record(), "compact")[1:]
  # released prompts have a chat of their own
  assert said(condition, "released") == [{"role": "system", "content": sentence}, user]
  told = record()._replace(messages=[{"role": "system", "content": "Be kind."}, user])
  assert said(condition, "released", told)[0]["content"] == f"Be kind.\n\n{sentence}"


def test_a_record_keeps_its_own_condition_and_none_adds_nothing():
  own = record(condition={"alpha": 0.9})
  assert conditions.conditioned(own, Condition(alpha=0.1)) is own
  assert conditions.conditioned(record(), of_game.NONE) == record()
  assert "weighs 0.9" in said(Condition(alpha=0.1), of=own)[0]["content"]
  with pytest.raises(BadInput, match=r"here: extra_info\.condition\.alpha=7: must be a number in"):
    from_row(
      {"data_source": "s", "prompt": own.messages, "extra_info": {"condition": {"alpha": 7}}},
      *("here", "id"),
    )


@settings(max_examples=30)
@given(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 99)), st.text(max_size=9))
def test_a_draw_is_a_function_of_seed_step_and_id(seed, step, identity):
  config = DataConfig(seed=seed)
  drawn = [conditions.draw(config, identity, 7, step) for _ in range(2)]
  assert drawn[0] == drawn[1] and 0 <= drawn[0] < 7


def test_draws_cover_the_grid_and_differ_by_seed_step_and_id():
  draw = lambda **given: conditions.draw(DataConfig(seed=given.pop("seed", 0)), **given)  # noqa: E731
  counts = Counter(draw(record_id=f"r{n}", size=3, step=4) for n in range(300))
  assert set(counts) == {0, 1, 2} and min(counts.values()) > 70
  streams = [
    [draw(record_id="r", size=9, step=n) for n in range(50)],
    [draw(record_id="r", size=9, step=n, seed=1) for n in range(50)],
    [draw(record_id=f"r{n}", size=9, step=0) for n in range(50)],
    [draw(record_id=f"r{n}", size=9) for n in range(50)],
  ]
  assert len(set(map(tuple, streams))) == 4
  # fixed for good: a run that is resumed by another version must see the same prompts
  assert streams[0][:8] == [2, 0, 6, 6, 8, 3, 7, 5]


def alpha_of(record):
  return record.extra_info["condition"]["alpha"]


def test_training_draws_by_step_and_evaluation_by_prompt(tiny, records):
  train = prompts.encode(records, tiny, ALPHAS, every_condition=True)
  assert [len(each.records) for each in train.choices] == [len(train.records)] * 3
  first = [batches.batch_at(train, ALPHAS, 8, step) for step in range(4)]
  again = [batches.batch_at(train, ALPHAS, 8, step) for step in (3, 0)]
  assert [r for b in again for r in b.records] == first[3].records + first[0].records
  assert {alpha_of(r) for b in first for r in b.records} == set(ALPHAS.condition_alphas)
  for batch in first:
    for each, ids in zip(batch.records, batch.ids):
      text = tiny.decode(ids)
      assert f"payoff weighs {alpha_of(each):g} and" in text
      assert text.count("payoff weighs") == 1
  held_out = prompts.encode(records, tiny, ALPHAS)
  assert held_out.choices == () and held_out.records == train.records  # as in the warm start
  assert all(map(np.array_equal, held_out.ids, train.ids))
  assert len({alpha_of(r) for r in held_out.records}) == 3
  plain = prompts.encode(records, tiny, dataclasses.replace(ALPHAS, condition="none"), True)
  assert plain.choices == () and [r.id for r in plain.records] == [r.id for r in train.records]
  order = [r.id for b in first for r in b.records]
  assert order == [r.id for s in range(4) for r in batches.batch_at(plain, ALPHAS, 8, s).records]


def test_a_prompt_is_trained_on_only_where_it_fits_under_every_condition(tiny, records):
  whole = prompts.encode(records, tiny, PRICES, every_condition=True)
  lengths = [max(len(each.ids[i]) for each in whole.choices) for i in range(len(records))]
  limit = sorted(lengths)[len(lengths) // 2]
  tight = dataclasses.replace(PRICES, max_prompt_tokens=limit)
  some = prompts.encode(records, tiny, tight, every_condition=True)
  assert some.left_out == len(records) - len(some.records) > 0
  assert all(len(ids) <= limit for each in some.choices for ids in each.ids)
  assert len({tuple(r.id for r in each.records) for each in some.choices}) == 1
  # a prompt has room for a free request where a priced one has none
  assert some.left_out > prompts.encode(
    records, tiny, dataclasses.replace(tight, condition_policies=("free",))
  ).left_out  # fmt: skip


def test_prices_come_from_presets_and_files(tmp_path, tiny):
  path = tmp_path / "evening.toml"
  path.write_text("[shift.CQ]\nuser = -0.5\n")
  config = dataclasses.replace(PRICES, condition_policies=("free", str(path)))
  free, evening = conditions.grid(config)
  assert evening.pricing.name == "evening" and free.pricing == pricing.PRESETS["free"]
  made = conditions.conditioned(record(), evening)
  # the numbers are in the record: whoever reads it needs no file
  assert json.loads(json.dumps(made.extra_info)) == made.extra_info
  assert of_game.of(made.extra_info, "") == evening
  with pytest.raises(BadInput, match=r"data\.condition_policies='fre' .*did you mean free"):
    conditions.grid(dataclasses.replace(PRICES, condition_policies=("fre",)))


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"condition": "alhpa"}, r"data\.condition='alhpa' is not one of none, alpha, pricing"),
    ({"condition_alphas": (0.5, 1.5)}, r"data\.condition_alphas=\(0\.5, 1\.5\): must lie in"),
    ({"condition_alphas": ()}, r"data\.condition_alphas=\(\): must hold one or more"),
    ({"condition_policies": ("free", "free")}, r"must hold one or more, each once"),
  ],
)
def test_bad_settings(changes, message):
  with pytest.raises(BadInput, match=message):
    DataConfig(**changes)
