"""The section on edited matrices: its table, its curves, and chains before and after."""

import json
import re

import numpy as np
import pytest
from workdirs import EVIL, Page, eval_rows, jsonl, make

from gtalign_jax import report
from gtalign_jax.game import edits
from gtalign_jax.report import decides
from gtalign_jax.rewards import chain
from gtalign_jax.rollout import edit
from gtalign_jax.types import ACTIONS, CELLS

MEASURED = {
  "game/follow": 0.5, "game/carry": 0.4, "game/hold": 0.9, "game/payoff_icc": 0.31,
  "game/type_accuracy": 0.82, "game/sums_right": 0.73, "game/calibration_error/user": 0.14,
  "game/calibration_error/llm": 0.16,
}  # fmt: skip


def intervention(row, follows):
  """What an edit of the row's matrix did, and the text that went on from it; None without one."""
  read = chain.parse(row["completion"])
  if read.payoff is None:
    return None
  own = re.findall("|".join(CELLS), read.analyze)[-1]
  user_type = CELLS.index(own) // 3
  chosen = edits.choice(read.payoff, user_type)
  new = CELLS[3 * user_type + (chosen + 1) % 3]
  matrix = edits.swapped(read.payoff, user_type, ACTIONS.index(new[3:]))
  block = row["completion"][slice(*read.spans[1])]
  named = new if follows else own
  text = row["completion"].replace(block, edit.rewrite(block, matrix))
  return {
    "chosen": CELLS[3 * user_type + chosen], "edited": new, "own": own, "named": named,
    "action": named[3:], "placebo": [own, own], "completion": text.replace(f"choose {own}", f"choose {named}"),
  }  # fmt: skip


def edited(rows, follow):
  return [
    row | {"intervention": intervention(row, index % 4 < 4 * follow)}
    for index, row in enumerate(rows)
  ]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  made = make(tmp_path_factory.mktemp("run") / "steering")
  rng = np.random.default_rng(1)
  for name, follow in (("base", 0.0), ("sft", 0.0), ("grpo", 0.5)):
    rows = edited(eval_rows(0.02 if name == "base" else 0.95, rng), follow)
    jsonl(made / "eval" / f"{name}.jsonl", rows)
  path = made / "metrics.jsonl"
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  for line in lines:
    line |= MEASURED if line["phase"] == "eval" and line["policy"] != "base" else {}
  jsonl(path, lines)
  return made


def test_the_section_has_table_curves_and_chains(workdir):
  text = report.write(workdir).read_text()
  page, section = Page(text), text.split("Does the matrix decide?")[1].split("<section>")[0]
  assert page.open == [] and section.count("<svg") == 3 and section.count("<article>") == 3
  assert section.count("Not followed.") == 1 and section.count("Followed.") == 2
  assert section.count('class="matrix"') == 6
  titles = re.findall(r"<h3>(\w+) and (\w+) exchanged", section)
  assert len({pair for pair in titles}) == 3  # of different prompts
  for words in ("One that ignores its matrix", "Own matrix", "0.31", "0.82", "0.73"):
    assert words in section


def test_the_table_says_what_edits_did(workdir):
  head, rows = decides.table(report.load(workdir))
  found = {row[0]: dict(zip(head, row)) for row in rows}
  assert list(found)[-2:] == ["SFT", "GRPO"]
  assert found["SFT"]["follow"].startswith("0.00 (0.00 to ") and "base" not in list(found)[1:]
  assert 0.4 < float(found["GRPO"]["follow"].split()[0]) < 0.6
  assert found["GRPO"]["hold"].startswith("1.00")
  assert found["GRPO"]["ICC"] == "0.31" and int(found["GRPO"]["swaps"]) > 20


def test_a_chain_is_shown_before_and_after(workdir):
  (followed, *_) = decides.samples(report.load(workdir).rows["grpo"])
  marked = [
    [[tag for tag, _ in cell["tags"]] for _, cells in matrix for cell in cells]
    for matrix in (followed["before"], followed["after"])
  ]
  # what the rule takes and what is named move together
  assert [tags.index(["named", "rule"]) for tags in marked] == [0, 1]
  before, after = (
    [cell["numbers"] for _, cells in matrix for cell in cells]
    for matrix in (followed["before"], followed["after"])
  )
  as_numbers = [[float(x) for x in pair] for pair in before]
  assert [[float(x) for x in pair] for pair in after] == [
    *as_numbers[1::-1],
    *as_numbers[2:],
  ]


def test_a_run_without_edits_has_no_such_section(tmp_path):
  path = report.write(make(tmp_path / "run"))
  assert "Does the matrix decide?" not in path.read_text()


@pytest.mark.parametrize(
  "column",
  [
    3,
    {},
    "text",
    {"chosen": EVIL},
    {"edited": None},
    {"placebo": [[]]},
    {"action": "DQ"},
    {"own": 3},
  ],
)
def test_columns_that_somebody_has_edited_are_left_out(column, workdir):
  loaded = report.load(workdir)
  row = loaded.rows["grpo"][-1]
  if isinstance(column, dict) and column:
    column = row["intervention"] | column
  loaded = loaded._replace(rows={"grpo": [row | {"intervention": column}]})
  assert decides.samples(loaded.rows["grpo"]) == [] and decides.table(loaded) is None
