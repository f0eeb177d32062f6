"""Rows of a suite do not depend on how many prompts are decoded at once, nor on their buckets."""

import jax
import numpy as np
import pytest
from sampler_cases import policy, sampler

from gtalign_jax.data.records import Record
from gtalign_jax.evaluate import suites
from gtalign_jax.parallel import mesh
from gtalign_jax.sections import MeshConfig, RewardConfig

LENGTHS = (7, 12, 3, 30, 16, 5, 11)
EOS = tuple(range(0, 300, 9))
IDS = [
  np.random.default_rng(i).integers(10, 250, n).astype(np.int32) for i, n in enumerate(LENGTHS)
]
RECORDS = [Record(f"r{i}", "s", [], None, {}) for i in range(len(LENGTHS))]


def actor(width, buckets=(32,)):
  """Rows are read back and not scored."""
  one = mesh.make(MeshConfig(), jax.devices()[:1])
  tokenizer = policy().tokenizer
  return suites.Actor(tokenizer, sampler(eos=EOS), RewardConfig(), None, buckets, width, one)


def rows(width, buckets=(32,), part=slice(None), seen=None):
  return suites.evaluate(
    actor(width, buckets),
    policy().params,
    RECORDS[part],
    IDS[part],
    jax.random.key(3),
    on_batch=lambda done, total: seen is not None and seen.append((done, total)),
    first_row=part.start or 0,
  )


@pytest.fixture(scope="module")
def whole():
  return rows(8)


def test_order_and_fields(whole):
  assert [row["id"] for row in whole] == [f"r{p}#{g}" for p in range(len(IDS)) for g in range(4)]
  assert [row["prompt_tokens"] for row in whole[::4]] == list(LENGTHS)
  assert {row["finish_reason"] for row in whole} == {"stop", "length"}


@pytest.mark.parametrize("buckets", [(32,), (8, 16, 32)])
def test_few_lanes_and_several_buckets(whole, buckets):
  seen = []
  assert rows(2, buckets, seen=seen) == whole
  assert len(seen) > 1 and seen[-1] == (7, 7)


def test_a_part_of_the_prompts(whole):
  assert rows(2, part=slice(3, None)) == whole[12:]


def test_training_gets_the_same_rows_and_their_arrays(whole):
  sampled = suites.sample_and_score(
    actor(2), policy().params, RECORDS, IDS, jax.random.key(3), np.int32(0)
  )
  assert sampled.rows == whole
  assert sampled.prompts.row_P.tolist() == list(range(len(IDS)))
  assert sampled.prompts.length_P.tolist() == list(LENGTHS)
  counts = np.asarray(sampled.rollout.mask_BC).sum(1)
  assert counts.tolist() == [row["completion_tokens"] for row in whole]
  assert set(sampled.seconds) == {"rollout", "reward"}
