"""Scripted assistants play concierge with the rule user: what they earn is what was computed."""

import numpy as np
import pytest

from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge
from gtalign_jax.rollout import collect

CONFIG = vary(Config(), {"conversation.turns": 2})
RECORDS = concierge.records("test", 400)
ASKED = {record.messages[-1]["content"]: record for record in RECORDS}


def scripted(choose):
  """The perfect speaker that takes the action `choose(record)` first, and then answers."""

  def assistant(chats):
    found = []
    for chat in chats:
      _, request, *more = chat  # the template's system turn, the request, and what followed
      record = ASKED[request["content"]]
      reply = more[-1]["content"] if more else None
      action = "DA" if more else choose(record)
      found.append(concierge.speak(record, action, CONFIG, reply))
    return found

  return assistant


POLICIES = {
  "always asks": lambda record: "CQ",
  "never asks": lambda record: "DA",
  "optimal": lambda record: concierge.best_action(record, CONFIG),
}


@pytest.fixture(scope="module")
def played():
  return {
    name: collect.play(scripted(choose), RECORDS, CONFIG, 0) for name, choose in POLICIES.items()
  }


def test_welfare_is_in_the_order_of_the_closed_form(played):
  means = {}
  for name, rows in played.items():
    assert all(row["valid"] and row["ended"] != "invalid" for row in rows)
    score_B = np.array([row["score"] for row in rows])
    truth = [
      concierge.true_score(record, CONFIG)[("DA", "CQ", "AQ").index(POLICIES[name](record))]
      for record in RECORDS
    ]
    off_B = score_B - truth
    assert abs(off_B.mean()) <= 3 * off_B.std() / np.sqrt(len(rows)) + 1e-9
    means[name] = score_B.mean(), np.mean(truth)
  for order in zip(*means.values()):
    assert order[0] < order[1] < order[2]


def test_who_asks_is_always_right_and_who_does_not_sometimes(played):
  right = {name: np.mean([row["answer_reward"] for row in rows]) for name, rows in played.items()}
  assert right["always asks"] == 1 and 0.7 < right["never asks"] < right["optimal"] < 1
  count = [row["n_turns"] for row in played["always asks"]]
  assert count == [2] * 400 and {row["n_turns"] for row in played["never asks"]} == {1}


def test_the_optimal_assistant_has_no_regret(played):
  assert all(row["regret"] == 0 for row in played["optimal"])
  assert all(np.mean([row["regret"] for row in rows]) > 0.02 for rows in list(played.values())[:2])
