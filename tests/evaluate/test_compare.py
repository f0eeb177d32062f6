"""`gtalign compare`: pairing, averaging, the JSON, intervals, plots, and every error path."""

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from gtalign_jax.cli.main import main
from gtalign_jax.errors import BadInput
from gtalign_jax.evaluate import compare, compare_text
from gtalign_jax.evaluate.compare import read_run
from gtalign_jax.game import measures, metrics, resampling
from gtalign_jax.game.paired import compare_runs


def row(key, user, llm, **more):
  return {"id": key, "user_reward": user, "llm_reward": llm, **more}


def write(path, rows):
  path.write_text("".join(json.dumps(each) + "\n" for each in rows))
  return str(path)


def read_runs(paths):
  return compare.of_rows(compare.read_rows(paths), paths)


def report(capsys, *arguments):
  assert main(["compare", *map(str, arguments), "--json"]) == 0
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def games(seed, quality, prompts=12, samples=4):
  """Rows of `gtalign eval`: matrices that know the prompt as well as `quality` says, and edits."""
  rng, rows = np.random.default_rng(seed), []
  for p in range(prompts):
    own = np.random.default_rng(p).uniform(-4, 4, 12)  # what the prompt is worth, in all runs
    for s in range(samples):
      label, action = ("DQ", "VQ")[p % 2], ("DA", "CQ", "AQ")[(p + s) % 3]
      declared = label if rng.random() < quality else ("DQ", "VQ")[1 - p % 2]
      user, llm = np.clip(rng.normal(0.3 + 0.4 * quality, 0.1, 2), 0, 1).tolist()
      edit = {"chosen": "DQ_DA", "edited": "DQ_CQ", "own": "DQ_DA", "placebo": ["DQ_DA", None]}
      edit |= {"named": "DQ_CQ" if rng.random() < quality else "DQ_DA", "action": action}
      rows.append({
        "id": f"p{p}#{s}", "sample": s, "data_source": ("concierge", "medium")[p % 2],
        "user_reward": user, "llm_reward": llm, "answer_reward": float(rng.random() < quality),
        "outcome_welfare": user, "parsed": bool(s or p), "valid": True, "judge_score": 1.0,
        "payoff": (quality * own + (1 - quality) * rng.normal(0, 2, 12)).round(1).tolist(),
        "user_type": declared, "type_label": label, "action": action, "sums": [1, 2],
        "regret": 0.1 * (1 - quality), "completion_tokens": 200, "intervention": edit,
        "extra_info": {"sweep": {"of": f"p{p // 2}", "price": 0.01 * (p % 2)}},
      })  # fmt: skip
  return rows


def test_golden(tmp_path, capsys):
  a = write(tmp_path / "a.jsonl", [row("p", 1.0, 0.0), row("q", 0.9, 0.9, answer_reward=0.5)])
  b = write(tmp_path / "b.jsonl", [row("q", 0.9, 0.9), row("p", 0.0, 1.0)])
  got = report(capsys, a, b, "--epsilon", "0.1")
  assert got["runs"]["a"]["n"] == 2
  assert got["runs"]["a"]["welfare"] == pytest.approx(0.45)
  assert got["runs"]["a"]["user"] == pytest.approx(0.95)
  assert got["runs"]["a"]["min"] == pytest.approx(0.45)
  assert got["runs"]["a"]["gap"] == pytest.approx(0.5)
  assert got["runs"]["a"]["answer"] == 0.5
  assert got["runs"]["b"]["answer"] is None
  (pair,) = got["pairs"]
  assert (pair["a"], pair["b"], pair["n_shared"], pair["n_dropped"]) == ("a", "b", 2, 0)
  assert pair["hypervolume"] == pytest.approx({"a": 0.81, "b": 0.81})  # above (0, 0)
  assert pair["coverage"] == {"a": 1.0, "b": 1.0}
  assert pair["regret"] == {"a": 0.0, "b": 0.0}
  assert pair["dominance"] == {"a": 0, "b": 0, "equal": 1, "incomparable": 1}
  assert pair["difference"]["user"]["mean"] == pytest.approx(0.5)
  # two prompts say nothing of all prompts
  assert [pair["difference"]["user"][key] for key in ("low", "high", "p", "p_holm")] == [None] * 4


