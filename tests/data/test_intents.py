"""Private intents: what a record's user means."""

import pytest

from gtalign_jax.data import concierge, intents, sources
from gtalign_jax.data.records import Record
from gtalign_jax.sections import DataConfig

FILES = DataConfig(sources=("ambig_qa", "math-hard", "medium", "wildguard"))
SAMPLE = sources.load(FILES, "test")
LACKING = concierge.records("test", 24)[12]


def meant(record, seed=0, step=None, turns=2):
  return intents.given(record, seed, step, turns).extra_info.get("intent")


def test_which_records_have_one():
  for record in SAMPLE:
    found = meant(record)
    assert meant(record, turns=1) is None
    if record.data_source == "wildguard":
      assert found is None
    elif record.data_source == "ambig_qa":
      assert found["kind"] == "meaning" and found["answer"] in record.ground_truth
    else:
      assert found["kind"] == "statement" and found["answer"] == record.ground_truth
      assert found["text"] == record.extra_info["single_turn_prompt"]
  assert meant(LACKING, turns=1) == meant(LACKING)  # who reads slots needs them from the first turn


def test_it_is_a_function_of_seed_step_and_record():
  drawn = {str(meant(LACKING, seed, step)) for seed in range(9) for step in (None, *range(9))}
  assert len(drawn) > 5
  assert meant(LACKING, 4, 7) == meant(LACKING, 4, 7)
  assert meant(LACKING._replace(messages=[{"role": "user", "content": "x"}]), 4, 7) == meant(
    LACKING, 4, 7
  )


def test_every_reading_of_a_question_is_meant_by_somebody():
  record = next(r for r in SAMPLE if r.ground_truth.startswith("multipleQAs"))
  drawn = {meant(record, seed)["text"] for seed in range(60)}
  assert drawn == {text for text, _ in intents.readings(record.ground_truth.partition("###")[2])}


def test_a_record_keeps_the_intent_that_it_brings():
  own = {"kind": "statement", "text": "A tale of a fox."}
  record = LACKING._replace(extra_info=LACKING.extra_info | {"intent": own})
  assert intents.given(record, 0, 3, 2) == record


@pytest.mark.parametrize("truth", [None, "multipleQAs###nothing readable"])
def test_a_label_without_readings_gives_none(truth):
  record = Record("a", "ambig_qa", [{"role": "user", "content": "Who?"}], truth, {})
  assert meant(record) is None
