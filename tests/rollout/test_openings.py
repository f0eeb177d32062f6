"""Intervened rollouts: which prompts, which edits, and what the rows and metrics of a step say."""

import dataclasses
import math

import numpy as np
import pytest
from sampler_cases import engine
from scripted import POLICIES, encode, opening, tenths, tokenizer

from gtalign_jax import users
from gtalign_jax.config import Config, override
from gtalign_jax.conversation_section import MOST_TURNS, ConversationConfig
from gtalign_jax.data import concierge, concierge_chain, sources
from gtalign_jax.data.batches import Batch
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.game import conditions, edits, payoff, pricing
from gtalign_jax.models.vocabulary import spell
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, features, judges
from gtalign_jax.rewards.reward import reward
from gtalign_jax.rollout import collect, edit, intervene, openings
from gtalign_jax.rollout.engine import with_openings, with_turns
from gtalign_jax.rollout.intervene import Sampled
from gtalign_jax.rollout.placement import block_ids
from gtalign_jax.rollout.talk import Environment
from gtalign_jax.sections import DataConfig
from gtalign_jax.train import step_metrics
from gtalign_jax.types import ACTIONS, BLOCKS, CELLS

P, G = 8, 4
RULES = RewardConfig(llm_calibration=0.1)


def environment(turns=1, **data):
  talks = ConversationConfig(turns=turns, max_context_tokens=10**6)
  judge, user = judges.make(RULES.judge), users.connect(talks.user) if turns > 1 else None
  return Environment(RULES, judge, user, talks, DataConfig(max_prompt_tokens=600, **data))


def edited(number, thinking="So it is DQ.", where=None):
  """(the head of one prompt or None, what it spells)."""
  ids = encode(opening(tenths(number), thinking))
  prompt = np.asarray(encode("number 1"), np.int32)
  head = openings.edited(
    engine(), Sampled(f"0/{number}/p", 0, prompt, ids), where or environment(), 0
  )
  return head, head and spell(tokenizer(), list(head.ids))


