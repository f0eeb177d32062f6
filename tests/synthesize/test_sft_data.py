"""Tokenised supervision for the warm start."""

import dataclasses
import json

import numpy as np
import pytest

from gtalign_jax import jsonl
from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge, intents, prompts, sources
from gtalign_jax.errors import BadInput
from gtalign_jax.models import tokenizer as tokenizers
from gtalign_jax.rewards import chain
from gtalign_jax.sections import DataConfig, SFTConfig
from gtalign_jax.synthesize import check, labels, sft_data, teacher

DATA = DataConfig(max_prompt_tokens=1536)


def whole(max_tokens):
  """The warm start with chains of their own matrices alone."""
  return SFTConfig(max_tokens=max_tokens, counterfactual=0.0)


RECORDS = sources.load(DATA, "test")[:6]


@pytest.fixture(scope="module")
def tiny():
  return tokenizers.tiny()


@pytest.fixture(scope="module")
def encoded(tiny):
  return prompts.encode(RECORDS, tiny, DATA)


def test_pairs_from_labels(tiny, encoded):
  pairs, left_out = sft_data.examples(
    encoded, tiny, SFTConfig(max_tokens=4000), seed=5, data_config=DATA
  )
  assert left_out == 0 and len(pairs) > len(RECORDS)  # test_requests: those of the other type
  for record, ids, (prompt, completion) in zip(RECORDS, encoded.ids, pairs, strict=False):
    assert np.array_equal(prompt, ids)
    assert completion.dtype == np.int32
    assert completion[-1] == tiny.eos_token_id == 2
    assert tiny.decode(completion[:-1]) == labels.chain(record, 5)


@pytest.mark.parametrize("eos_ids, end", [((0, 2), 2), ((0, 1), 0)])
def test_a_chain_ends_with_what_ends_a_sample(tiny, encoded, eos_ids, end):
  """A generation config may name other ends than the tokenizer: only those stop a rollout."""
  config = SFTConfig(max_tokens=4000)
  pairs, _ = sft_data.examples(encoded, tiny, config, seed=5, data_config=DATA, eos_ids=eos_ids)
  assert {int(completion[-1]) for _, completion in pairs} == {end}


def test_over_long_pairs_are_left_out_with_a_count(tiny, encoded):
  every, _ = sft_data.examples(encoded, tiny, whole(9999), seed=0, data_config=DATA)
  lengths = [len(a) + len(b) for a, b in every]
  limit = sorted(lengths)[2]
  pairs, left_out = sft_data.examples(encoded, tiny, whole(limit), seed=0, data_config=DATA)
  assert (len(pairs), left_out) == (3, len(every) - 3)
  assert all(len(a) + len(b) <= limit for a, b in pairs)


def test_pairs_from_a_file(tiny, encoded, tmp_path):
  path = tmp_path / "chains.jsonl"
  # two chains of each prompt: ids repeat
  rows = [teacher.row(r, labels.chain(r, seed)) for seed in (0, 1) for r in RECORDS]
  jsonl.write(path, rows)
  config = dataclasses.replace(whole(4000), data=str(path))
  pairs, left_out = sft_data.examples(encoded, tiny, config, seed=9, data_config=DATA)
  assert left_out == 0
  assert [tiny.decode(b[:-1]) for _, b in pairs] == [row["completion"] for row in rows]
  assert all(np.array_equal(a, b) for (a, _), b in zip(pairs, encoded.ids * 2, strict=True))
  # over-long prompts of the file count as left out
  limit = sorted(len(ids) for ids in encoded.ids)[3]
  short = DataConfig(max_prompt_tokens=limit, template="full")
  with pytest.raises(BadInput, match="every prompt is longer"):
    sft_data.examples(encoded, tiny, config, seed=0, data_config=short)
  pairs, left_out = sft_data.examples(
    encoded, tiny, config, seed=0, data_config=DataConfig(max_prompt_tokens=limit)
  )
  assert len(pairs) + left_out == 12
  assert len(pairs) == 2 * sum(len(ids) <= limit for ids in encoded.ids)


@pytest.mark.parametrize("completion", [None, "", 7])
def test_a_row_without_a_chain(tmp_path, tiny, encoded, completion):
  path = tmp_path / "chains.jsonl"
  jsonl.write(path, [teacher.row(RECORDS[0], "x"), teacher.row(RECORDS[1], completion)])
  config = SFTConfig(data=str(path))
  with pytest.raises(BadInput, match=r"chains\.jsonl:2: completion"):
    sft_data.examples(encoded, tiny, config, seed=0, data_config=DATA)
  path.write_text("")
  with pytest.raises(BadInput, match="holds no chains"):
    sft_data.examples(encoded, tiny, config, seed=0, data_config=DATA)


def test_chains_that_utf8_cannot_carry(tmp_path):
  """Half a surrogate pair in a chain becomes U+FFFD, as everywhere, and not a tokenizer's error."""
  row = {
    "data_source": "m",
    "prompt": [{"role": "user", "content": "?"}],
    "completion": "a\ud83d\0",
  }
  path = tmp_path / "chains.jsonl"
  path.write_text(json.dumps(row) + "\n")
  assert [chain for _, chain in sft_data.rows(path)] == ["a\ufffd\ufffd"]


def test_second_turns_are_examples_where_conversations_have_them(tiny):
  records = concierge.records("train", 24)
  encoded = prompts.encode(records, tiny, DATA)
  for turns in (1, 2):
    config = vary(Config(), {"conversation.turns": turns})
    pairs, left_out = sft_data.examples(
      encoded, tiny, whole(4000), seed=0, data_config=DATA, config=config
    )
    later = [(record, labels.later(record, 0, config)) for record in records]
    later = [(record, found) for record, found in later if found] if turns > 1 else []
    assert left_out == 0 and len(pairs) == 24 + len(later)
    for (record, found), (prompt, completion) in zip(later, pairs[24:], strict=True):
      first = labels.chain(record, 0, config)
      response, reply = (each["content"] for each in found.said)
      assert f"<response>{response}</response>" in first and "?" in response
      text = tiny.decode(prompt)
      assert text.index(response) < text.index(reply) and "<payoff>{" not in text
      assert tiny.decode(completion[:-1]) == found.chain
  assert len(later) >= 5  # all that ask: the kinds whose default is a gamble


def test_second_turns_say_what_the_user_meant(tiny):
  config = vary(Config(), {"conversation.turns": 2})
  for record in concierge.records("train", 96):
    found = labels.later(record, 3, config)
    intent = intents.given(record, 3, None, 2).extra_info["intent"]
    for text in [labels.chain(record, 3, config), *([found.chain] if found else [])]:
      assert check.fault(text) is None
    last = chain.parse(found.chain if found else labels.chain(record, 3, config)).response
    # who asks gets it right; who does not has made the best bet
    if found or record.extra_info["lacking"] is None:
      assert last == intent["answer"]
