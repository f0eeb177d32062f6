"""Scripted assistants on concierge: conversations end as the closed form says."""

import collections
import json

import numpy as np
import pytest

from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge
from gtalign_jax.errors import BadInput
from gtalign_jax.rollout.collect import play, summary
from gtalign_jax.types import ACTIONS

CONFIG = vary(Config(), {"conversation.turns": 2})
RECORDS = concierge.records("test", 400)
BY_REQUEST = {record.messages[-1]["content"]: record for record in RECORDS}


def script(choose):
  """An assistant that speaks perfectly, and whose first action is `choose(record)`."""

  def assistant(chats):
    texts = []
    for chat in chats:
      asked = next(m["content"] for m in chat if m["role"] == "user")
      record = next(r for request, r in BY_REQUEST.items() if asked.endswith(request))
      replied = [m["content"] for m in chat if m["role"] == "user"][1:]
      action = "DA" if replied else choose(record)
      texts.append(concierge.speak(record, action, CONFIG, *replied))
    return texts

  return assistant


def best(record):
  return concierge.best_action(record, CONFIG)


ASSISTANTS = {"ask": lambda _: "CQ", "never": lambda _: "DA", "best": best}


@pytest.fixture(scope="module")
def played():
  return {name: play(script(choose), RECORDS, CONFIG, 0) for name, choose in ASSISTANTS.items()}


def test_welfare_is_in_the_order_of_the_closed_form(played):
  means, expected = {}, {}
  for name, choose in ASSISTANTS.items():
    rows = played[name]
    scores = np.array([row["score"] for row in rows])
    wanted = [
      concierge.true_score(record, CONFIG)[ACTIONS.index(choose(record))] for record in RECORDS
    ]
    means[name], expected[name] = scores.mean(), np.mean(wanted)
    error = (scores - wanted).std() / np.sqrt(len(rows))
    assert abs(means[name] - expected[name]) <= 3 * error + 1e-9, name
  order = sorted(expected, key=expected.get)
  assert order[-1] == "best" and sorted(means, key=means.get) == order


def test_the_best_assistant_has_no_regret(played):
  found = {name: summary(rows)["game/regret"] for name, rows in played.items()}
  assert found["best"] == 0 < found["never"] and found["ask"] > 0


def test_how_conversations_end(played):
  ends = {
    name: collections.Counter((row["ended"], row["n_turns"]) for row in rows)
    for name, rows in played.items()
  }
  assert ends["ask"] == {("answered", 2): 400} and ends["never"] == {("answered", 1): 400}
  assert {*ends["best"]} == {("answered", 1), ("answered", 2), ("left", 1)}
  assert all(row["valid"] and row["parsed"] for rows in played.values() for row in rows)
  assert {row["answer_reward"] for row in played["ask"]} == {1.0}
  assert json.loads(json.dumps(played)) == played  # rows are written as they are


def test_one_turn_is_the_game_without_a_user():
  config, records = Config(), RECORDS[:40]
  rows = play(script(lambda _: "CQ"), records, config, 0)
  assert not any("turns" in row for row in rows)
  assert {row["answer_reward"] for row in rows} == {0.0}  # a question earns nothing by itself
  again = play(script(lambda _: "DA"), records, config, 0)
  same = play(script(lambda _: "DA"), records, CONFIG, 0)
  for one, two in zip(again, same, strict=True):  # value for value
    assert {k: one[k] for k in ("score", "user_reward", "llm_reward", "answer_reward")} == {
      k: two[k] for k in ("score", "user_reward", "llm_reward", "answer_reward")
    }


def test_a_seed_gives_the_same_users_and_another_one_others():
  one, two, three = (
    [row["intent"] for row in play(script(best), RECORDS[:80], CONFIG, seed)] for seed in (0, 0, 1)
  )
  assert one == two != three


@pytest.mark.parametrize("text", ["", "Hello?", "<response>Who?</response>" * 2, "<response>"])
def test_what_cannot_be_shown_ends_the_talk(text):
  rows = play(lambda chats: [text] * len(chats), RECORDS[:2], CONFIG, 0)
  assert {(row["ended"], row["n_turns"]) for row in rows} == {("unreadable", 1)}
  assert all(row["valid"] and row["answer_reward"] == 0 for row in rows)


def test_an_assistant_that_forgets_a_chat_is_told():
  with pytest.raises(BadInput, match="2 chats and gave 1 completions"):
    play(lambda chats: ["x"] * (len(chats) - 1), RECORDS[:2], CONFIG, 0)


def test_a_model_may_play_the_user():
  config = vary(CONFIG, {"conversation.user.kind": "policy", "conversation.user.max_words": 3})
  rows = play(
    script(lambda _: "CQ"), RECORDS[:4], config, 0, lambda chats: ["Any one will do."] * len(chats)
  )
  assert [row["turns"][1]["content"] for row in rows] == ["Any one will"] * 4
  with pytest.raises(BadInput, match="needs a model in this process"):
    play(script(lambda _: "CQ"), RECORDS[:4], config, 0)


def test_rows_are_taken_as_records_are():
  rows = [
    {
      "id": record.id,
      "data_source": record.data_source,
      "prompt": record.messages,
      "reward_model": {"ground_truth": record.ground_truth},
      "extra_info": record.extra_info,
    }
    for record in RECORDS[:8]
  ]
  assert play(script(best), rows, CONFIG, 0) == play(script(best), RECORDS[:8], CONFIG, 0)
  with pytest.raises(BadInput, match=r"^records\[0\]: data_source"):
    play(script(best), [{"prompt": []}], CONFIG, 0)