def test_rows_pair_by_exact_id_and_nulls_drop_out(tmp_path, capsys):
  a = [
    row(1, 0.5, 0.5),
    row("1", 0.1, 0.1),
    row("x", None, 0.5),
    row("y", 0.2, 0.2),
    row("z", 1, 1),
  ]
  b = [row("z", None, None), row("y", 0.4, 0.2), row(1, 0.5, 0.5), row("x", 1, 1), row("Y", 0, 0)]
  got = report(capsys, write(tmp_path / "a", a), write(tmp_path / "b", b))
  (pair,) = got["pairs"]
  assert pair["n_shared"] == 2  # 1 and "y"; "1" is another id, x and z have a null somewhere
  assert pair["n_dropped"] == 2
  assert pair["dominance"] == {"a": 0, "b": 1, "equal": 1, "incomparable": 0}
  assert got["runs"]["a"]["null_rows"] == got["runs"]["b"]["null_rows"] == 1
  assert got["runs"]["a"]["n"] == 4


def test_samples_and_repeated_ids_are_averaged_first(tmp_path, capsys):
  a = [
    row("p#0", 1.0, 0.0, sample=0, answer_reward=1.0),
    row("p#1", 0.0, 1.0, sample=1, answer_reward=None),
    row("p#2", None, None, sample=2),
  ]
  b = [row("p", 0.2, 0.2), row("p", 0.4, 0.6)]
  got = report(capsys, write(tmp_path / "a.jsonl", a), write(tmp_path / "b.jsonl", b))
  run = got["runs"]["a"]
  assert (run["n"], run["rows"], run["null_rows"], run["averaged_ids"]) == (1, 3, 1, 1)
  assert run["welfare"] == pytest.approx(0.5)  # of the averaged point, not the average of zeros
  assert run["answer"] == 1.0
  assert got["runs"]["b"]["user"] == pytest.approx(0.3)
  assert got["pairs"][0]["dominance"]["a"] == 1


def test_parse_rate_is_compared_where_every_row_has_it(tmp_path, capsys):
  a = [row("p", 1, 1, parsed=True), row("q", 1, 1, parsed=False)]
  b = [row("p", 1, 1, parsed=False), row("q", 1, 1, parsed=False)]
  got = report(capsys, write(tmp_path / "a", a), write(tmp_path / "b", b))
  assert (got["runs"]["a"]["parse"], got["runs"]["b"]["parse"]) == (0.5, 0.0)
  assert got["pairs"][0]["difference"]["parse"]["mean"] == 0.5
  got = report(capsys, write(tmp_path / "a", a), write(tmp_path / "b", [b[0], row("q", 1, 1)]))
  assert "parse" not in got["pairs"][0]["difference"]
  with pytest.raises(BadInput, match="parsed='yes' must be a number"):
    read_run(write(tmp_path / "a", [row("p", 1, 1, parsed="yes")]))


def test_rows_without_sample_keep_their_whole_id(tmp_path):
  run = read_run(write(tmp_path / "a.jsonl", [row("p#0", 1, 1), row("p#1", 0, 0)]))
  assert len(run.places) == 2


def test_input_serves_where_id_is_missing(tmp_path, capsys):
  chat = [{"role": "user", "content": "hi"}]
  a = [{"input": chat, "user_reward": 1, "llm_reward": 1}]
  b = [{"input": chat, "id": None, "user_reward": 0, "llm_reward": 0}]
  got = report(capsys, write(tmp_path / "a", a), write(tmp_path / "b", b))
  assert got["pairs"][0]["n_shared"] == 1


def test_sources_and_efficiency(tmp_path, capsys):
  def rows(scale):
    return [
      row(str(i), scale * i / 10, 0.5, data_source="math" if i % 2 else "chat", answer_reward=0.5,
          completion_tokens=100 * (1 + i % 2), response_tokens=25) for i in range(10)
    ]  # fmt: skip

  got = report(capsys, write(tmp_path / "a", rows(1.0)), write(tmp_path / "b", rows(0.5)))
  assert sorted(got["sources"]) == ["chat", "math"]
  math = got["sources"]["math"]
  assert math["runs"]["a"]["n"] == math["pairs"][0]["n_shared"] == 5
  assert math["runs"]["a"]["user"] == pytest.approx(0.5)
  assert math["runs"]["a"]["answer_per_1k_tokens"] == pytest.approx(2.5)
  assert math["runs"]["a"]["response_token_frac"] == pytest.approx(0.125)
  assert got["runs"]["a"]["answer_per_1k_tokens"] == pytest.approx(1000 * 5 / 1500)
  direct = metrics.compare(
    np.array([[i / 10, 0.5] for i in range(10)]), np.array([[i / 20, 0.5] for i in range(10)]), 0.05
  )
  for key, value in direct.items():
    assert got["pairs"][0][key] == pytest.approx(value)


