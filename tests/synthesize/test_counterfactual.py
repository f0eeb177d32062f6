"""Chains of another matrix: fit, balanced, and read where the loss begins."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from gtalign_jax import jsonl
from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge, prompts, sources
from gtalign_jax.errors import BadInput
from gtalign_jax.game import edits
from gtalign_jax.models import tokenizer as tokenizers
from gtalign_jax.rewards import chain, features
from gtalign_jax.rollout import edit
from gtalign_jax.sections import DataConfig, SFTConfig
from gtalign_jax.synthesize import check, counterfactual, labels, sft_data, teacher
from gtalign_jax.train import sft
from gtalign_jax.types import ACTIONS

DATA = DataConfig(max_prompt_tokens=1536)
FAMILIES = DataConfig(sources=("ambig_qa", "math-hard", "medium", "wildguard"))
RECORDS = sources.load(FAMILIES, "test") + concierge.records("test", 48)
HALF = SFTConfig(max_tokens=9000, counterfactual=0.5)


@pytest.fixture(scope="module")
def own():
  return [labels.chain(record, 3) for record in RECORDS]


@pytest.fixture(scope="module")
def edited(own):
  return counterfactual.chains(RECORDS, own, 2 * len(RECORDS), 3)


def test_analysis_and_response_follow_the_other_matrix(own, edited):
  for each in edited:
    assert check.fault(each.text) is None, each.text
    found, before = chain.parse(each.text), chain.parse(own[each.of])
    assert found.thinking == before.thinking
    # the sums of the declared row, as every analysis states them
    row = features.user_type(found.thinking)
    for action, (llm, user) in zip(ACTIONS, found.payoff[row]):
      said = f"{('DQ', 'VQ')[row]}_{action} {llm:+.1f} {user:+.1f} = {llm + user + 0:+.1f}"
      assert said in found.analyze
    if features.named_cell(found.analyze) == features.named_cell(before.analyze):
      assert found.response == before.response


def test_each_action_is_the_choice_equally_often(own, monkeypatch):
  calls = []
  monkeypatch.setattr(
    edits, "priced", lambda *args, priced=edits.priced: calls.append(args) or priced(*args)
  )
  found = counterfactual.chains(RECORDS, own, 240, 5)
  actions = Counter(features.named_cell(chain.parse(each.text).analyze) % 3 for each in found)
  assert actions == {0: 80, 1: 80, 2: 80} and len(calls) == 120
  assert Counter(args[2] for args in calls) == {0: 40, 1: 40, 2: 40}
  assert found == counterfactual.chains(RECORDS, own, 240, 5)  # a function of its arguments
  # every chain has its turn before one has two
  assert max(Counter(each.of for each in found).values()) == -(-240 // len(RECORDS))


def test_the_loss_begins_where_a_policy_would_go_on(own):
  """What stands before the loss is, token by token, what steering makes of the chain's opening."""
  tiny = tokenizers.tiny()
  encoded = prompts.encode(RECORDS[::7], tiny, DATA)
  plain, _ = sft_data.examples(
    encoded, tiny, dataclasses.replace(HALF, counterfactual=0.0), seed=3, data_config=DATA
  )
  pairs, left_out = sft_data.examples(encoded, tiny, HALF, seed=3, data_config=DATA)
  n = len(plain)
  assert left_out == 0 and len(pairs) == 2 * n
  assert all(np.array_equal(a, b) for p, q in zip(plain, pairs) for a, b in zip(p, q))
  for context, tail in pairs[n:]:
    prompt, ids = next(
      (prompt, whole.tolist())
      for prompt, whole in plain
      if np.array_equal(context[: len(prompt)], prompt)
    )
    opening = context[len(prompt) :].tolist()
    text = tiny.decode([*opening, *tail[:-1]])
    assert check.fault(text) is None and tail[-1] == tiny.eos_token_id
    assert edit.STOP in tiny.decode(opening) and edit.STOP not in tiny.decode(opening[:-1])
    last = next(k for k in range(len(ids)) if edit.STOP in tiny.decode(ids[:k]))
    read = edit.read(tiny, ids[:last])
    other = edit.rewrite(read.text[slice(*read.span)], chain.parse(text).payoff)
    assert edit.splice(tiny, read, other) == opening
  # the loss is on the completions alone
  split = sft.split(pairs)
  assert [len(r) - s for r, s in zip(split.rests, split.starts)] == [len(t) for _, t in pairs]


@pytest.mark.parametrize("share, turns", [(0.25, 1), (0.5, 2), (0.75, 1)])
def test_the_share_is_of_all_examples(share, turns):
  tiny = tokenizers.tiny()
  config = vary(
    Config(), {"conversation.turns": turns, "sft.steps": 1, "sft.counterfactual": share}
  )
  records = concierge.records("train", 24)
  pairs, _ = sft_data.examples(
    prompts.encode(records, tiny, DATA),
    tiny,
    dataclasses.replace(config.sft, max_tokens=9000),
    seed=0,
    data_config=DATA,
    config=config,
  )
  own = sum("<thinking>" in tiny.decode(completion) for _, completion in pairs)
  assert own / len(pairs) == pytest.approx(1 - share, abs=0.02)


def test_chains_of_a_file_keep_their_form(tmp_path):
  """A teacher's: white space between blocks, keys in another order, more decimals."""
  payoffs = """{ "VQ_DA": {"user": 1, "LLM": -0.04}, "VQ_CQ": {"user": 3.25, "LLM": 2},
    "VQ_AQ": {"user": 0, "LLM": 0}, "DQ_DA": {"user": 1, "LLM": 1},
    "DQ_CQ": {"user": 1, "LLM": 1}, "DQ_AQ": {"user": 1, "LLM": 1} }"""
  text = (
    f"<thinking>It is VQ.</thinking>\n<payoff>{payoffs}</payoff>\n\n<analyze> VQ_CQ it is.\n"
    "</analyze>\n<response>Who?</response>"
  )
  assert check.fault(text) is None
  for each in counterfactual.chains(RECORDS[:1], [text], 12, 0):
    assert check.fault(each.text) is None
    assert each.text.startswith('<thinking>It is VQ.</thinking>\n<payoff>{ "VQ_DA": {"user":')
    assert "</payoff>\n\n<analyze>Sums: VQ_DA " in each.text
  path = tmp_path / "chains.jsonl"
  jsonl.write(path, [teacher.row(RECORDS[0], text.replace("VQ.", "open."))])
  with pytest.raises(BadInput, match=r"sft\.counterfactual has no effect: none of 1 chains"):
    sft_data.check(SFTConfig(data=str(path), counterfactual=0.25))
  sft_data.check(SFTConfig(data=str(path)))  # nobody asked for them


@pytest.mark.parametrize("share", [-0.1, 1.0, 2])
def test_the_share_leaves_whole_chains(share):
  with pytest.raises(BadInput, match=r"sft\.counterfactual=.*\[0, 1\)"):
    SFTConfig(counterfactual=share)


def test_without_a_warm_start_it_has_no_effect():
  with pytest.raises(BadInput, match=r"sft\.counterfactual=0\.25 has no effect with sft\.steps=0"):
    vary(Config(), {"sft.counterfactual": 0.25})
