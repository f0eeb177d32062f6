"""Concierge's closed form against conversations that are simulated and scored."""

import random
from collections import Counter

import numpy as np
import pytest

from gtalign_jax.concierge_words import KINDS
from gtalign_jax.data import concierge
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, judges, score
from gtalign_jax.types import ACTIONS
from gtalign_jax.users.base import LEFT, Talk
from gtalign_jax.users.rule import RuleUser

EACH = concierge.records("train", 2 * len(KINDS))  # a complete and a lacking request of each kind
DRAWS = 10_000
USER = RuleUser()
PATIENCE = ((0.9, 0.95), (1.0, 1.0), (0.7, 0.8))
PRICINGS = ({"name": "free"}, {
  "name": "priced", "shift": {"CQ": {"user": -0.4, "LLM": 0.2}, "AQ": {"user": -0.3}},
  "price_per_character": {"user": 0.01, "LLM": -0.002}, "price": {"user": 0.004},
})  # fmt: skip


@pytest.fixture(scope="module")
def draws():
  """Of each record, its intents and how often 10,000 draws gave each: (intent, count) pairs."""
  rng, found = random.Random(7), []
  for record in EACH:
    kept = {}
    counts = Counter()
    size = DRAWS if record.extra_info["lacking"] else 1  # else nothing is drawn
    for _ in range(size):
      intent = concierge.intent(record, rng)
      kept[intent["answer"]] = intent
      counts[intent["answer"]] += DRAWS // size
    found.append([(kept[answer], count) for answer, count in counts.items()])
  return found


def played(record, intent, action, config):
  """The row of the conversation of a perfect speaker with the rule user."""
  talk, reply, ended = [], None, "answered"
  for turn in range(2):
    completion = concierge.speak(record, "DA" if turn else action, config, reply)
    response = chain.parse(completion).response
    talk.append({"role": "assistant", "completion": completion, "response": response})
    history = [
      {"role": each["role"], "content": each.get("response", each.get("content"))} for each in talk
    ]
    said = USER.reply(Talk(record.id, "concierge", intent, record.messages[1:] + history))
    if said is LEFT:
      ended = "left"
      break
    reply = said.text
    talk.append({"role": "user", "content": reply})
  said = talk[::2]
  return record._asdict() | {
    "extra_info": record.extra_info | {"intent": intent}, "completion": said[0]["completion"],
    "turns": talk, "n_turns": len(said), "intent": intent, "ended": ended,
    "response_tokens": sum(len(each["response"]) for each in said) / 4,
  }  # fmt: skip


def with_pricing(record, policy):
  return record._replace(extra_info=record.extra_info | {"condition": {"pricing": policy}})


@pytest.mark.parametrize("policy", PRICINGS, ids=lambda each: each["name"])
@pytest.mark.parametrize("patience", PATIENCE)
def test_the_closed_form_is_the_mean_of_simulated_conversations(draws, patience, policy):
  config = RewardConfig(user_patience=patience[0], llm_patience=patience[1])
  rows, truth = [], []
  for record, drawn in zip(EACH, draws, strict=True):
    record = with_pricing(record, policy)
    expected_AR = concierge.true_payoffs(record, config)
    welfare_A = concierge.true_score(record, config)
    for a, action in enumerate(ACTIONS):
      rows += [played(record, intent, action, config) for intent, _ in drawn]
      truth.append((*expected_AR[a], welfare_A[a]))
  scored = score.score_rows(rows, config, judges.make(JudgeConfig()))
  assert all(each["valid"] and each["parsed"] and each["decision"] == 1 for each in scored)
  values = [[each["llm_reward"], each["user_reward"], each["score"]] for each in scored]
  counts = [np.array([count for _, count in drawn], float) for drawn in draws for _ in ACTIONS]
  at = 0
  for expected_C, count_N in zip(truth, counts, strict=True):
    value_NC = np.array(values[at : at + len(count_N)])
    at += len(count_N)
    mean_C = count_N @ value_NC / DRAWS
    spread_C = np.sqrt(count_N @ (value_NC - mean_C) ** 2 / DRAWS)
    assert (abs(mean_C - expected_C) <= 3 * spread_C / np.sqrt(DRAWS) + 1e-9).all()


def test_the_best_action_earns_the_most(draws):
  """In the simulation too: the means of the three actions are in the order of the closed form."""
  config = RewardConfig()
  for record, drawn in list(zip(EACH, draws, strict=True))[:: len(KINDS) // 2]:
    rows = [played(record, intent, action, config) for action in ACTIONS for intent, _ in drawn]
    scored = score.score_rows(rows, config, judges.make(JudgeConfig()))
    count_N = np.array([count for _, count in drawn], float)
    score_AN = np.reshape([each["score"] for each in scored], (3, -1))
    mean_A = score_AN @ count_N / DRAWS
    assert ACTIONS[int(mean_A.argmax())] == concierge.best_action(record, config)
