"""Batches: the order of prompts, weights of sources, held-out prompts, padding."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.data import batches
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import Table
from gtalign_jax.sections import DataConfig


def encoded(**sizes):
  records = [
    Record(f"{source}/{k}", source, [], None, {}) for source, n in sizes.items() for k in range(n)
  ]
  return Encoded(records, [np.full(3, k, np.int32) for k in range(len(records))], 0)


def ids(data, config, size, steps):
  return [r.id for s in range(steps) for r in batches.batch_at(data, config, size, s).records]


def test_a_batch_depends_on_the_step_alone():
  data, config = encoded(a=30, b=10), DataConfig(seed=3)
  forward = [batches.batch_at(data, config, 4, step) for step in range(6)]
  for step in (5, 0, 3):
    records, tokens = batches.batch_at(data, config, 4, step)
    assert records == forward[step][0]
    assert all(np.array_equal(a, b) for a, b in zip(tokens, forward[step][1]))
  # the batch size cuts the same stream
  assert ids(data, config, 8, 3) == ids(data, config, 4, 6)


def test_ids_go_with_their_records():
  data = encoded(a=7, b=5)
  records, tokens = batches.batch_at(data, DataConfig(), 6, 1)
  for record, each in zip(records, tokens):
    assert data.records[each[0]] == record
  batch = batches.batch_at(data, DataConfig(), 6, 1)
  assert batch.records == records and all(map(np.array_equal, batch.ids, tokens))


def test_an_epoch_sees_every_prompt_once_and_epochs_differ():
  data, config = encoded(a=24, b=8), DataConfig()
  epochs = [ids(data, config, 8, 8)[k : k + 32] for k in (0, 32)]
  for epoch in epochs:
    assert sorted(epoch) == sorted(r.id for r in data.records)
  assert epochs[0] != epochs[1]


def test_the_seed_shuffles():
  data = encoded(a=24, b=8)
  assert ids(data, DataConfig(seed=0), 8, 4) != ids(data, DataConfig(seed=1), 8, 4)


@pytest.mark.parametrize(
  ("weights", "expected"),
  [
    ({}, {"a": 300, "b": 100}),
    ({"a": 1, "b": 1}, {"a": 200, "b": 200}),
    ({"a": 0}, {"b": 400}),
    ({"b": 2.25}, {"a": 100, "b": 300}),  # a keeps its share by size, 0.75
  ],
)
def test_weights_of_sources(weights, expected):
  data = encoded(a=30, b=10)
  drawn = ids(data, DataConfig(weights=Table(weights)), 8, 50)
  count = Counter(each.split("/")[0] for each in drawn)
  assert set(count) == set(expected)
  assert all(abs(count[source] - n) <= 2 for source, n in expected.items())


@pytest.mark.parametrize(
  ("weights", "says"),
  [({"aa": 1}, "did you mean a"), ({"a": 0, "b": 0}, "at least one must be positive")],
)
def test_weights_that_make_no_sense(weights, says):
  with pytest.raises(BadInput, match=says):
    batches.batch_at(encoded(a=3, b=3), DataConfig(weights=Table(weights)), 2, 0)


def test_held_out_is_even_and_stable():
  data = encoded(a=40, b=3, c=20)
  chosen = batches.held_out(data, 12, seed=0)
  assert Counter(r.data_source for r in chosen.records) == {"a": 5, "b": 3, "c": 4}
  assert [r.id for r in chosen.records] == [r.id for r in batches.held_out(data, 12, 0).records]
  assert [r.id for r in chosen.records] != [r.id for r in batches.held_out(data, 12, 1).records]
  for record, each in zip(chosen.records, chosen.ids):
    assert data.records[each[0]] == record
  # a larger evaluation contains the smaller one
  assert batches.held_out(data, 30, 0).records[:12] == chosen.records
  assert len(batches.held_out(data, 1000, 0).records) == 63
  assert batches.spread(data.records, 12, 0) == chosen.records


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
@settings(max_examples=40)
def test_padding(lengths):
  rows = [np.arange(1, n + 1, dtype=np.int32) for n in lengths]
  tokens_PT, length_P = batches.pad(rows, (9, 4))
  assert tokens_PT.dtype == length_P.dtype == np.int32
  assert tokens_PT.shape == (len(rows), 4 if max(lengths) <= 4 else 9)
  assert length_P.tolist() == lengths
  for row, each in zip(tokens_PT, rows):
    assert np.array_equal(row[: len(each)], each)
    assert not row[len(each) :].any()


def test_padding_beyond_the_largest_bucket():
  with pytest.raises(BadInput, match=r"10 tokens .* rollout\.prompt_buckets=\(4, 9\)"):
    batches.pad([np.zeros(10, np.int32)], (4, 9))
