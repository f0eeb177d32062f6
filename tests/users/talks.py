"""Intents and conversations for the tests of users."""

from gtalign_jax.users.base import Talk

ASKED = "Book a table at Luigi's at 7 pm."
SLOT = {
  "kind": "slot", "text": "For 4 people.", "answer": "Table booked at Luigi's for 4 people at 7 pm.",
  "slots": {"restaurant": "Luigi's", "people": "4", "time": "7 pm"}, "lacking": "people",
  "called": "number of people", "words": ["people", "many", "guests"], "default": "2",
  "meant": False,
}  # fmt: skip
COMPLETE = SLOT | {"text": "Book a table at Luigi's for 4 people at 7 pm.", "lacking": None}
MEANING = {
  "kind": "meaning", "text": "Who directed the 2015 live-action film Cinderella?",
  "answer": "Kenneth Branagh",
  "readings": ["Who directed the 1950 animated film Cinderella?",
               "Who directed the 2015 live-action film Cinderella?"],
}  # fmt: skip
STATEMENT = {
  "kind": "statement", "text": "Half of a number is 6 more than a third of it. What is the number?",
  "answer": "36",
}  # fmt: skip
DRAFT = {
  "kind": "statement", "answer": "Dear club, I would like to end my membership. " * 4,
  "text": "Draft a short letter to a sports club to end a membership at the end of the year.",
}  # fmt: skip


def talk(intent, response, *more, asked=ASKED, id="r", source="concierge"):
  """A conversation; more: what the user and the assistant said in turn after `response`."""
  said = [asked, response, *more]
  roles = ("user", "assistant")
  chat = [{"role": roles[n % 2], "content": each} for n, each in enumerate(said)]
  return Talk(id, source, intent, chat)
