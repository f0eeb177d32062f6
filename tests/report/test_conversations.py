"""Conversations and the measured game on the report."""

import re

import numpy as np
import pytest
from workdirs import EVIL, Page, chain_text, jsonl, make

from gtalign_jax import config as configs
from gtalign_jax import report
from gtalign_jax.data import concierge
from gtalign_jax.report import charts, conversations, measured
from gtalign_jax.report.labels import ENDED_WORDS
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import score
from gtalign_jax.rewards.conversation import ENDED
from gtalign_jax.rollout import collect
from gtalign_jax.types import CELLS

RESPONSES = {
  "DA": "The sum of them all is 144.",
  "CQ": "Which of the two games do you mean?",
  "AQ": "The first games were in 1896 in Athens. Or did you mean others?",
}


# what a user model may write: markup, the assistant's own tags, control characters and tokens
SAID = f"I mean the games of 1908. {EVIL}</response><payoff>{{}}</payoff>\x1b[2J<|im_end|>\x85"


def talk(number, cells, ended="answered", said="The games of 1908.", source="ambig_qa"):
  """A conversation whose turns take `cells`, one after the other, scored by the real scorer."""
  turns = []
  for cell in cells:
    response = RESPONSES[cell[3:]]
    text = chain_text(cell, f"It is {cell[:2]}.", response, np.random.default_rng(number))
    turns += [{"role": "user", "content": said}] if turns else []
    turn = {"role": "assistant", "completion": text, "response": response, "action": cell[3:]}
    turns.append(turn)
  if ended == "unreadable":
    turns[-1] |= {"completion": "Sure! <b>1908</b>", "response": None}
  row = {
    "id": f"p{number}#0", "sample": 0, "data_source": source, "ground_truth": "singleAnswer###1908",
    "prompt": [{"role": "user", "content": "When were the games?"}], "extra_info": {},
    "completion": turns[0]["completion"], "completion_tokens": 200 * len(cells),
    "turns": turns, "n_turns": len(cells), "ended": ended, "judge_score": number % 2,
    "intent": {"kind": "meaning", "text": "the games in London", "answer": "1908"},
  }  # fmt: skip
  (scored,) = score.score_rows([row], RewardConfig(), None)
  return row | scored


def talks(**how):
  """Every cell twice, in two turns where the first one asks, and each way to end."""
  plans = [([cell] if cell[3:] == "DA" else [cell, "DQ_DA"], "answered") for cell in 2 * CELLS]
  plans += [(["VQ_AQ"], "left"), (["VQ_CQ", "VQ_CQ"], "turns")]
  plans += [(["VQ_CQ", "DQ_DA"], "unreadable"), (["VQ_CQ"], "invalid")]
  return [talk(number, *plan, **how) for number, plan in enumerate(plans)]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  made = make(tmp_path_factory.mktemp("run") / "talks", gains=(("base", 0.5),))
  jsonl(made / "eval" / "grpo.jsonl", talks(said=SAID))
  return made


@pytest.fixture(scope="module")
def text(workdir):
  return report.write(workdir).read_text()


def words(html):
  return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_a_conversation_is_shown_turn_by_turn(text):
  assert Page(text).open == []
  highest, _, lowest = (each.split("</article>")[0] for each in text.split("<article>")[1:])
  assert "Sample chains" not in text
  for article, matrices, ended in ((highest, 2, "answered"), (lowest, 1, "unreadable chain")):
    assert article.count('<div class="turn">') == 2  # those with a reply of the user come first
    assert article.count('<div class="turn user">') == 1
    assert article.count('class="matrix"') == article.count(">named</span>") == matrices
    assert article.count("<details><summary") == matrices and f"Ended: {ended}." in article
    assert "the games in London" in article and re.search(
      r"W\s0\.\d+ · U\s0\.\d+ · L\s0\.", article
    )
  assert "It is DQ." in highest and RESPONSES["DA"] in highest
  assert "refused: missing_block" in lowest and "Sure! &lt;b&gt;1908&lt;/b&gt;" in lowest


def test_what_a_user_wrote_is_text(text):
  assert "<script" not in text and "im_end|>" not in text
  said = next(each for each in Page(text).text if "I mean the games" in each)
  for each in ("<script>alert('x')</script>\"'&", "</response><payoff>{}</payoff>", "␛[2J", "␀"):
    assert each in said
  assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


def test_the_ways_to_end_are_counted(workdir):
  assert set(ENDED_WORDS) == set(ENDED)
  head, (row,) = conversations.table(report.load(workdir))
  assert dict(zip(head, row)) == {
    "policy": "GRPO", "conversations": "16", "turns": "1.62", "answered": "75 %",
    "the user left": "6 %", "out of turns": "6 %", "unreadable chain": "6 %",
    "the user failed": "6 %",
  }  # fmt: skip


@pytest.mark.parametrize(
  "ended, shown", [("unreadable", "missing_block"), ("turns", "out of turns")]
)
def test_each_end_is_told(ended, shown):
  (sample,) = conversations.samples([talk(0, ["VQ_CQ", "DQ_DA"], ended)], "strict")
  assert shown in (sample["ended"], sample["turns"][-1].get("refused"))
  # a chain that reads well, but that the rollout refused for a control token in it
  row = talk(0, ["VQ_CQ", "DQ_DA"])
  row["turns"][-1]["response"] = None
  (sample,) = conversations.samples([row], "strict")
  assert sample["turns"][-1]["refused"] == "no response"


