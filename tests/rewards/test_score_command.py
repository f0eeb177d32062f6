"""`gtalign score` as users meet it: files in, files out, exit codes."""

import json
import subprocess
import sys

import pytest
from samples import chain, row

from gtalign_jax.cli import main

ROW = row(id="a")
COLUMNS = [
  "id", "score", "user_reward", "llm_reward", "utility", "answer_reward", "format",
  "payoff_reward", "decision", "choice", "carried_out", "parsed", "parse_error", "valid",
  "data_source",
]  # fmt: skip


@pytest.fixture
def files(tmp_path):
  source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"

  def run(lines, *flags):
    source.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    code = main.main(["score", str(source), str(target), *flags])
    rows = [json.loads(x) for x in target.read_text().splitlines()] if target.exists() else None
    return code, rows

  return run


def test_columns_and_order(files):
  code, rows = files([ROW | {"id": str(n)} for n in (3, 1, 2)])
  assert code == 0
  assert [each["id"] for each in rows] == ["3", "1", "2"]
  assert list(rows[0]) == COLUMNS
  code, rows = files([ROW], "--mode", "paper")
  assert list(rows[0]) == [
    name for name in COLUMNS if name not in ("decision", "choice", "carried_out")
  ]


def test_null_is_no_verdict(files):
  _, rows = files([ROW | {"judge_score": None}])
  assert not rows[0]["valid"]
  assert rows[0]["score"] is None
  _, rows = files([ROW | {"judge_score": None}], "--mode", "paper")
  assert rows[0]["valid"]


def test_odd_extra_info_is_fine_where_the_verdict_is_given(files):
  for odd in (None, [], "x", 7, {"single_turn_prompt": None}):
    assert files([ROW | {"extra_info": odd}])[0] == 0
  assert files([{k: v for k, v in ROW.items() if k not in ("extra_info", "ground_truth")}])[0] == 0


def test_json_summary(files, capsys):
  assert files([ROW, ROW | {"judge_score": None}], "--json")[0] == 0
  summary = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert summary["rows"] == 2
  assert summary["judge/invalid_frac"] == 0.5
  assert files([], "--json")[0] == 0


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    ("{", "in.jsonl:2"),
    ("[]", "in.jsonl:2"),
    ({k: v for k, v in ROW.items() if k != "id"}, "in.jsonl:2: id"),
    (ROW | {"completion": None}, "in.jsonl:2: completion"),
    (ROW | {"data_source": 3}, "in.jsonl:2: data_source"),
    (ROW | {"data_source": "gsm8k"}, "rewards.tasks"),
    (ROW | {"judge_score": "1"}, "in.jsonl:2: judge_score"),
    (ROW | {"judge_score": True}, "in.jsonl:2: judge_score"),
    (json.dumps(ROW | {"judge_score": float("nan")}), "in.jsonl:2: judge_score"),
    (ROW | {"data_source": "wildguard"}, "in.jsonl:2: ground_truth"),
    (row(id="a", judge=..., truth=None), "in.jsonl:2: ground_truth"),
    ({k: v for k, v in row(judge=...).items() if k != "ground_truth"}, "in.jsonl:2: ground_truth"),
  ],
)  # fmt: skip
def test_malformed_lines_name_the_line_and_write_nothing(files, capsys, bad, message):
  assert files([ROW, bad]) == (2, None)
  error = capsys.readouterr().err
  assert message in error
  assert error.count("\n") == 1


@pytest.mark.parametrize(
  "flags",
  [
    ["--judge", "oracle"],
    ["--judge", "recorded"],
    ["--judge", "recorded:/no/such/file"],
    ["--judge", "http"],
    ["--variant", "pareto"],
    ["--variant", "best"],
    ["--set", "grpo.steps=1"],
    ["--set", "rewards.alhpa=1"],
    ["--set", "rewards.alpha=2"],
  ],
)
def test_bad_flags(files, capsys, flags):
  assert files([ROW], *flags) == (2, None)
  assert capsys.readouterr().err.count("\n") == 1


def test_an_old_result_survives_a_bad_run(files):
  _, before = files([ROW])
  code, after = files([ROW, "{"])
  assert (code, after) == (2, before)


def test_settings_reach_the_reward(files):
  _, [plain] = files([ROW])
  _, [other] = files([ROW], "--set", "rewards.user_answer=0.1", "--set", "rewards.alpha=0.7")
  assert other["user_reward"] == pytest.approx(plain["user_reward"] - 0.4)


def test_recorded_judge(files, tmp_path):
  log = tmp_path / "log.jsonl"
  log.write_text(json.dumps({"id": "a", "judge_score": 0}) + "\n")
  unjudged = row(judge=..., id="a")
  _, [got] = files([unjudged], "--judge", f"recorded:{log}")
  assert got["answer_reward"] == 0


def test_lone_surrogates_survive(files):
  odd = ROW | {"id": "\ud800", "completion": chain(response="\ud800\x00")}
  code, rows = files([odd])
  assert code == 0
  assert rows[0]["id"] == "\ud800"


def test_score_starts_without_heavy_libraries():
  code = (
    "import sys, gtalign_jax.cli.main, gtalign_jax.cli.score;"
    "print(sorted({m.split('.')[0] for m in sys.modules} & "
    "{'jax', 'flax', 'orbax', 'transformers', 'openai', 'nltk', 'sacrebleu', 'sympy', "
    "'math_verify'}))"
  )
  out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert out.stdout.strip() == "[]"
