"""The sample set: its ground truths are right, its prompts are all different."""

import re

import pytest
import sympy

from gtalign_jax.data import prompts, sources
from gtalign_jax.sections import DataConfig

FILES = DataConfig(sources=("ambig_qa", "math-hard", "medium", "wildguard"))  # no concierge
RECORDS = [r for split in ("train", "test") for r in sources.load(FILES, split)]
MATH = [r for r in RECORDS if r.data_source == "math-hard"]
NAMES = {name: getattr(sympy, name) for name in dir(sympy) if not name.startswith("_")}
NAMES |= {"sum": sum, "min": min, "max": max, "int": int, "range": range}


def of(source):
  return [r for r in RECORDS if r.data_source == source]


@pytest.mark.parametrize("record", MATH, ids=lambda r: r.id)
def test_math_answers(record):
  from math_verify import parse

  computed = sympy.sympify(eval(record.extra_info["check"], dict(NAMES)))
  stated = parse(f"${record.ground_truth}$")[0]
  assert sympy.simplify(computed - stated) == 0


def test_prompts_are_all_different():
  assert len({prompts.messages(r, "compact")[1]["content"] for r in RECORDS}) == len(RECORDS)


def test_every_row_has_the_released_schema():
  for record in RECORDS:
    extra = record.extra_info
    assert extra["chat_history"] == record.messages
    assert isinstance(extra["single_turn_prompt"], str)
    assert extra["split"] == record.id.split("/")[1]
  assert sum(len(r.messages) > 1 for r in RECORDS) >= 20


def test_ambiguous_questions_list_their_meanings():
  kinds = {"singleAnswer": 0, "multipleQAs": 0}
  for record in of("ambig_qa"):
    kind, _, rest = record.ground_truth.partition("###")
    kinds[kind] += 1
    if kind == "multipleQAs":
      assert rest.startswith("There are multiple meanings of the question.Meaning 0: ")
      assert len(re.findall(r"Meaning \d: .+?; Answer \d: .+\n", rest)) >= 2
  assert min(kinds.values()) >= 30


def test_labels_of_requests_and_references_of_texts():
  labels = [r.ground_truth for r in of("wildguard")]
  assert {label: labels.count(label) for label in set(labels)} == {"harmful": 32, "unharmful": 32}
  for record in of("medium"):
    assert 15 <= len(record.ground_truth.split()) <= 60
