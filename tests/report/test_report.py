"""The report on a work directory made here: the format of a real run, invented numbers."""

import json
import math
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from workdirs import EVIL, Page, completion, eval_rows, jsonl, make

from gtalign_jax import report
from gtalign_jax.errors import BadInput
from gtalign_jax.game import paired
from gtalign_jax.report import chains, charts, results
from gtalign_jax.report import page as pages
from gtalign_jax.rewards import chain
from gtalign_jax.types import CELLS


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return make(tmp_path_factory.mktemp("run") / "quickstart")


@pytest.fixture(scope="module")
def page(workdir):
  return Page(report.write(workdir).read_text())


def test_the_page_is_whole_and_needs_no_network(workdir, page):
  assert page.open == []
  assert page.tags.count("figure") == page.tags.count("svg") == 2 + len(charts.PANELS)
  assert page.tags.count("article") == 3 and page.tags.count("script") == 0
  names = {name for name, _ in page.attributes}
  assert not names & {"src", "srcset", "onload", "onclick"}
  links = [
    v for name, v in page.attributes if name in ("href", "xlink:href") and not v.startswith("#")
  ]
  assert links == []
  text = (workdir / "report.html").read_text()
  assert not re.search(r"@import|url\((?!#)", text)
  assert len(text) < 1_500_000


def test_everything_asked_for_is_on_the_page(page):
  text = " ".join(page.text)
  for words in (
    "Welfare W", "Utilities U", "Chain: format, decision", "Completion length", "KL to the start",
    "Entropy", "User and LLM utility", "Action named", "Config", "Versions", "jax",
    "rollout.group_size",
    "Where the time went", "rollout", "GRPO", "SFT", "base", "rule's choice", "Highest welfare",
    "Lowest welfare", "By source",
  ):  # fmt: skip
    assert words in text, words
  assert sum(name == "class" and value == "matrix" for name, value in page.attributes) == 3
  named = [v for name, v in page.attributes if name == "class" and "named" in v.split()]
  assert len(named) == 6  # a cell of each chain, and its tag


def test_model_prompt_and_config_text_is_escaped(tmp_path):
  path = report.write(make(tmp_path / "run<script>", evil=EVIL))
  page = Page(path.read_text())
  assert page.tags.count("script") == 0 and page.open == []
  assert "<script" not in path.read_text().lower()
  assert " ".join(page.text).count("<script>alert('x')</script>\"'&") > 10


def test_the_intervals_are_put_into_words(workdir):
  grpo, sft = results.differences(report.load(workdir))
  assert (grpo.a, grpo.b, sft.a, sft.b) == ("grpo", "sft", "sft", "base")
  assert sft.welfare["low"] > 0 and "excludes zero: welfare rose" in sft.words
  assert sft.prompts == 16
  parsed = {
    name: np.mean([json.loads(line)["parsed"] for line in path.read_text().splitlines()])
    for name in ("base", "sft")
    for path in [workdir / "eval" / f"{name}.jsonl"]
  }
  gain = parsed["sft"] - parsed["base"]
  assert sft.parse["mean"] == pytest.approx(gain)
  assert f"Parse rate {gain:+.4f}, 95 % paired bootstrap interval +" in sft.words
  assert "excludes zero: the parse rate rose" in sft.words


def test_rows_without_a_parse_say_nothing_of_it(tmp_path):
  made = make(tmp_path / "run")
  for path in (made / "eval").glob("*.jsonl"):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    jsonl(path, [{key: row[key] for key in row if key != "parsed"} for row in rows])
  for each in results.differences(report.load(made)):
    assert each.parse is None and "arse rate" not in each.words


def test_an_interval_that_includes_zero_is_said_to(tmp_path):
  made = make(tmp_path / "run", gains=(("sft", 0.8), ("grpo", 0.8)))
  (only,) = results.differences(report.load(made))
  assert only.welfare["low"] < 0 < only.welfare["high"]
  for text in (only.words, report.table(made), report.write(made).read_text()):
    assert "The interval includes zero: these prompts do not show a difference" in text


@pytest.mark.parametrize("prompts, claimed", [(4, False), (7, False), (8, True)])
def test_nothing_is_claimed_of_a_few_prompts(prompts, claimed):
  sure = {"mean": 0.3, "low": 0.2, "high": 0.4}
  found = results.Difference("grpo", "sft", prompts, sure, sure, (0.9, 0.5))
  assert ("welfare rose" in found.words) == ("the parse rate rose" in found.words) == claimed
  assert found.is_open == (not claimed)
  if not claimed:
    assert found.words.count("No interval and no finding: these take 8 prompts or more.") == 2
    assert "+0.2" not in found.words


