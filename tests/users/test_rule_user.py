"""The rule user: what it takes for an apt question, for an answer, and when it leaves."""

import time

import pytest
from talks import ASKED, COMPLETE, DRAFT, MEANING, SLOT, STATEMENT, talk

from gtalign_jax import confirmation, users
from gtalign_jax.data import concierge, concierge_chain, intents
from gtalign_jax.endpoint_sections import UserConfig
from gtalign_jax.types import ACTIONS
from gtalign_jax.users.base import LEFT, NO_ANSWER, Said
from gtalign_jax.users.role import TEXTS

USER = users.connect(UserConfig())
NOTHING = Said(TEXTS["nothing"])
WHO = "Who directed Cinderella?"
HALF = "What is the number?"
LETTER = "Draft a letter for me."


def corrected(intent):
  return Said(f"No, I meant this: {intent['text']}")


@pytest.mark.parametrize(
  "intent, asked, question",
  [
    (SLOT, ASKED, "For how many people?"),
    (SLOT, ASKED, "Sure! What is the number of people?"),
    (SLOT, ASKED, "How many guests will come\uff1f"),
    (SLOT, ASKED, "<response> For how many people? </response>"),
    (SLOT, ASKED, "Thank you for your request.\n\nHow many guests? And what is the occasion?"),
    (COMPLETE, ASKED, "Shall I go on with that number of people?"),
    (COMPLETE, ASKED, "Anything else?"),
    (MEANING, WHO, "Which film do you mean?"),
    (MEANING, WHO, "Happy to help! Is it the live-action one?"),
    (MEANING, WHO, "The animated one?"),
    (STATEMENT, HALF, "Which number do you mean?"),
    (STATEMENT, HALF, "Could you share the full problem statement?"),
    (DRAFT, LETTER, "To whom should the letter go?"),
    (DRAFT, LETTER, "What is the purpose?"),
  ],
)
def test_an_apt_question_gets_the_fact_in_the_records_words(intent, asked, question):
  assert USER.reply(talk(intent, question, asked=asked)) == Said(intent["text"])