def test_a_response_in_a_refused_chain_is_what_the_user_saw():
  row = talk(0, ["VQ_CQ", "DQ_DA"])
  row["turns"][0] |= {"completion": "<response>Which?</response>", "response": "Which?"}
  (sample,) = conversations.samples([row], "strict")
  first, second = sample["turns"][0], sample["turns"][-1]
  assert (first["response"], first["refused"]) == ("Which?", "missing_block")
  assert second["response"] == RESPONSES["DA"] and "refused" not in second


def test_without_evaluations_samples_of_training_are_shown(tmp_path):
  made = make(tmp_path / "run", gains=())
  (made / "metrics.jsonl").unlink()
  jsonl(made / "samples" / "step_000002.jsonl", [talk(0, ["VQ_CQ"])])
  jsonl(made / "samples" / "step_000010.jsonl", [talk(1, ["VQ_CQ", "DQ_DA"])])
  text = report.write(made).read_text()
  assert text.count('<div class="turn user">') == 1 and "From the last step" in text


@pytest.mark.parametrize("turns", [None, [], "x", [3], [{"role": "assistant"}], [{"content": 3}]])
def test_rows_without_turns_are_no_conversations(turns):
  row = talk(0, ["VQ_CQ"]) | {"turns": turns}
  assert conversations.turns(row) == conversations.samples([row], "strict") == []


def test_the_measured_game_is_the_mean_of_what_came_out(workdir, text):
  section = text[text.index("<section><h2>The game as played") :].split("</section>")[0]
  rows = [row for row in report.load(workdir).rows["grpo"] if row["valid"]]
  # the label says that the question is definite, whatever the chains declare
  asked = [10 * row["user_reward"] - 5 for row in rows if row["action"] == "CQ"]
  assert f"user {np.mean(asked):.2f}<br>" in section.replace("<span", "<br><span")
  assert f"n {len(asked)}<" in section and "15 completions" in section
  assert "No completion: VQ_DA, VQ_CQ, VQ_AQ." in words(section)
  assert "Equilibria, measured: none, since" in words(section)


def test_empty_cells_are_named_and_their_actions_out_of_play():
  rows = [row | {"type_label": None} for row in talks() if row["named_cell"] != "DQ_CQ"]
  (game,) = measured.games(rows)
  (_, table), (_, imagined) = game["tables"]
  assert table[0][1][1]["numbers"] == [] and table[0][1][1]["tags"] == [("", "n 0")]
  assert len(imagined[0][1][1]["numbers"]) == 2
  assert game["notes"][0] == "No completion: DQ_CQ."
  assert "among the actions seen with both user types (DA, AQ)" in game["notes"][1]
  assert measured.games([row | {"user_type": None} for row in rows]) == []
  assert measured.games([{"id": "of another tool", "user_reward": 1.0}]) == []
  several = measured.games(rows + talks(source="medium"))
  assert [each["title"] for each in several] == ["All prompts", "ambig_qa", "medium"]


def test_a_known_solution_stands_beside_the_measured_game():
  """Played by the real loop: the best assistant against the rule user of concierge."""
  config = configs.override(configs.Config(), ["conversation.turns=2"])
  records = concierge.records("test", 24)
  of = {record.messages[-1]["content"]: record for record in records}

  def assistant(chats):
    for messages in chats:
      said = [each["content"] for each in messages if each["role"] == "user"]
      record = next(record for asked, record in of.items() if asked in said[0])
      yield concierge.speak(record, None, config, said[1] if said[1:] else None)

  rows = collect.play(lambda chats: list(assistant(chats)), records, config, seed=0)
  (game,) = measured.games(rows)
  measures, _, (name, true) = game["tables"]
  assert name == "true" and game["n"] == 24
  # nothing is left to chance where a complete request is answered
  assert true[0][1][0]["numbers"] == measures[1][0][1][0]["numbers"]
  head = conversations.samples(rows, "strict")[0]["scores"]
  assert "regret 0" in head
  assert len([each for each in true[1][1] if len(each["numbers"]) == 2]) == 3


def test_equilibria_are_those_of_the_actions_in_play():
  game_UAR = np.array([[[2, 2], [9, 9], [0, 0]], [[0, 0], [0, 0], [1, 1]]], float)
  assert measured.equilibria(game_UAR)[0] == ["DQ_CQ", "VQ_AQ"]
  game_UAR[1, 1] = np.nan  # nobody asked a vague question back
  pure, said = measured.equilibria(game_UAR)
  assert pure == ["DQ_DA", "VQ_AQ"] and "DQ 33 % / VQ 67 % with DA 33 % / AQ 67 %" in said
  assert "tie" not in said
  none, said = measured.equilibria(np.full((2, 3, 2), np.nan))
  assert none == [] and said.startswith("none, since")
  assert "Some replies tie" in measured.equilibria(np.zeros((2, 3, 2)))[1]


def test_curves_of_evaluations_alone_are_drawn():
  rows = [{"phase": "eval", "step": 0, "policy": "sft", "game/regret": 0.2}]
  rows += [{"phase": "grpo", "step": 1, "W": 0.5}]
  assert [title for title, _ in charts.curves(rows)] == ["Welfare W", charts.PANELS[4].title]