def test_bootstrap_interval_covers_and_is_paired(tmp_path):
  """Runs that differ by 0.1 on every prompt: pairing removes the spread between prompts."""
  rng = np.random.default_rng(0)
  base = rng.uniform(0.2, 0.8, 100)
  a = write(tmp_path / "a", [row(str(i), x + 0.1, x) for i, x in enumerate(base)])
  b = write(tmp_path / "b", [row(str(i), x, x) for i, x in enumerate(base)])
  difference = compare_runs(read_runs([a, b]))["pairs"][0]["difference"]
  assert difference["user"]["mean"] == pytest.approx(0.1)
  assert difference["user"]["high"] - difference["user"]["low"] < 1e-12
  noise = rng.normal(0, 0.1, 100)
  c = write(tmp_path / "c", [row(str(i), x + e, x) for i, (x, e) in enumerate(zip(base, noise))])
  user = compare_runs(read_runs([c, b]))["pairs"][0]["difference"]["user"]
  assert user["low"] < noise.mean() < user["high"]
  # normal theory: 2 * 1.96 standard errors
  assert user["high"] - user["low"] == pytest.approx(3.92 * noise.std() / 10, rel=0.1)


def test_three_runs_and_equal_stems(tmp_path, capsys):
  paths = []
  for folder in ("x", "y", "z"):
    (tmp_path / folder).mkdir()
    paths.append(write(tmp_path / folder / "run.jsonl", [row("p", 0.5, 0.5)]))
  got = report(capsys, *paths)
  assert list(got["runs"]) == ["run", "run~2", "run~3"]
  assert [(p["a"], p["b"]) for p in got["pairs"]] == [
    ("run", "run~2"), ("run", "run~3"), ("run~2", "run~3")
  ]  # fmt: skip


def test_table_and_plots(tmp_path, capsys):
  rng = np.random.default_rng(1)
  a, b = (
    write(
      tmp_path / name,
      [row(str(i), *rng.uniform(size=2), data_source="st"[i % 2]) for i in range(9)],
    )
    for name in ("a$_1.jsonl", "_b.jsonl")
  )
  assert main(["compare", a, b, "--plots", str(tmp_path / "plots" / "deep")]) == 0
  text = capsys.readouterr().out
  assert "== all" in text and "== s" in text and "hypervolume" in text
  pictures = sorted((tmp_path / "plots" / "deep").iterdir())
  assert [each.name for each in pictures] == ["pareto.png", "welfare.png"]
  assert all(each.read_bytes().startswith(b"\x89PNG") for each in pictures)


def test_a_front_of_one_point_is_drawn(tmp_path):
  """The best point of `a` is best in both: its front is a corner, from axis to axis."""
  a = write(tmp_path / "a.jsonl", [row(str(i), i / 9, i / 9) for i in range(9)])
  b = write(tmp_path / "b.jsonl", [row(str(i), 0.1, 0.1) for i in range(9)])
  assert main(["compare", a, b, "--plots", str(tmp_path)]) == 0
  shown = np.rint(255 * matplotlib.image.imread(tmp_path / "pareto.png")[..., :3])
  blue = (np.abs(shown - [0, 114, 178]) < 8).all(-1)
  assert (blue.sum(1) > 300).any() and (blue.sum(0) > 300).any()  # a long line along each axis


