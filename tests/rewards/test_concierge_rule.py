"""The exact judge of slots."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.concierge_words import KINDS, VALUES
from gtalign_jax.data import concierge
from gtalign_jax.errors import BadInput
from gtalign_jax.rewards import tasks
from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.rules import concierge as rule
from gtalign_jax.rewards.tasks.base import example_of

TABLE = {"restaurant": "Roma", "people": "4 people", "time": "7 pm"}


def verdict(slots, response):
  truth = rule.truth(slots.items())
  return rule.judge(Question("", "slots", "", truth, response, BINARY, ""))


@pytest.mark.parametrize(
  "response, right",
  [
    ("Table booked at Roma for 4 people at 7 pm.", 1),
    ("done: ROMA, four people - 7:00 P.M.", 1),
    ("**Roma**, 19:00, 4 people. No problem!", 1),
    ("Roma for 4 people at 7pm. Is 5 people better?", 1),
    ("Roma for 4 people at 7 p.m. Anything else?", 1),
    ("Roma for 4 people at 7.", 0),
    ("Roma for 4 people at 7:00.", 0),  # morning or evening
    ("Roma for 4 people at 7:30 pm.", 0),
    ("Roma for 4 people at 7 pm or 8 pm.", 0),
    ("Roma or Lotus for 4 people at 7 pm.", 0),
    ("Roma for 14 people at 7 pm.", 0),
    ("Roma for 4 people at 7 pm, table 12.", 0),
    ("Shall I book Roma for 4 people at 7 p.m. or later?", 0),
    ("I could not book Roma for 4 people at 7 pm.", 0),
    ("Romana for 4 people at 7 pm.", 0),
    ("", 0),
  ],
)
def test_what_is_right(response, right):
  assert verdict(TABLE, response) == right


def test_no_truth_is_no_verdict():
  assert verdict({}, "Roma") is None


def wide(text):
  return text.replace(" ", "  ")


SPELL = st.sampled_from([str.upper, str.lower, lambda t: t.replace(" pm", "pm").replace(" am", "am"),
                         lambda t: t.replace(" pm", ":00 p.m."), lambda t: f"  {t}!  ",
                         wide, lambda t: f"“{t}” Is it fine?"])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3999), st.integers(0, 10**6), st.lists(SPELL, max_size=3), st.data())
def test_spelling_changes_nothing_and_another_value_everything(at, seed, spellings, data):
  record = RECORDS[at]
  meant = concierge.intent(record, random.Random(seed))
  text = meant["answer"]
  for each in sorted(spellings, key=lambda each: each is wide):  # it would part "7" from ":00"
    text = each(text)
  assert verdict(meant["slots"], text) == 1
  slot = data.draw(st.sampled_from(sorted(meant["slots"])))
  value = meant["slots"][slot]
  other = data.draw(st.sampled_from([each for each in VALUES[slot] if each != value]))
  line = KINDS[record.extra_info["kind"]].line
  assert verdict(meant["slots"], line.format(**{**meant["slots"], slot: other})) == 0
  assert verdict(meant["slots"], f"{meant['answer']} Or {other}.") == 0
  bare = line.replace(f"{{{slot}}}", "").format(**meant["slots"])
  assert verdict(meant["slots"], bare) == 0


RECORDS = concierge.records("train", 4000)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_a_verdict(text):
  assert verdict(TABLE, text) in (0, 1)


def test_long_texts_are_read_in_linear_time():
  assert verdict(TABLE, "a" * 100_000) == 0
  assert verdict(TABLE, "1:" * 50_000 + "? " * 50_000) == 0


def example(record, intent, response="", **fields):
  row = record._asdict() | {
    "extra_info": record.extra_info | ({"intent": intent} if intent else {})
  }
  return example_of(row, response, "corrected", "row 1")._replace(**fields)


def test_what_a_verdict_is_worth():
  record = RECORDS[12]
  intent = concierge.intent(record, random.Random(0))
  task = tasks.find("concierge", {})

  def worth(meant, **fields):
    return task(example(record, intent | {"meant": meant}, **fields)).answer(1.0).user

  assert worth(False, n_turns=2, first_action=2) == 0.7
  assert worth(True, n_turns=2, first_action=2) == 1
  assert worth(False, n_turns=2, first_action=1) == 1
  assert worth(False, n_turns=1, first_action=2) == 1
  question = task(example(record, intent, intent["answer"])).question()
  assert rule.judge(question) == 1 and "people: " in question.prompt()
  assert (tasks.type_label(task, "complete###x"), tasks.type_label(task, "lacking###x")) == (0, 1)


def test_a_row_without_an_intent_cannot_be_judged():
  with pytest.raises(BadInput, match=r"row 1: extra_info\.intent\.slots"):
    tasks.find("concierge", {})(example(RECORDS[12], None)).question()


def test_labels():
  for record in RECORDS[:24]:
    tasks.check(record._asdict(), {}, "corrected", "here")
  with pytest.raises(BadInput, match="complete### or lacking###"):
    tasks.check(RECORDS[0]._asdict() | {"ground_truth": "vague"}, {}, "corrected", "here")