@pytest.mark.parametrize(
  "mean, rates, said",
  [
    (0.01, (0.0, 0.0), "No finding in welfare"),  # +0.0001 of a policy that writes no chain
    (-0.01, (0.0, 0.0), "No finding in welfare"),
    (0.01, (0.5, 0.0), "welfare rose"),
    (-0.01, (0.0, 0.5), "welfare fell"),
    (0.01, (None, None), "welfare rose"),  # rows of other tools do not say
  ],
)
def test_a_policy_that_writes_no_chain_is_not_praised(mean, rates, said):
  interval = {"mean": mean, "low": mean - 0.001, "high": mean + 0.001}
  found = results.Difference("grpo", "sft", 16, interval, None, rates)
  assert said in found.words and found.is_open == said.startswith("No finding")


def test_the_head_names_judge_version_and_device(workdir, page, tmp_path):
  head = (workdir / "report.html").read_text().split("</header>")[0]
  assert "judge: rules" in head and "gtalign_jax " in head and f"{jax.device_count()} x cpu" in head
  made = make(tmp_path / "run")
  config = json.loads((made / "config.json").read_text())
  config["rewards"]["judge"] |= {"kind": "http", "model": "m<1>"}
  config["conversation"] = {"turns": 2, "user": {"kind": "recorded", "log": "said.jsonl"}}
  (made / "config.json").write_text(json.dumps(config))
  head = report.write(made).read_text().split("</header>")[0]
  assert "judge: model m&lt;1&gt; · user: recorded said.jsonl · " in head


def test_a_package_in_somebody_elses_repository_has_no_commit(tmp_path, monkeypatch):
  assert re.fullmatch(r"[0-9a-f]{12,}(-dirty)?", pages.commit())
  monkeypatch.setattr(pages, "PACKAGE", tmp_path)
  assert pages.commit() == ""
  subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
  (tmp_path / "__init__.py").write_text("")
  assert pages.commit() == ""


def test_every_header_cell_says_of_what(workdir, page):
  text = (workdir / "report.html").read_text()
  heads = re.findall(r"<th\b[^>]*>", text)
  assert len(heads) > 20 and all('scope="col"' in th or 'scope="row"' in th for th in heads)
  # a phone shows the first columns of a table: what the run was about comes first
  shown = re.findall(r'<th scope="col">([^<]*)</th>', text)[:5]
  assert shown == ["policy", "W", "U", "L", "parse rate"]


def test_means_agree_with_the_rows(workdir):
  found = {each.name: each for each in results.policies(report.load(workdir))}
  assert list(found) == ["base", "sft", "grpo"]
  rows = [json.loads(line) for line in (workdir / "eval" / "sft.jsonl").read_text().splitlines()]
  assert found["sft"].user == pytest.approx(np.mean([row["user_reward"] for row in rows]))
  assert found["sft"].parse == np.mean([row["parsed"] for row in rows])
  point = np.asarray([[row["user_reward"], row["llm_reward"]] for row in rows]).reshape(-1, 2, 2)
  assert found["sft"].welfare == pytest.approx(np.sqrt(point.mean(axis=1).prod(axis=1)).mean())
  assert found["sft"].welfare == paired.welfare(rows)  # what the log of the run calls W
  assert math.isnan(paired.welfare([row | {"user_reward": None} for row in rows]))


def test_the_terminal_table(workdir, page):
  lines = report.table(workdir).splitlines()
  assert lines[1].split()[0] == "policy"
  assert [line.split()[0] for line in lines[2:5]] == ["base", "SFT", "GRPO"]
  assert len({len(line) for line in lines[1:5]}) == 1  # aligned
  assert "rollout 412 s" in lines[-2] and lines[-1].endswith("report.html")


def test_warnings_of_the_watch_are_marked(workdir, page, tmp_path):
  made = shutil.copytree(workdir, tmp_path / "run")
  rows = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
  told = "the matrices become alike: game/distinct_frac fell from 0.9 to 0.4 <b>"
  for row in rows:
    if row["phase"] == "grpo" and row["step"] == 30:
      row["watch"] = [told, "fewer chains can be read"]
    if row["phase"] == "grpo" and row["step"] == 31:
      row["watch"] = "an edited file"
  jsonl(made / "metrics.jsonl", rows)
  text = report.write(made).read_text()
  assert f"Update 30: {told.replace('<b>', '&lt;b&gt;')}." in text and "edited file" not in text
  assert "Dotted lines: a warning." in text
  assert f"warning at update 30: {told}" in report.table(made)
  plain = (workdir / "report.html").read_text()
  for absent in ("Warnings", "Dotted", "<h2>Conversations", "<h2>The game as played"):
    assert absent not in plain