def test_an_edit_makes_another_cell_of_the_declared_row_the_choice():
  kinds = set()
  for number in range(12):
    head, text = edited(number)
    found = chain.parse(text + "<analyze>.</analyze><response>.</response>")
    own = int(payoff.choose(tenths(number) / 10, features.user_type(found.thinking)))
    new = int(payoff.choose(found.payoff, features.user_type(found.thinking)))
    assert CELLS[new] == head.edited and new != own and new // 3 == own // 3
    kinds.add(head.charge.name == "swap")
    gained = np.asarray(head.charge.shift)
    np.testing.assert_allclose(found.payoff[new // 3], tenths(number)[new // 3] / 10 + gained)
  assert kinds == {True, False}  # swaps and prices


def test_swaps_alone_where_no_type_is_declared():
  assert {edited(number, thinking="Hm.")[0].charge.name for number in range(6)} == {"swap"}


def test_what_cannot_be_edited_stays_whole():
  assert edited(0, where=environment()._replace(data=DataConfig(max_prompt_tokens=64)))[0] is None
  nothing = Sampled("0/0/p", 0, np.zeros(3, np.int32), encode("<thinking>So"))
  assert openings.edited(engine(), nothing, environment(), 0) is None


def test_each_step_draws_so_many_prompts_anew():
  drawn = [openings.drawn([f"{step}/{p}/x" for p in range(P)], 3, 0) for step in range(20)]
  assert all(len(set(each)) == 3 and each == sorted(each) for each in drawn)
  assert {p for each in drawn for p in each} == set(range(P))


def test_openings_draw_numbers_that_nothing_else_does():
  first, most = openings.FIRST_ROW, collect.ROWS_OF_TURN
  assert MOST_TURNS * most <= first and first + most <= 2**31


def step_of(name, monkeypatch, share=0.5, step=1, turns=1, pricing=""):
  """(experience with rewards, metrics) of a step of a scripted policy; half of it is intervened."""
  for module in (collect, intervene):
    monkeypatch.setattr(module, "stream", POLICIES[name].stream)
  where = environment(turns)
  where = where._replace(rewards=dataclasses.replace(RULES, pricing=pricing))
  made = with_turns(engine(budget=512, slots=P), where.conversation, P)
  made = with_openings(made, share, P, made.stop_table, made.buckets)
  records = [
    Record(f"p{p}", "math-hard", [{"role": "user", "content": f"number {p}"}], "2", {})
    for p in range(P)
  ]
  batch = Batch(records, [np.asarray(encode(f"number {p}"), np.int32) for p in range(P)])
  given = (made, None, batch, None, step, where)
  found = collect.collect(*given, heads=openings.edited_openings(*given))
  found = reward(found, RULES, "step 1")
  return made, found, step_metrics.rewards(found)


@pytest.mark.parametrize("name, follow", [("honest", 1.0), ("blind", 0.6)])
def test_a_step_tells_whether_its_edited_payoffs_decide(name, follow, monkeypatch):
  made, found, metrics = step_of(name, monkeypatch)
  assert metrics["rollout/intervened_frac"] == 0.5
  assert metrics["game/follow"] == metrics["game/carry"]
  assert metrics["game/follow"] == 1.0 if follow == 1 else metrics["game/follow"] < follow
  rows, edited = found.rows, ["intervened" in row for row in found.rows]
  for row in rows:
    assert row["format"] == 1 and row["parsed"]
  # others' matrices are not the policy's, nor are their predictions
  own = [row for row, out in zip(rows, edited) if not out]
  assert metrics["completions/mean_length"] == np.mean([row["completion_tokens"] for row in own])
  assert {row["calibration"] for row, out in zip(rows, edited) if out} == {None}
  if name == "honest":
    assert metrics["game/payoff_icc"] == 1.0
    assert {row["decision"] for row in rows} == {1.0}
  # the opening is prompt: it is neither sampled nor trained on, and blocks are told behind it
  blocks = block_ids(made, found.rollout, [found.prompts[b // G] for b in range(P * G)])
  for b, row in enumerate(rows):
    length = found.head_P[b // G]
    assert (length > 0) == edited[b]
    head = spell(tokenizer(), found.prompts[b // G][len(found.prompts[b // G]) - length :].tolist())
    assert row["completion"].startswith(head) and row["prompt_tokens"] == len(encode("number 1"))
    assert row["completion_tokens"] == length + found.count_PG[b // G, b % G]
    assert set(blocks[b][blocks[b] >= 0]) == ({2, 3} if edited[b] else set(range(len(BLOCKS))))


@pytest.mark.parametrize("stated", ["", "pay_per_token"])
def test_what_an_edit_has_added_is_charged(stated, monkeypatch):
  """Beside the prices that the run has anyway; nobody else is charged more than those."""
  _, found, _ = step_of("honest", monkeypatch, pricing=stated)
  own = pricing.PRESETS[stated or "free"]
  for row in found.rows:
    policy = conditions.of(row["extra_info"], row["id"]).pricing
    if "intervened" not in row:
      assert policy is None
      continue
    assert policy.price == own.price and any(map(any, policy.shift))
    assert row["intervened"]["by"] in ("swap", "drawn", *pricing.PRESETS)


def test_following_an_edited_matrix_pays():
  """Conversations of concierge's perfect speaker: those that go by another matrix earn more."""
  config = override(Config(), ["data.sources=('concierge',)", "conversation.turns=2"])
  charged, goes, stays = {}, [], []
  for number, record in enumerate(sources.load(config.data, "train")[:16]):
    text = concierge.speak(record, None, config.rewards)
    found = chain.parse(text)
    own, u = found.payoff, features.user_type(found.thinking)
    action = (edits.choice(own, u) + 1 + number % 2) % 3
    matrix = edits.swapped(own, u, action)
    charge = pricing.table(openings.charge(own, openings.Edit(matrix, 3 * u + action, "swap")))
    more = {conditions.KEY: {"pricing": charge}}
    request = record.messages[-1]["content"]
    charged[request] = record._replace(extra_info=record.extra_info | more)
    head, rest = text.replace(*blocks_of(text, matrix)).split("</payoff>")
    analysis = concierge_chain.analysis(np.rint(10 * matrix).astype(int), u, ACTIONS[action])
    said = concierge.response(record, ACTIONS[action])
    goes.append(f"{head}</payoff><analyze>{analysis}</analyze><response>{said}</response>")
    stays.append(f"{head}</payoff>{rest}")

  def earned(texts):
    def assistant(chats):
      if len(chats) == len(texts) and chats[0][-1]["content"] in charged:
        return texts
      return [
        concierge.speak(charged[chat[-3]["content"]], "DA", config.rewards, chat[-1]["content"])
        for chat in chats
      ]

    played = collect.play(assistant, list(charged.values()), config, 0)
    return [row["utility"] for row in played]

  assert len(charged) == len(goes)
  assert np.mean(np.greater(earned(goes), earned(stays))) > 0.75


def blocks_of(text, matrix):
  """The payoff block of a chain, and the same with another matrix."""
  block = text[slice(*chain.parse(text).spans[1])]
  return block, edit.rewrite(block, matrix)


def test_conversations_go_on_from_edited_openings(monkeypatch):
  _, found, metrics = step_of("honest", monkeypatch, turns=2)
  asked = [b for b, row in enumerate(found.rows) if row["n_turns"] == 2]
  assert any("intervened" in found.rows[b] for b in asked) and metrics["game/follow"] == 1.0
  assert found.later.parent_P.tolist() == asked and found.later.head_P is None
  for b in asked:
    first, reply, second = found.rows[b]["turns"]
    assert first["completion"] == found.rows[b]["completion"] and first["action"] in ("CQ", "AQ")
    assert second["completion"].count("<payoff>") == 1 and reply["content"]
    if "intervened" in found.rows[b]:
      assert found.rows[b]["named_cell"] == found.rows[b]["intervened"]["edited"]
    # what a condition of the edit charges is said to nobody
    assert "Pricing" not in spell(tokenizer(), found.later.prompts[asked.index(b)].tolist())


def test_without_interventions_nothing_is_drawn_or_said(monkeypatch):
  _, found, metrics = step_of("honest", monkeypatch, share=0.0)
  assert found.head_P is None and not any("intervened" in row for row in found.rows)
  assert "game/follow" not in metrics and not math.isnan(metrics["reward"])


@pytest.mark.parametrize(
  "assignments, said",
  [
    ("rollout.intervene=1", r"must lie in \[0, 1\), 1 excluded"),
    ("rollout.intervene=0.05", "of grpo.prompts_per_step=8 that is 0"),
    ("rollout.intervene=0.97", "of grpo.prompts_per_step=8 that is 8"),
    ("rollout.intervene=0.25", "max_new_tokens=576 tokens, more than the largest"),
    ("rollout.intervene=0.25 rollout.prompt_buckets=(256,576) rewards.mode=paper", "mode='paper'"),
    ("rollout.intervene=0.25 grpo.steps=0 sft.steps=3", "has no effect with grpo.steps=0"),
  ],
)
def test_interventions_that_cannot_be_are_refused(assignments, said):
  with pytest.raises(BadInput, match=said):
    override(Config(), assignments.split())
  assert override(Config(), ["rollout.intervene=0.25", "rollout.prompt_buckets=(256,576)"])