@pytest.mark.parametrize(
  "line, message",
  [
    ("{", "not a line of JSON"),
    ('{"user_reward": 1, "llm_reward": 1}', "needs a key id"),
    ('{"id": 1, "llm_reward": 1}', "no key user_reward"),
    ('{"id": 1, "user_reward": 1}', "no key llm_reward"),
    ('{"id": 1, "user_reward": "1", "llm_reward": 1}', "must be a number"),
    ('{"id": 1, "user_reward": NaN, "llm_reward": 1}', "must be a finite number"),
    ('{"id": 1, "user_reward": 1, "llm_reward": 1, "answer_reward": "x"}', "answer_reward"),
    ('{"id": 1, "user_reward": 1, "llm_reward": 1, "data_source": 5}', "data_source=5"),
    ('{"id": 1, "user_reward": 1, "llm_reward": 1, "completion_tokens": -1}', "at least 0"),
    (json.dumps(games(0, 1)[0] | {"payoff": [1, 2]}), "payoff='[1, 2]' must be null or 12 numbers"),
    (json.dumps(games(0, 1)[0] | {"action": "XX"}), "action='XX' must be null or one of DA, CQ"),
    (json.dumps(games(0, 1)[0] | {"intervention": 5}), "intervention='5'"),
    (json.dumps(games(0, 1)[0] | {"regret": "x"}), "regret='x' must be a number"),
  ],
)
def test_a_malformed_line_exits_2(tmp_path, capsys, line, message):
  good = write(tmp_path / "good.jsonl", [row("p", 1, 1)])
  (tmp_path / "bad.jsonl").write_text(json.dumps(row("p", 1, 1)) + "\n" + line + "\n")
  assert main(["compare", good, str(tmp_path / "bad.jsonl"), "--plots", str(tmp_path / "d")]) == 2
  captured = capsys.readouterr()
  assert message in captured.err and f"{tmp_path / 'bad.jsonl'}:2" in captured.err
  assert captured.err.count("\n") == 1 and not captured.out
  assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["{a}"], "at least two files"),
    ([], "arguments are required"),
    (["{a}", "{dir}/absent"], "cannot be read"),
    (["{a}", "{other}"], "a and other share no id"),
    (["{a}", "{null}"], "a and null share only rows with a null reward"),
    (["{a}", "{empty}"], "share no id"),
    (["{a}", "{a}", "--epsilon", "-1"], "epsilon=-1.0"),
    (["{a}", "{a}", "--epsilon", "nan"], "epsilon=nan"),
    (["{a}", "{a}", "--epsilon", "x"], "invalid float"),
    (["{a}", "{a}", "--bootstrap", "0"], "bootstrap=0"),
    (["{a}", "{a}", "--plots", "{a}"], "--plots"),
    (["{a}", "{a}", "--markdown", "{dir}"], "it is a folder"),
    (["{a}", "{dir}"], "holds no evaluated policy"),
  ],
)
def test_bad_calls_exit_2(tmp_path, capsys, arguments, message):
  names = {"dir": str(tmp_path)}
  for name, rows in (
    ("a", [row("p", 1, 1)]),
    ("other", [row("q", 1, 1)]),
    ("null", [row("p", None, 1)]),
    ("empty", []),
  ):
    names[name] = write(tmp_path / f"{name}.jsonl", rows)
  assert main(["compare", *(each.format(**names) for each in arguments)]) == 2
  captured = capsys.readouterr()
  assert message in captured.err
  assert captured.err.count("\n") == 1 and not captured.out


def test_the_table_is_rebuilt_from_the_rows(tmp_path, capsys):
  """Every measure of the game, as the functions that `gtalign eval` calls have it."""
  rows = games(0, 0.7)
  got = report(
    capsys, write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", games(1, 0.2))
  )
  run, parsed = got["runs"]["a"], [each for each in rows if each["parsed"]]
  payoff = np.reshape([each["payoff"] for each in rows], (12, 4, 2, 3, 2))
  shape = lambda key, names: np.reshape([names.index(r[key]) for r in rows], (12, 4))  # noqa: E731
  ok = np.reshape([each["parsed"] for each in rows], (12, 4))
  pair = np.reshape([[r["llm_reward"], r["user_reward"]] for r in rows], (12, 4, 2))
  types, actions = shape("user_type", ("DQ", "VQ")), shape("action", ("DA", "CQ", "AQ"))
  error = measures.calibration(payoff, types, actions, pair, ok)["error"]
  assert run["payoff_icc"] == pytest.approx(measures.payoff_icc(payoff, ok), abs=1e-12)
  assert run["calibration_error"] == pytest.approx(np.mean(error))
  right = [each["user_type"] == each["type_label"] for each in parsed]
  assert run["type_accuracy"] == pytest.approx(np.mean(right))
  went = [each["intervention"]["named"] == "DQ_CQ" for each in rows]
  assert run["follow"] == pytest.approx(np.mean(went)) and run["carry"] == pytest.approx(1 / 3)
  assert (run["hold"], run["sums_right"]) == (0.5, 0.5)
  assert run["regret"] == pytest.approx(0.03) and run["min"] < run["welfare"]
  gap = got["pairs"][0]["difference"]
  for key in ("payoff_icc", "type_accuracy", "follow", "calibration_error", "regret"):
    assert gap[key]["mean"] == pytest.approx(run[key] - got["runs"]["b"][key])
    assert gap[key]["low"] <= gap[key]["mean"] <= gap[key]["high"]
  assert gap["payoff_icc"]["p"] < 0.01 < gap["carry"]["p"]