def test_invalid_rows_and_missing_parts_leave_a_report(tmp_path):
  made = make(tmp_path / "run", gains=(("base", 0.5), ("sft", 0.0)))
  path = made / "eval" / "base.jsonl"
  null = dict.fromkeys(
    ("user_reward", "llm_reward", "utility", "score", "answer_reward", "decision")
  )
  rows = [json.loads(line) | null | {"valid": False} for line in path.read_text().splitlines()]
  jsonl(path, rows)
  (made / "metrics.jsonl").unlink()
  (made / "timings.json").unlink()
  assert results.differences(report.load(made)) == []
  page = Page(report.write(made).read_text())
  assert "Refused chain" in "".join(page.text) and page.open == []
  base, sft = (line.split() for line in report.table(made).splitlines()[2:4])
  assert base == ["base", *["-"] * 7, "0", "32"]  # rows without verdict leave every mean
  assert sft[0] == "SFT" and sft[4] == "0.000" and sft[-2:] == ["16", "32"]


def test_damaged_files_are_told_and_left_out(workdir, tmp_path, caplog):
  run = shutil.copytree(workdir, tmp_path / "run")
  whole = report.table(run).splitlines()
  path = run / "eval" / "base.jsonl"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines[:-1], lines[-1][:20]]))  # cut, as by a full disk
  (run / "eval" / "mine.jsonl").write_text('{"no": "id"}\n')
  (run / "metrics.jsonl").write_text('{"phase": "grpo", "step": 1, "loss": 1}\n[1]\n{}\n\xff\n')
  (run / "timings.json").write_text('{"load": "long"}')
  assert len(report.load(run).metrics) == 1 and report.load(run).seconds == {}
  report.write(run)
  table = report.table(run).splitlines()
  assert table[3] == whole[3] and int(table[2].split()[-1]) == len(lines) - 1
  for words in ("damaged lines (1), the first:", "leaves out mine", "where the time went"):
    assert any(words in each and "\n" not in each for each in caplog.messages), words


def test_a_folder_without_a_run_is_bad_input(tmp_path):
  with pytest.raises(BadInput, match="holds no run"):
    report.write(tmp_path)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(BadInput, match="is not JSON"):
    report.table(tmp_path)


def test_rows_without_completions_have_means_alone(tmp_path):
  made = make(tmp_path / "run", gains=(("mine", 0.5),))
  (made / "metrics.jsonl").unlink()
  path = made / "eval" / "mine.jsonl"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  jsonl(path, [{key: row[key] for key in row if key != "completion"} for row in rows])
  text = report.write(made).read_text()
  assert "one point a prompt" in text
  assert "Action named" not in text and "Sample chains" not in text


def test_samples_are_of_different_prompts_and_span_the_welfare():
  rows = eval_rows(0.9, np.random.default_rng(3))
  picked = chains.pick(rows)
  prompts = [row["id"].split("#")[0] for _, row in picked]
  welfare = [row["utility"] for _, row in picked]
  assert len(set(prompts)) == 3 and welfare == sorted(welfare, reverse=True)
  assert chains.pick([]) == []
  assert len(chains.pick(rows[:2])) == 1


def test_the_matrix_marks_the_named_cell_and_the_rules_choice():
  payoff_UAR = np.zeros((2, 3, 2))
  payoff_UAR[0, 0], payoff_UAR[1, 1] = (3, 4), (5, 5)
  (definite, top), (_, bottom) = chains.matrix(payoff_UAR, named=0, user_type=1)
  named, rule = ("named", "named"), ("rule", "rule's choice")
  assert definite == "definite (DQ)" and [each["tags"] for each in top] == [[named], [], []]
  assert top[0]["numbers"] == ["3", "4"]
  assert [each["tags"] for each in bottom] == [[], [rule], []]
  none = chains.matrix(payoff_UAR, named=None, user_type=-1)
  assert not any(named in each["tags"] for _, cells in none for each in cells)


def test_action_shares_count_every_completion():
  rng = np.random.default_rng(0)
  rows = [{"completion": completion(i, rng)} for i in range(4)] + [{"completion": "no chain"}]
  assert pages.action_shares(rows) == {"DA": 0.4, "CQ": 0.2, "AQ": 0.2, "none": 0.2}
  assert chains.named_cell(chain.parse(rows[1]["completion"])) == CELLS.index("VQ_CQ")


def test_charts_take_odd_names_and_missing_numbers():
  cloud = np.asarray([[0.1, 0.2]])
  name = "$x_<script>"
  svg = charts.scatter({name: cloud})
  assert "<script>" not in svg and "$x_&lt;script&gt;" in svg
  rows = [{"phase": "grpo", "step": 1, "kl": None}, {"phase": "grpo", "step": 2, "entropy": 1.0}]
  assert [title for title, _ in charts.curves(rows)] == ["Entropy, nats a token"]