INAPT = [
  "Anything else?", "Is there anything else that I can do?", "Why not?", "?", "", "  \n",
  "Wie viele Personen?", "¿Para cuántos?", "何人ですか\uff1f", "<payoff> ? </payoff>", "<|im_end|>?",
  "How many? For which people? And which guests?",  # an interrogation
  "Isn't it a fine evening?", "people " * 10_000 + "?", "? " * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("response", INAPT, ids=lambda text: text[:20])
def test_an_inapt_question_gets_nothing_and_a_second_one_ends_it(response):
  first = talk(SLOT, response)
  assert USER.reply(first) == NOTHING
  assert USER.reply(talk(SLOT, response, NOTHING.text, "Anything else?")) is LEFT
  # and an apt one after it is answered
  assert USER.reply(talk(SLOT, response, NOTHING.text, "How many people?")) == Said(SLOT["text"])


def test_what_was_said_already_is_not_asked_aptly():
  again = ["How many people?", SLOT["text"], "How many people?"]
  assert USER.reply(talk(SLOT, *again)) == NOTHING
  assert USER.reply(talk(SLOT, *again, NOTHING.text, "How many people?")) is LEFT
  assert USER.reply(talk(COMPLETE, "What?", COMPLETE["text"], "What?")) == NOTHING


def test_what_was_said_before_the_request_was_not_said_to_this_assistant():
  chat = talk(COMPLETE, "Hello!", COMPLETE["text"], "How many people?")
  assert USER.reply(chat) == NOTHING
  assert USER.reply(chat._replace(opening=3)) == Said(COMPLETE["text"])


@pytest.mark.parametrize(
  "intent, asked, question",
  [
    (MEANING, WHO, "Which one do you mean?"),
    (MEANING, WHO, "Who directed it?"),
    (STATEMENT, HALF, "Could you tell me more?"),
    (DRAFT, LETTER, "Anything else?"),
    (None, WHO, "Which film do you mean?"),
  ],
)
def test_what_would_fit_every_request_is_inapt(intent, asked, question):
  assert USER.reply(talk(intent, question, asked=asked)) == NOTHING


@pytest.mark.parametrize(
  "intent, asked, response, fits",
  [
    (SLOT, ASKED, "Table booked at Luigi's for 4 people at 7 pm. Is 4 right?", True),
    (SLOT, ASKED, "Table booked at Luigi's for 2 people at 7 pm. Is 2 right?", False),
    (SLOT, ASKED, "Table booked at Luigi's for 2 people at 7 pm. Anything else?", False),
    (SLOT, ASKED, "Table booked at Luigi's for 14 people at 7 pm. Is 4 right?", False),
    (COMPLETE, ASKED, "Table booked at Luigi's for 4 people at 7 pm. Is that right?", True),
    (COMPLETE, ASKED, "Table booked at Luigi's for 4 people at 8 pm. Is that right?", False),
    (MEANING, WHO, "Kenneth Branagh did. Do you mean the film of 2015?", True),
    (MEANING, WHO, "Clyde Geronimi did. Is that the one?", False),
    (STATEMENT, HALF, "It is 36. Do you need the steps?", True),
    (STATEMENT, HALF, "It is 35. Do you need the steps?", False),
    (DRAFT, LETTER, "Dear sports club, I end my membership at the end of the year. Short?", True),
    (DRAFT, LETTER, "Dear grandmother, the weather is fine here. Is that what you want?", False),
  ],
)
def test_after_an_answer_with_a_question_the_user_leaves_or_corrects(intent, asked, response, fits):
  assert USER.reply(talk(intent, response, asked=asked)) == (LEFT if fits else corrected(intent))


@pytest.mark.parametrize(
  "response", ["Table booked at Luigi's for 2 people at 7 pm.", "Tell me how many people.", "Done"]
)
def test_an_answer_without_a_question_is_taken(response):
  assert USER.reply(talk(SLOT, response)) is LEFT


@pytest.mark.parametrize(
  "intent", [{}, {"kind": "slot"}, {"kind": "wish", "text": "x"}, {"kind": "meaning", "text": " "},
             {"kind": "slot", "text": "x", "slots": [], "words": []}, SLOT | {"slots": {}},
             SLOT | {"slots": {"people": 4}}],
)  # fmt: skip
def test_an_intent_that_cannot_be_read_is_no_answer(intent):
  assert USER.reply(talk(intent, "How many people?")) is NO_ANSWER


def speaker(record, action, turns=2):
  """A perfect speaker of the concierge against the rule user: what the user did, last response."""
  case = concierge_chain.case(record.extra_info)
  intent = intents.given(record, 0, None, turns).extra_info["intent"]
  first = concierge_chain.response(case, ACTIONS.index(action))
  asked = record.messages[-1]["content"]
  said = USER.reply(talk(intent, first, asked=asked))
  if not isinstance(said, Said):
    return intent, said, first
  value = concierge_chain.heard(case.kind, said.text) if case.lacking else None
  slots = case.slots | ({case.kind.open: value} if value else {})
  return intent, said, concierge_chain.confirmation(case.kind, slots)


@pytest.mark.parametrize("record", concierge.records("test", 48), ids=lambda each: each.id)
def test_a_perfect_speaker_of_every_kind_is_understood(record):
  lacking = record.extra_info["lacking"]
  for action in ("CQ", "AQ"):
    intent, said, last = speaker(record, action)
    assert confirmation.states(last, intent["slots"])  # what the judge goes by
    if action == "CQ":
      assert said == Said(intent["text"])
    else:
      assert said == (LEFT if intent["meant"] else corrected(intent))
  assert USER.reply(talk(intent, "Anything else?", asked=intent["answer"])) == (
    NOTHING if lacking else Said(intent["text"])
  )


def test_who_answers_for_which_source():
  assert not any(map(USER.ends, ("concierge", "ambig_qa", "math-hard", "minerva", "medium")))
  assert all(map(USER.ends, ("wildguard", "advbench", "abg-coqa", "my_own")))
  assert USER.statistics() == {}


def test_a_long_response_costs_little():
  began = time.perf_counter()
  for part in ("people. ", "How many people? ", "?!", "\n", "<response>", "\ud800 "):
    for intent in (SLOT, MEANING, STATEMENT):
      USER.reply(talk(intent, part * 10_000))
  assert time.perf_counter() - began < 3