def test_p_values_are_those_of_all_sign_flips():
  """Nine prompts: the 512 ways to flip the signs of their differences, one by one."""
  rng = np.random.default_rng(3)
  a, b = rng.normal(0.4, 1, 9), rng.normal(0, 1, 9)
  signs = 1 - 2 * ((np.arange(512)[:, None] >> np.arange(9)) & 1)
  want = np.mean(abs(signs @ (a - b)) >= abs((a - b).sum()) - 1e-9)
  ours = [{"x": resampling.of_values(each)} for each in (a, b)]
  assert resampling.differences(*ours, 10)["x"]["p"] == pytest.approx(want)
  many = [{"x": resampling.of_values(rng.normal(0.25 * i, 1, 200))} for i in (1, 0)]
  assert 1e-4 <= resampling.differences(*many, 10)["x"]["p"] < 0.1
  assert resampling.holm([0.01, 0.04, float("nan"), 0.03]) == pytest.approx(
    [0.03, 0.06, float("nan"), 0.06], nan_ok=True
  )


def test_no_interval_below_eight_prompts(tmp_path, capsys):
  paths = [write(tmp_path / name, games(i, 0.5, prompts=7)) for i, name in enumerate("ab")]
  for each in report(capsys, *paths)["pairs"][0]["difference"].values():
    assert each["mean"] is not None and each["low"] is each["p"] is None
  assert main(["compare", *paths]) == 0
  assert "[" not in capsys.readouterr().out.split("Brackets")[0]


def test_every_pair_of_several_runs_in_one_table(tmp_path, capsys):
  """Row less column, Holm over the pairs, in the text, in Markdown and in pictures."""
  paths = [write(tmp_path / f"{n}.jsonl", games(i, n / 10)) for i, n in enumerate((9, 5, 1))]
  out = [str(tmp_path / each) for each in ("t.md", "plots")]
  arguments = [*paths, "--markdown", out[0], "--plots", out[1], "--bootstrap", "200"]
  got = report(capsys, *arguments)
  gaps = {(p["a"], p["b"]): p["difference"]["welfare"] for p in got["pairs"]}
  assert gaps["9", "1"]["mean"] > gaps["9", "5"]["mean"] > 0
  assert all(each["p_holm"] >= each["p"] for each in gaps.values())
  text = (tmp_path / "t.md").read_text()
  part = text[text.index("## W, row less column") :].split("\n")
  assert part[2] == "|  | 9 | 5 | 1 |"
  assert part[4].startswith("| 9 |  | +0.") and " *" in part[4] and "| -0." in part[6]
  for words in ("ε-coverage", "hypervolume", "follow", "icc", "## Of medium", "permutation"):
    assert words in text, words
  names = ["pareto.png", "payoffs.png", "steering.png", "welfare.png"]
  assert sorted(each.name for each in (tmp_path / "plots").iterdir()) == names
  assert main(["compare", *paths, "--bootstrap", "9"]) == 0
  assert "a  9\nb  5\nc  1\n" in capsys.readouterr().out


def test_columns_that_rows_do_not_carry_are_named(tmp_path, capsys):
  a = write(tmp_path / "a.jsonl", [row(str(i), 0.5, 0.5) for i in range(9)])
  assert main(["compare", a, a]) == 0
  text = capsys.readouterr().out
  assert (
    "Not in these rows: outcome (needs rows of gtalign eval, in corrected mode); regret" in text
  )
  assert "follow (needs gtalign eval --intervene)" in text and "icc  " not in text


def test_every_column_is_explained():
  text = (Path(__file__).parents[2] / "docs" / "measures.md").read_text()
  for title, key in compare_text.COLUMNS.items():
    assert re.search(rf"^\| ([UL], )?{re.escape(title)}(, L)? \| .*`{key}`", text, re.M), title


def test_a_work_directory_stands_for_its_newest_policy(tmp_path, capsys):
  for policy, user in (("base", 0.1), ("grpo", 0.5)):
    (tmp_path / "run" / "eval").mkdir(parents=True, exist_ok=True)
    write(tmp_path / "run" / "eval" / f"{policy}.jsonl", [row("p", user, 0.5)])
  got = report(capsys, tmp_path / "run", tmp_path / "run" / "eval" / "base.jsonl")
  assert {name: each["user"] for name, each in got["runs"].items()} == {"run": 0.5, "base": 0.1}


@pytest.mark.parametrize("command", ["compare", "normalize"])
def test_starts_without_jax(tmp_path, command):
  a = write(tmp_path / "a.jsonl", [row("p", 1, 1, score=1, source="s")])
  b = write(tmp_path / "b.jsonl", [row("p", 1, 0)])
  arguments = [a, b, "--json"] if command == "compare" else [a, a, "--method", "cdf"]
  code = (
    "import sys; from gtalign_jax.cli.main import main\n"
    f"code = main({[command, *arguments]!r})\n"
    "heavy = {'jax', 'flax', 'orbax', 'transformers', 'matplotlib'} & set(sys.modules)\n"
    "sys.exit(code or ' '.join(heavy) or 0)"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
