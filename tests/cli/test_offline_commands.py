"""generate, score, compare and normalize as a chain; eval's flags; whose an existing output is."""

import json

import pytest

from gtalign_jax.cli.main import main

pytestmark = pytest.mark.usefixtures("shared_programs")
CONFIG = """
from gtalign_jax.config import *
def config():
  return Config(
    model="random:tiny", workdir="{workdir}", data=DataConfig(max_prompt_tokens=4096),
    rollout=RolloutConfig(prompt_buckets=(128, 256, 512, 1024, 2048, 4096), max_new_tokens=400),
  )
"""
TINY = ["--group-size", "2", "--max-new-tokens", "2"]


def prompt(name, source, text):
  return {
    "id": name,
    "data_source": source,
    "prompt": [{"role": "user", "content": text}],
    "ground_truth": "2",
  }


PROMPTS = [prompt("p", "math-hard", "1+1?"), prompt("q", "math-hard", "2?"), prompt("r", "s", "?")]


def rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Where prompts and their completions lie; a path with signs of its own."""
  home = tmp_path_factory.mktemp("a=b") / "lr=1e-4"
  home.mkdir()
  (home / "in.jsonl").write_text("".join(json.dumps(each) + "\n" for each in PROMPTS))
  (home / "c.py").write_text(CONFIG.format(workdir=home / "run"))
  (home / "data" / "math-hard").mkdir(parents=True)
  (home / "data" / "math-hard" / "test.jsonl").write_text(json.dumps(PROMPTS[0]) + "\n")
  out = home / "out.jsonl"
  given = ["--model", "random:tiny", "--prompts", str(home / "in.jsonl")]
  assert main(["generate", *given, str(out), *TINY]) == 0
  assert [each["sample"] for each in rows(out)] == [0, 1] * 3
  return home


def one_line(capsys):
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  return error


def test_generate_score_compare_normalize(folder, tmp_path, capsys):
  """Samples are samples of a prompt all the way, and sources are counted."""
  generated = rows(folder / "out.jsonl")
  assert main(["score", str(folder / "out.jsonl"), str(tmp_path / "a.jsonl")]) == 2
  assert "rewards.tasks" in one_line(capsys)  # the source `s` has no task
  known = [each | {"judge_score": 1} for each in generated if each["data_source"] != "s"]
  (tmp_path / "in.jsonl").write_text("".join(json.dumps(each) + "\n" for each in known))
  for name in ("a", "b"):
    out, alpha = tmp_path / f"{name}.jsonl", f"rewards.alpha=0.{5 + (name == 'b')}"
    assert main(["score", str(tmp_path / "in.jsonl"), str(out), alpha]) == 0
  carried = ("sample", "data_source", "completion_tokens", "prompt_tokens", "finish_reason")
  for before, after in zip(known, rows(tmp_path / "a.jsonl"), strict=True):
    assert all(after[key] == before[key] for key in carried) and "prompt" not in after
  capsys.readouterr()
  both = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
  assert main(["compare", *both, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["runs"]["a"]["n"] == 2 and found["runs"]["a"]["averaged_ids"] == 2
  assert found["runs"]["a"]["completion_tokens"] == 2.0
  assert list(found["sources"]) == ["math-hard"] and found["pairs"][0]["n_shared"] == 2
  assert main(["normalize", both[0], str(tmp_path / "n.jsonl"), "--method", "minmax"]) == 0
  assert [each["normalized"] for each in rows(tmp_path / "n.jsonl")] == [0.0] * 4


def generate(folder, out, *more):
  given = ["--model", "random:tiny", "--prompts", str(folder / "in.jsonl"), str(out)]
  return main(["generate", *given, *TINY, *more])


def test_what_was_sampled_is_kept(folder, tmp_path, capsys):
  out, before = folder / "out.jsonl", (folder / "out.jsonl").read_bytes()
  assert generate(folder, out, "--json") == 0  # the same job: done
  assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"rows": 6, "prompts": 3}
  assert generate(folder, out, "--seed", "1") == 2
  assert "--overwrite" in capsys.readouterr().err and out.read_bytes() == before
  half = tmp_path / "half.jsonl"
  (tmp_path / "half.jsonl.partial").write_text('{"job": "another"}\n{"id": 1}\n')
  assert generate(folder, half) == 2
  assert f"{half}.partial holds rows of another job" in capsys.readouterr().err
  assert generate(folder, half, "--overwrite") == 0
  assert half.read_bytes() == before and not (tmp_path / "half.jsonl.partial").exists()
  half.with_name("half.jsonl.job").unlink()
  capsys.readouterr()
  assert generate(folder, half) == 2  # nobody knows whose it is; told before the model is loaded
  assert "is there already" in one_line(capsys)


def test_flags_of_eval_work_with_a_config_too(folder, capsys):
  """The same job said in both forms gives the same rows; a path with a sign is no override."""
  both = []
  for form in (["--model", "random:tiny"], [str(folder / "c.py")]):
    both.append(folder / f"{len(both)}.jsonl")
    flags = [*TINY, "--temperature", "0", "--seed", "5", "--template", "released", "--prompts", "1"]
    data = ["--data", str(folder / "data")]
    assert main(["eval", *form, *flags, *data, str(both[-1]), "--rewards.alpha=0.3"]) == 0
    shown = capsys.readouterr().out.splitlines()
    first = [line.split()[0] for line in (*shown[:3], shown[-1])]
    assert first == ["source", "math-hard", "all", "2"]
    assert shown[0].split()[1:3] == ["W", "U"] and shown[1].split()[1:] == shown[2].split()[1:]
  first, second = map(rows, both)
  assert first == second and len(first) == 2
  assert [each["completion_tokens"] for each in first] == [2, 2]
  assert first[0]["completion"] == first[1]["completion"]  # greedy
  assert [each["content"] for each in first[0]["prompt"]] == ["1+1?"]


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    (["{c}", "{out}", "rollout.temperature=0"], "rollout.temperature=0: gtalign eval reads only"),
    (["{c}", "{out}", "grpo.steps=3"], "grpo.steps=3: gtalign eval reads only"),
    (["--model=random:tiny", "{out}", "log.samples=3"], "log.samples=3"),
    (["{c}", "{out}", "{out}"], "gtalign eval takes CONFIG.py OUT.jsonl"),
    (["{out}"], "gtalign eval takes CONFIG.py OUT.jsonl"),
    (["eval.prompts=3"], "gtalign eval takes CONFIG.py OUT.jsonl"),
    (["{c}", "{out}", "--prompts", "0"], "--prompts=0: must be at least 1"),
    (["{c}", "{out}", "--temperature", "nan"], "--temperature=nan"),
    (["{c}", "{out}", "--temperature", "inf"], "--temperature=inf: must be a finite number"),
    (["{c}", "{out}", "--group-size", "2147483648"], "must be below 2**24"),
    (["{c}", "{out}", "--beta=0.1"], "beta=0.1: gtalign eval reads only"),
    (["{c}", "{out}", "--num_generations", "3"], "rollout.group_size=…"),
    (["{c}", "{c}"], "is read as well"),
    (["{c}", "{dir}"], "it is a folder"),
    (["{c}", "/dev/stdout"], "a pipe or device"),
    (["{c}", "{dir}/no/out.jsonl"], "there is no such folder"),
    (["{c}", "{there}"], "--overwrite"),
  ],
)
def test_eval_refuses_at_once(folder, tmp_path, capsys, given, expected):
  names = {"c": folder / "c.py", "out": tmp_path / "o.jsonl", "dir": tmp_path}
  names["there"] = tmp_path / "there.jsonl"
  names["there"].write_text("rows")
  assert main(["eval", *(each.format(**names) for each in given)]) == 2
  assert expected in one_line(capsys)
  assert names["there"].read_text() == "rows" and not names["out"].exists()
