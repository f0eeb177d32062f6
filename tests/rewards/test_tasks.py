"""Tasks: what the table says, and labels that are checked without a completion."""

import pytest
from samples import chain, row

from gtalign_jax.data import sources
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import Table
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, score, tasks
from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.tasks.base import Task, example_of, same_credit
from gtalign_jax.sections import DataConfig

NONE = Table()
GOOD = {
  "math-hard": ["42", ""],  # some released rows have an empty one
  "minerva": ["3.2 m"],
  "ambig_qa": ["singleAnswer###Paris", "multipleQAs###Meaning 1: a; Answer 1: b"],
  "abg-coqa": ["ambiguous", "non_ambiguous"],
  "medium": ["A text."],
  "wildguard": ["harmful", "unharmful"],
  "advbench": ["Sure, here is", None, 3],
  "concierge": ["complete###day", "lacking###day"],
}
BAD = {
  "math-hard": [None, 42],
  "minerva": [None],
  "ambig_qa": [None, "Paris", "singleAnswer"],
  "abg-coqa": [None, "yes"],
  "medium": [None, ["A text."]],
  "wildguard": [None, "Harmful", "harmful###", ""],
  "concierge": [None, "complete", "vague###day"],
}
EXTRA = {"intent": {"kind": "slot", "slots": {"day": "today"}}}  # what concierge is judged by


def record(source, truth):
  return {"id": "r7", "data_source": source, "ground_truth": truth, "extra_info": EXTRA}


@pytest.mark.parametrize(("source", "truth"), [(s, t) for s, all in GOOD.items() for t in all])
def test_labels_that_a_task_knows(source, truth):
  tasks.check(record(source, truth), NONE, "corrected", "here")
  tasks.check(record(source, truth), NONE, "paper", "here")


@pytest.mark.parametrize(("source", "truth"), [(s, t) for s, all in BAD.items() for t in all])
def test_labels_that_it_does_not_know(source, truth):
  with pytest.raises(BadInput) as caught:
    tasks.check(record(source, truth), NONE, "corrected", "split 'train', record 'r7'")
  line = str(caught.value)
  assert line.startswith(f"split 'train', record 'r7': ground_truth={truth!r} must be ")
  assert f"data_source {source!r}" in line and "rewards.tasks" in line and "\n" not in line


def test_all_records_of_the_sample_set_pass():
  for split in ("train", "test"):
    found = sources.load(DataConfig(), split)
    for each in found:
      tasks.check(each._asdict(), NONE, "corrected", each.id)
    assert len(found) > 50


def test_scoring_makes_the_same_check_whatever_was_sampled():
  for text in (chain(), "no chain at all"):
    with pytest.raises(BadInput, match="ground_truth=None must be text"):
      score.score_rows(
        [row(text, truth=None, judge=...)], RewardConfig(), judges.make(JudgeConfig())
      )


def test_a_row_that_brings_its_verdict_needs_no_label_unless_the_credit_reads_it():
  tasks.check(record("math-hard", None) | {"judge_score": 1}, NONE, "corrected", "here")
  for source in ("medium", "wildguard"):
    with pytest.raises(BadInput, match="ground_truth"):
      tasks.check(record(source, None) | {"judge_score": 1}, NONE, "corrected", "here")
  tasks.check(record("wildguard", "Harmful") | {"judge_score": 1}, NONE, "paper", "here")


def test_unknown_sources_are_named():
  with pytest.raises(BadInput, match=r"here: data_source='poems'.*rewards\.tasks="):
    tasks.check(record("poems", "x"), NONE, "corrected", "here")
  with pytest.raises(BadInput, match="here: data_source='None' must be text"):
    tasks.check({"id": "r"}, NONE, "corrected", "here")


def counted(example):
  """A user's task that reads a number from the label, and a key of extra_info."""
  limit = int(example.ground_truth) + example.extra_info["more"]

  def question():
    return Question(example.id, "counted", "", example.text_truth(), example.response, BINARY, "")

  return Task(BINARY, lambda verdict: same_credit(verdict * limit), question)


def test_own_tasks_are_tried():
  own = Table({"mine": f"{__name__}:counted"})
  good = record("mine", "3") | {"extra_info": {"more": 1}}
  tasks.check(good, own, "corrected", "here")
  for change, said in (
    ({"ground_truth": "three"}, "ValueError: invalid literal"),
    ({"extra_info": None}, "KeyError: 'more'"),
    ({"ground_truth": 3}, "must be text for data_source 'mine'"),
  ):
    with pytest.raises(BadInput, match=said) as caught:
      tasks.check(good | change, own, "corrected", "here")
    assert str(caught.value).startswith("here: ") and "rewards.tasks" in str(caught.value)


def test_rubrics_have_a_place_for_each_part():
  for source, task in tasks.TASKS.items():
    example = example_of(record(source, GOOD[source][0]), "REPLY-7", "corrected", "here")
    question = task(example._replace(asked="ASKED-7")).question()
    text = question.prompt()
    assert "REPLY-7" in text and "ASKED-7" in text and question.truth in text
    assert text.rstrip().rsplit("\n", 1)[1].startswith("VERDICT: ")
