"""Rows do not depend on how many prompts are decoded at once, nor on their buckets."""

import jax
import numpy as np
import pytest
from sampler_cases import engine, policy

from gtalign_jax.data.batches import Batch
from gtalign_jax.data.records import Record
from gtalign_jax.errors import RunFailure
from gtalign_jax.parallel import distributed
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import score
from gtalign_jax.rewards.judges.rule import RuleJudge
from gtalign_jax.rollout import collect, placement, talk, text
from gtalign_jax.rollout.engine import Ended
from gtalign_jax.rollout.talk import Environment
from gtalign_jax.types import Rollout

pytestmark = pytest.mark.usefixtures("shared_programs")
LENGTHS = (7, 12, 3, 30, 16, 5, 11)
EOS = tuple(range(0, 300, 9))
IDS = [
  np.random.default_rng(i).integers(10, 250, n).astype(np.int32) for i, n in enumerate(LENGTHS)
]
RECORDS = [
  Record(f"r{i}", "math-hard", [{"role": "user", "content": "1 + 1"}], "2", {})
  for i in range(len(LENGTHS))
]
KEY = jax.random.key(3)
PLAIN = RewardConfig()


def rows(slots, buckets=(32,), part=slice(None), seen=None, judge=None, config=PLAIN):
  return collect.evaluate(
    engine(eos=EOS, slots=slots, buckets=buckets),
    policy().params,
    Batch(RECORDS[part], IDS[part]),
    KEY,
    Environment(config, judge),
    number_P=np.arange(len(IDS))[part],
    advance=lambda done, total: seen is not None and seen.append((done, total)),
  ).rows


def opening(records):
  """The first turn of conversations, a sample each."""
  before = [talk.opened(record, 1, Environment(PLAIN)) for record in records]
  return collect.Turn(before, records, IDS[: len(records)], np.arange(len(records)))


@pytest.fixture(scope="module")
def whole():
  return rows(8)


def test_order_and_fields(whole):
  assert [row["id"] for row in whole] == [f"r{p}#{g}" for p in range(len(IDS)) for g in range(4)]
  assert [row["prompt_tokens"] for row in whole[::4]] == list(LENGTHS)
  assert {row["finish_reason"] for row in whole} == {"stop", "length"}


def test_special_tokens_are_seen_and_the_end_is_not():
  tokens_BC = np.array([[5, 1, 6, 2, 3], [5, 6, 2, 3, 3]])
  mask_BC = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]])
  zeros_BC = np.zeros((2, 5))
  rollout = Rollout(tokens_BC, mask_BC, zeros_BC, np.ones(2, bool))
  tokenizer = policy().tokenizer
  first, second = text.written(tokenizer, 7, rollout, (2,))
  assert (
    first["completion"] == tokenizer.decode([5, 1, 6]) and "<|im_start|>" in first["completion"]
  )
  assert (first["control_tokens"], second["control_tokens"]) == (1, 0)
  assert second["completion"] == tokenizer.decode([5, 6]) and second["completion_tokens"] == 3
  assert text.written(tokenizer, 7, rollout, ())[1]["control_tokens"] == 1


@pytest.mark.parametrize("buckets", [(32,), (8, 16, 32)])
def test_few_slots_and_several_buckets(whole, buckets):
  seen = []
  assert rows(2, buckets, seen=seen) == whole
  assert len(seen) > 1 and seen[-1] == (7, 7)


def test_a_part_of_the_prompts(whole):
  assert rows(2, part=slice(3, None)) == whole[12:]


@pytest.mark.filterwarnings("error")
def test_a_row_without_verdict_changes_no_mean(whole):
  scored = rows(8, judge=RuleJudge())
  alone = collect.summary(scored)
  lost = [
    {key: None if isinstance(value, float) else value for key, value in row.items()}
    | {"valid": False, "format": None, "completion_tokens": 999, "finish_reason": "length"}
    for row in scored
  ]
  mixed = collect.summary([each for pair in zip(scored, lost) for each in pair])
  invalid = {key for key in alone if key.startswith("judge/invalid_frac")}
  assert {mixed[key] for key in invalid} == {0.5}
  for key in alone.keys() - invalid:
    np.testing.assert_equal(mixed[key], alone[key], err_msg=key)
  assert np.isnan(collect.summary(lost)["completions/mean_length"])


