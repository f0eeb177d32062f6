"""A user's own tasks: what is amiss is found before a run, and what fails in it costs verdicts only."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from samples import chain, row

from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.fields import Table
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, reward, score, tasks
from gtalign_jax.rewards.tasks import own

ROOT = Path(__file__).parent.parent.parent
HEAD = """
from gtalign_jax.rewards.judges.base import BINARY, Question, Scale
from gtalign_jax.rewards.tasks.base import Answer, Task, same_credit

def question(example, rule=None, rubric="{response}"):
  return Question(example.id, "mine", example.asked, "", example.response, BINARY, rubric, rule)
"""
GOOD = (
  HEAD + "def f(example):\n  return Task(BINARY, same_credit, lambda: question(example, RULE))\n"
)


@pytest.fixture
def mine(tmp_path, monkeypatch):
  """Writes a module into the current folder, which is not on the import path; its table."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
  monkeypatch.setattr(own, "_told", set())

  def write(text, name="f"):
    module = f"mine_{abs(hash(text))}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.delitem(sys.modules, module, raising=False)
    return Table({"mine": f"{module}:{name}"})

  return write


def good_row(**changes):
  return row(source="mine", truth="x", judge=..., **changes)


TASK = "  return Task(BINARY, same_credit, lambda: question(example))\n"


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize(
  "text, said",
  [
    ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    ("def f(example:\n", "SyntaxError: "),
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("import sys; sys.exit(0)", "SystemExit: 0"),
    ("g = 3", "AttributeError: "),
    ("f = 3", "is not a function but int"),
    (HEAD + "def f():\n  pass\n", "must be a function of one argument, the example (too many"),
    (HEAD + "def f(example, limit):\n" + TASK, "missing a required argument: 'limit'"),
    (HEAD + "def f(*, example):\n" + TASK, "must be a function of one argument"),
    (HEAD + "def f(example):\n  return 1.0\n", "what it returns must be of type Task, not float"),
    (HEAD + "async def f(example):\n" + TASK, "must be of type Task, not coroutine"),
    (HEAD + "def f(example):\n  raise KeyError('more')\n", "KeyError: 'more'"),
    (
      HEAD + "def f(example):\n  return Task((0, 1), same_credit, lambda: question(example))\n",
      "the scale must be of type Scale, not tuple",
    ),
    (
      HEAD + "def f(example):\n  return Task(BINARY, same_credit, lambda: 'polite?')\n",
      "the question must be of type Question, not str",
    ),
    (
      HEAD + "def f(example):\n"
      "  return Task(BINARY, lambda v: Answer(v, 2.0, v), lambda: question(example))\n",
      "credit is 2.0, no number from 0 to 1",
    ),
    (
      HEAD + "def f(example):\n  return Task(BINARY, lambda v: v, lambda: question(example))\n",
      "the answer must be of type Answer, not float",
    ),
    (
      HEAD + "def f(example):\n"
      "  return Task(BINARY, same_credit, lambda: question(example, rubric=None))\n",
      "rubric of the question must be of type str, not NoneType",
    ),
    (
      HEAD + "def f(example):\n"
      "  return Task(BINARY, same_credit, lambda: question(example, rubric='{answer}'))\n",
      "KeyError: 'answer'",
    ),
    (HEAD + "def f(example):\n" + TASK, "has no rule, and rewards.judge.kind='rule' asks nobody"),
    (GOOD.replace("RULE", "lambda q: float('nan')"), "the verdict of the rule is nan, no number"),
    (GOOD.replace("RULE", "lambda q: 0.5"), "0.5, none of (0.0, 1.0)"),
    (GOOD.replace("RULE", "lambda q: q.nothing"), "AttributeError: "),
  ],
)
def test_found_before_a_run(mine, text, said):
  table = mine(text)
  with pytest.raises(BadInput) as caught:
    tasks.check(good_row(), table, "corrected", "record 'r'", "rule")
  line = str(caught.value)
  assert said in line and f"rewards.tasks['mine']={table['mine']!r}" in line and "\n" not in line


