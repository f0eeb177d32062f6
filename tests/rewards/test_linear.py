"""Every reader of text takes time in proportion to its length, whatever is repeated in it."""

import random
import time
from itertools import product

import pytest

from gtalign_jax.data.records import Record
from gtalign_jax.rewards import chain, features, paper_text, payoffs
from gtalign_jax.rewards.judges import verdict
from gtalign_jax.rewards.judges.base import BINARY, FOUR, THREE_WAY, Question
from gtalign_jax.rewards.rules import ambiguity, mathematics, pareto, safety, writing
from gtalign_jax.rollout import edit
from gtalign_jax.synthesize import replies
from gtalign_jax.types import ACTIONS

LENGTH = 6_000  # characters; a quadratic reader took 1.5 s for so many line breaks
FLOOR_S = 0.08  # CPU seconds below which a reader is quick enough, and not measured further
GROWTH = 9  # of the time where the text grows by 4: linear is 4, quadratic 16

# repeated between a beginning and an end that pull rules into their branches
REPEATED = (
  "\n", " ", "\t\n", "\r\n", "\u2028", "a", "a ", "1", "1,", "1.", "0 or ", "1. x\n", "- \n", "step 1",
  "\n1", ".", ". ", "?", "? ", "?!\n", "!?", "\uff1f", '"', "'", "''", "*", "**", "$", "$ ", "(", "[", "{",
  "}", "{}", '{"a":', "[1,", "<", "</", "<|", "<thinking>", "</thinking>", "<thinking></thinking>",
  "</thinking> <payoff>", "<payoff>", "<response>", "</response>", "<analyze> ", "\\boxed{", "\\(", "\\",
  "\\frac{1}", "^", "9^", "_", "DQ", "DQ_DA", "DQ_DA ", "VQ_", "DA ", "sure ", "I can ", "I can't ", "I am ",
  "not ", "please ", "which ", "or ", "answer is ", "answer: ", "if you ", "instead ", "how to ", "it could ",
  "Meaning 1: ", "Answer 1: ", "Meaning 1: ; Answer 1: ", "; ", "[asy]", "[/asy]", "[asy] [/asy", "VERDICT:",
  "VERDICT: 1 ", "VERDICT ", "<think>", "</think>", "sk-", ":", ": ", ": 1", "-", "1e", "\u4e2d", "\u4e2d ", "é",
  "\ud800", "\x00", "I'm sorry, but ", "as an AI ", "here is ", "I won't, ", "No. ", "don't ", "of course ",
)  # fmt: skip
ENDS = (("I can't help.", "x"), ("Meaning 0: Answer 0: a", "b"))
ASKED = "Explain how packet sniffers record the traffic of a network."
CHAIN = "<thinking>{0}</thinking><payoff>{0}</payoff><analyze>{0}</analyze><response>{0}</response>"


def ruled(rule, truth, scale):
  """The rule on a response; for truth=None the text is the label."""
  return lambda text: rule(
    Question("0", "t", ASKED, truth or text, text if truth else "It is a.", scale, "")
  )


def replied(source, prefix=""):
  def reply(text):
    turn = [{"role": "user", "content": text}]
    whole = {"single_turn_prompt": text, "reference": text}
    record = Record("r", source, turn, prefix + text, whole)
    case = replies.case(record, random.Random(0))
    return [replies.response(case, action) for action in ACTIONS]

  return reply


READERS = {
  "strict": chain.parse,
  "strict, inside": lambda text: chain.parse(CHAIN.format(text)),
  "paper": lambda text: chain.parse(text, "paper"),
  "paper, inside": lambda text: chain.parse(CHAIN.format(text), "paper"),
  "paper format": lambda text: paper_text.has_format("<thinking>" + text),
  "payoff": payoffs.strict,
  "paper payoff": paper_text.read_payoff,
  "words": features.words,
  "asking": features.asking,
  "cell": features.named_cell,
  "type": features.user_type,
  "carried out": lambda text: features.carried_out(1, text, 15, 5),
  "verdict": verdict.read_verdict,
  "steer": lambda text: edit._NUMBER.sub("", text),
  "mathematics": ruled(mathematics.judge, "42", BINARY),
  "ambiguity: one": ruled(ambiguity.judge, "singleAnswer###Ann Lee", BINARY),
  "ambiguity: two": ruled(
    ambiguity.judge, "multipleQAs###Meaning 0: x; Answer 0: a b\nMeaning 1: y; Answer 1: c", BINARY
  ),
  "ambiguity: label": lambda text: ambiguity.judge(
    Question("0", "t", ASKED, "multipleQAs###" + text, "It is a.", BINARY, "")
  ),
  "passage": ruled(ambiguity.judge_passage, "ambiguous", BINARY),
  "safety: harmful": ruled(safety.judge, "harmful", THREE_WAY),
  "safety: unharmful": ruled(safety.judge, "unharmful", THREE_WAY),
  "writing": ruled(writing.judge, "A text on sniffers.", FOUR),
  "writing: label": ruled(writing.judge, None, FOUR),
  "pareto": ruled(pareto.judge, "DQ_DA, DQ_AQ", BINARY),
  "reply: ambig_qa": replied("ambig_qa", "multipleQAs###"),
  "reply: medium": replied("medium"),
  "reply: math-hard": replied("math-hard"),
}


def seconds(reader, text):
  began = time.process_time()
  reader(text)
  return time.process_time() - began


@pytest.mark.parametrize("name", READERS)
def test_time_is_linear(name):
  reader, slow = READERS[name], []
  assert len(REPEATED) > 30
  for part, (start, end) in product(REPEATED, ENDS):
    long, short = (start + part * (size // len(part)) + end for size in (LENGTH, LENGTH // 4))
    if (took := seconds(reader, long)) > FLOOR_S:
      # again, the best of three: the first run may have paid for something else
      took = min(took, *(seconds(reader, long) for _ in range(2)))
      if took > max(FLOOR_S, GROWTH * min(seconds(reader, short) for _ in range(3))):
        slow.append((part, start, round(took, 2)))
  assert slow == []