def test_training_gets_the_same_rows_and_their_arrays():
  """`collect` scores rows while others are decoded; the rows are those of an evaluation."""
  judge, config = RuleJudge(), RewardConfig(llm_calibration=0.1)
  sampler = engine(eos=EOS, slots=2, buckets=(32,))
  experience = placement.on_mesh(
    collect.collect(
      sampler, policy().params, Batch(RECORDS, IDS), KEY, 0, Environment(config, judge)
    ),
    sampler,
  )
  scored = rows(8, judge=judge, config=config)
  assert experience.rows == scored and all(row["valid"] for row in scored)
  assert all(row["calibration"] == 0.0 for row in scored)  # none of them is a chain
  assert experience.prompts.row_P.tolist() == list(range(len(IDS)))
  assert experience.prompts.length_P.tolist() == list(LENGTHS)
  counts = np.asarray(experience.rollout.mask_BC).sum(1)
  assert counts.tolist() == [row["completion_tokens"] for row in scored]
  assert experience.count_PG.ravel().tolist() == counts.tolist()
  block_BC = np.asarray(experience.block_BC)
  assert block_BC.dtype == np.int8 and block_BC.shape == experience.rollout.tokens_BC.shape
  for block in range(4):
    assert (experience.block_PGK[..., block].ravel() == (block_BC == block).sum(1)).all()


def test_blocks_of_tokens_that_split_characters():
  """Every byte is a token here, those of 中 and 🙂 too; the end token is outside of all blocks."""
  tokenizer, end = policy().tokenizer, EOS[-1]
  parts = ["<thinking>中 DQ</thinking>", "\n", "<payoff>{🙂</payoff>", "<response>é</response>"]
  inside = [0, -1, 1, 3]
  ids = [tokenizer.encode(part, add_special_tokens=False) for part in parts]
  assert any("\ufffd" in tokenizer.decode([each]) for each in ids[0])
  flat = [*(each for part in ids for each in part), end, 0]
  mask_BC = np.arange(len(flat)) < len(flat) - 1
  rollout = Rollout(np.asarray([flat]), mask_BC[None], mask_BC[None] * 0.0, np.ones(1, bool))
  expected = [block for part, block in zip(ids, inside) for _ in part] + [-1, -1]
  assert placement.block_ids(engine(eos=EOS), rollout, [np.zeros(0, int)]).tolist() == [expected]


class Refused:
  """A judge whose endpoint refuses every request."""

  def judge(self, questions):
    raise RunFailure(f"refused {len(questions)} questions")

  def statistics(self):
    return {}

  def close(self):
    pass


def test_a_judge_that_fails_on_one_process_fails_on_all(monkeypatch):
  there, tokenizer = engine(eos=EOS, slots=8), policy().tokenizer
  ids = np.array([tokenizer.encode("<response>2</response>", add_special_tokens=False)])
  ones = np.ones(ids.shape)
  ended = [Ended(0, Rollout(ids, ones, ones, np.ones(1, bool)))]
  told = []
  with pytest.raises(RunFailure, match="refused 1 questions"):
    monkeypatch.setattr(distributed, "gather_rows", lambda rows: told.append(rows) or rows)
    collect.heard(there, opening(RECORDS[:1]), ended, Environment(PLAIN, Refused()))
  assert told == [[{"failure": "refused 1 questions"}]]  # the others hear of it


@pytest.mark.parametrize("pricing", ["", "pay_per_token"])
def test_rows_say_what_their_offline_score_needs(pricing):
  """The condition and the tokens of the response are in the row: scored again, it is the same."""
  there, tokenizer = engine(eos=EOS, slots=8), policy().tokenizer
  chain = "<thinking>DQ</thinking><analyze>DQ_DA</analyze><response>It is 2 or so.</response>"
  ids = np.array([tokenizer.encode(chain, add_special_tokens=False)])
  ones = np.ones(ids.shape)
  tables = [None, {"alpha": 0.9}, {"pricing": "pay_per_token"}, {"pricing": "pay_per_character"}]
  records = [r._replace(extra_info={"condition": t}) for r, t in zip(RECORDS, tables)]
  ended = [Ended(p, Rollout(ids, ones, ones, np.ones(1, bool))) for p in range(len(tables))]
  one = there._replace(sampling=there.sampling._replace(group_size=1))
  config = RewardConfig(pricing=pricing)
  found = collect.heard(one, opening(records), ended, Environment(config, RuleJudge()))
  online = [row for rows in found.values() for row in rows]
  assert len({row["score"] for row in online}) == (3 if pricing else 4)
  assert all(row["response_tokens"] > 3 and row["user_reward"] > 0 for row in online)
  unscored = collect.heard(one, opening(records), ended, Environment(config))
  bare = [row for rows in unscored.values() for row in rows]  # of `gtalign generate`
  offline = score.score_rows(bare, config, RuleJudge())
  assert [row | more for row, more in zip(bare, offline)] == online
