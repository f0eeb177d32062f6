"""The verdict in a judge's reply: the last line that is one. Echoes and quotes are none."""

import time

import pytest

from gtalign_jax.rewards import tasks
from gtalign_jax.rewards.judges.verdict import read_verdict

WIDE = "".join(chr(ord(each) + 0xFEE0) for each in "VERDICT:1")  # full-width forms


@pytest.mark.parametrize(
  ("reply", "verdict"),
  [
    ("fine.\nVERDICT: 1", 1.0),
    ("VERDICT: 0\nno wait\n**Verdict:** 1", 1.0),  # the last one
    ("<think>VERDICT: 1</think>\nVERDICT: 0", 0.0),
    ("VERDICT: 1 <think>or VERDICT: 0?</think>", 1.0),
    ("VERDICT: 1 I guess</think> VERDICT: 0.5", 0.5),  # opened by the chat template
    ("[THINK]VERDICT: 0[/THINK]VERDICT: 1", 1.0),
    ("so \\boxed{0.5}", 0.5),
    ("$\\boxed{1}$", 1.0),
    ("VERDICT: \\boxed{1}", 1.0),
    ("VERDICT: -1", -1.0),
    ("VERDICT: \N{MINUS SIGN}1", -1.0),
    ("VERDICT \N{EM DASH} 1", 1.0),
    ("VERDICT: 12.5.", 12.5),
    ("VERDICT: .5", 0.5),
    (WIDE, 1.0),
    ("VERDICT: **1**", 1.0),
    ("**VERDICT: 1**", 1.0),
    ("**VERDICT**: 1", 1.0),
    ("`VERDICT: 1`", 1.0),
    ("## Verdict: 3", 3.0),
    ("- VERDICT: 1", 1.0),
    ("VERDICT: <1>", 1.0),
    ("VERDICT: [0.5]", 0.5),
    ("My final verdict is 0.", 0.0),
    ("VERDICT: 1 (right)", 1.0),
    ("VERDICT: 0.5 - a refusal with an offer", 0.5),
    ("VERDICT: 1, since it is so", 1.0),
    ("VERDICT: 1\n\nThe reply is right because 2+2=4.", 1.0),
    ("VERDICT: 1\nVERDICT: 1", 1.0),
    ('It answers.\n"VERDICT: 1"', 1.0),
    ("It answers.\n```text\nVERDICT: 0.5\n```\n", 0.5),
    ("He wrote\n> VERDICT: 1\nI disagree.\nVERDICT: 0", 0.0),
  ],
)
def test_what_is_a_verdict(reply, verdict):
  assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
  "reply",
  [
    "", "1", "I would say 1", "<think>VERDICT: 1", "VERDICT:", "VERDICT: nan", "VERDICT: not 1",
    # other numbers
    "VERDICT: 90%", "VERDICT: 1/10", "VERDICT: 1 / 10", "VERDICT: 1e-3", "VERDICT: 1e5",
    "VERDICT: 1 out of 10", "VERDICT: 1.2.3", "VERDICT: 0,5", "VERDICT: 1-2", "VERDICT: 0.5\N{EN DASH}1",
    "VERDICT: 1½", "VERDICT: ½", "VERDICT: 1²", "VERDICT: 1*10", "VERDICT: 1_0", "VERDICT: 0x1",
    "VERDICT: 5 stars", "VERDICT: 100000000", "VERDICT: 1 (2)", "VERDICT: 1:10", "VERDICT: >1",
    # the prompt said back
    "VERDICT: <number>", "VERDICT: 0 or 1", "VERDICT: <0, 1, 2, 3 or 4>", "VERDICT: 1 if right",
    "VERDICT: 1 (right) or VERDICT: 0 (wrong)", "VERDICT: 0, VERDICT: 0.5 or VERDICT: 1",
    "VERDICT: 1 (right)\nVERDICT: 0 (wrong)", "VERDICT: 1\n\nVERDICT: 0.5\nVERDICT: 0",
    "I must finish with one line, VERDICT: 1 (right) or VERDICT: 0 (wrong). First I compare",
    # quoted from the response
    "the response says 'VERDICT: 1'", "The response says:\nVERDICT: 1", "> VERDICT: 1",
    "The reply ends with\n\"VERDICT: 1\"\nwhich proves nothing.", "It claims that VERDICT: 1",
    "```\nVERDICT: 1\n```\nThat was quoted.", "The text contains:\n```\nVERDICT: 1\n```",
    "The final answer is \\boxed{1}.",
  ],
)  # fmt: skip
def test_what_is_none(reply):
  assert read_verdict(reply) is None


@pytest.mark.parametrize("task", tasks.TASKS)
def test_no_rubric_said_back_is_a_verdict(task):
  rubric = tasks.TASKS[task].rubric
  lines = rubric.splitlines()
  assert read_verdict(rubric) is None
  assert all(read_verdict("\n".join(lines[-n:])) is None for n in range(1, len(lines)))


@pytest.mark.parametrize(
  "text",
  [
    "<think>" * 200_000 + "VERDICT: " * 100_000, "VERDICT: 1 or\n" * 80_000, "verdict " * 200_000,
    "```\n" * 200_000, '"VERDICT: 1"\nx\n' * 80_000, ("\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 190 + "\n") * 5_000,
    "VERDICT: " + "1" * 500_000, "VERDICT: 1" + "(" * 500_000,
  ],
)  # fmt: skip
def test_reading_is_linear(text):
  began = time.process_time()
  assert read_verdict(text) is None
  assert time.process_time() - began < 1.0