def test_a_row_with_a_verdict_is_asked_nothing_and_another_judge_needs_no_rule(mine):
  table = mine(HEAD + "def f(example):\n" + TASK)
  tasks.check(good_row(), table, "corrected", "here", "http")
  unasked = mine(HEAD + "def f(example):\n  return Task(BINARY, same_credit, None)\n")
  tasks.check(good_row() | {"judge_score": 1}, unasked, "corrected", "here", "rule")


# What a rule, a credit and the function itself do with a response that nobody thought of.
BOOM = {
  "a rule raises": GOOD.replace("RULE", "lambda q: 1 / ('boom' not in q.response)"),
  "a rule exits": GOOD.replace("RULE", "lambda q: exit() if 'boom' in q.response else 1"),
  "a rule is NaN": GOOD.replace("RULE", "lambda q: float('nan' if 'boom' in q.response else 1)"),
  "a rule is infinite": GOOD.replace("RULE", "lambda q: 1e999 if 'boom' in q.response else 1"),
  "a rule is off the scale": GOOD.replace("RULE", "lambda q: 7 if 'boom' in q.response else 1"),
  "a rule is text": GOOD.replace("RULE", "lambda q: 'no' if 'boom' in q.response else 1"),
  "a rule is a list": GOOD.replace("RULE", "lambda q: [] if 'boom' in q.response else 1"),
  "the function raises": GOOD.replace("RULE", "lambda q: True").replace(
    "  return Task", "  assert 'boom' not in example.response\n  return Task"
  ),
  "the credit is NaN": GOOD.replace("RULE", "lambda q: 1").replace(
    "same_credit, lambda",
    "lambda v: Answer(*[float('nan')] * 3) if 'boom' in example.response else same_credit(v), lambda",
  ),
  "the question is none": GOOD.replace("RULE", "lambda q: 1").replace(
    "lambda: question", "lambda: None if 'boom' in example.response else question"
  ),
}


@pytest.mark.parametrize("what", BOOM)
def test_a_failure_is_no_verdict_for_its_row_and_told_once(mine, caplog, what):
  table = mine(BOOM[what])
  said = ["So be it.", "boom", "Here it is.", "boom boom"]
  rows = [good_row(completion=chain(response=each)) | {"id": str(n)} for n, each in enumerate(said)]
  config = RewardConfig(tasks=table)
  for each in rows:
    tasks.check(each, table, "corrected", "here", "rule")
  scored = score.score_rows(rows, config, judges.make(JudgeConfig()))
  assert [each["valid"] for each in scored] == [True, False, True, False]
  for each in scored:
    numbers = (each[key] for key in ("score", "user_reward", "llm_reward", "answer_reward"))
    assert all(math.isfinite(x) if each["valid"] else x is None for x in numbers)
  (line,) = caplog.messages
  assert f"rewards.tasks['mine']={table['mine']!r} failed on row '1' (" in line
  # the row's own verdict does not save one whose credit cannot be told
  brought = score.score_rows([rows[1] | {"judge_score": 1}], config, judges.make(JudgeConfig()))
  assert brought[0]["valid"] == (what.startswith("a rule") or "question" in what)
  reward.check_verdicts(scored, config, "step 1")
  with pytest.raises(RunFailure, match="step 1: 100% of the rows have no verdict"):
    reward.check_verdicts(scored[1:2], config, "step 1")
  paper = score.score_rows(
    rows, RewardConfig(tasks=table, mode="paper"), judges.make(JudgeConfig())
  )
  assert all(each["valid"] and math.isfinite(each["score"]) for each in paper)


def test_the_console_script_finds_a_task_in_the_current_folder(tmp_path):
  (tmp_path / "mytasks.py").write_text(GOOD.replace("RULE", "lambda q: 'please' in q.response"))
  rows = [
    {"id": str(n), "data_source": "mine", "completion": chain(response=text), "extra_info": {}}
    for n, text in enumerate(("Yes, please.", "No."))
  ]
  (tmp_path / "in.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
  done = subprocess.run(
    # -P: like the console script, which does not put the current folder on the import path
    [sys.executable, "-P", "-m", "gtalign_jax", "score", "in.jsonl", "out.jsonl",
     "rewards.tasks={'mine': 'mytasks:f'}"],
    cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
  assert [each["answer_reward"] for each in out] == [1.0, 0.0]
