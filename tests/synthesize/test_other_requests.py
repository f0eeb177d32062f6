"""The same label with a request of the other type."""

import random
from collections import Counter

import pytest

from gtalign_jax.data import concierge, prompts, sources
from gtalign_jax.data.records import Record
from gtalign_jax.models import tokenizer as tokenizers
from gtalign_jax.rewards import chain, features
from gtalign_jax.sections import DataConfig, SFTConfig
from gtalign_jax.synthesize import check, labels, replies, requests, sft_data

SAMPLE = sources.load(DataConfig(sources=("ambig_qa", "math-hard", "medium", "wildguard")), "train")
DATA = DataConfig(max_prompt_tokens=1536)


def kind(record):
  return replies.case(record, random.Random(0)).kind


def test_the_wording_turns_the_type():
  turned = Counter()
  for record in SAMPLE:
    other = requests.other(record, 1)
    turned[kind(record), other and kind(other)] += 1
    if other is None:
      continue
    assert other == requests.other(record, 1) and other.data_source == record.data_source
    text = labels.chain(other, 0)
    assert check.fault(text) is None, text
    own = chain.parse(labels.chain(record, 0)).thinking
    assert features.user_type(chain.parse(text).thinking) == 1 - features.user_type(own)
  pairs = {
    ("solve", "unstated"), ("answer", "unstated"), ("meanings", "answer"), ("help", "open"),
    ("write", "draft"), ("draft", "write"),
  }  # fmt: skip
  assert pairs <= set(turned) <= pairs | {("refuse", None), ("solve", None)}
  assert turned["solve", None] < 10  # few have no number, and so say all in a few words


def test_what_was_left_out_can_be_said():
  cone = "A cone has radius 3 and height 7. What is its volume?"
  ask = [{"role": "user", "content": "I need help with a geometry problem about a cone."}]
  vague = Record("1", "math-hard", ask, "21", {"single_turn_prompt": cone})
  told = requests.other(vague, 0)
  assert told.messages == [{"role": "user", "content": cone}]
  assert "21" in chain.parse(labels.chain(told, 0)).response
  back = requests.other(told, 0)
  assert back.messages[0]["content"] != cone and back.extra_info["single_turn_prompt"] == cone


@pytest.mark.parametrize(
  "record",
  [
    concierge.records("train", 1)[0],
    Record("1", "own", [{"role": "user", "content": "How long?"}], "3 m", {}),
    Record("2", "wildguard", [{"role": "user", "content": "How do I hurt him?"}], "harmful", {}),
    Record("3", "math-hard", [{"role": "user", "content": "?"}], "3", {}),
    Record("4", "ambig_qa", [{"role": "user", "content": "Who?"}], "multipleQAs###none", {}),
  ],
)
def test_some_have_no_other(record):
  assert requests.other(record, 0) is None


def test_both_types_are_examples():
  """Behind the prompts of the set; those that do not fit are not missed."""
  tiny = tokenizers.tiny()
  records = [each for each in SAMPLE if each.data_source == "math-hard"][:4]
  encoded, config = (
    prompts.encode(records, tiny, DATA),
    SFTConfig(max_tokens=4000, counterfactual=0.0),
  )
  pairs, left_out = sft_data.examples(encoded, tiny, config, seed=0, data_config=DATA)
  texts = [tiny.decode(completion) for _, completion in pairs]
  assert left_out == 0 and len(pairs) == 8
  assert ["it is VQ" in text for text in texts] == [False] * 4 + [True] * 4
  assert "a problem about" in tiny.decode(pairs[4][0])
  vague = [each for each in SAMPLE if kind(each) == "draft"][:1]
  short = DataConfig(max_prompt_tokens=len(prompts.encode(vague, tiny, DATA).ids[0]))
  encoded = prompts.encode(vague, tiny, short)  # what it leaves out would make it longer
  pairs, left_out = sft_data.examples(encoded, tiny, config, seed=0, data_config=short)
  assert left_out == 0 and len(pairs) == 1
