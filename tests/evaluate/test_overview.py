"""What `gtalign eval` shows, and an offline job that goes on after any whole prompt."""

import json

import numpy as np
import pytest

from gtalign_jax.cli.main import main
from gtalign_jax.evaluate import compare
from gtalign_jax.jsonl import read

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")
RNG = np.random.default_rng(0)


def row(prompt, sample, source, valid=True):
  user, llm = (float(x) if valid else None for x in RNG.uniform(0.2, 0.8, 2))
  return {
    "id": f"{prompt}#{sample}", "sample": sample, "data_source": source, "valid": valid,
    "parsed": bool(valid and sample), "answer_reward": 0.5 if valid else None, "user_reward": user, "llm_reward": llm,
  }  # fmt: skip


def test_each_source_has_means_with_intervals_and_its_number_of_prompts():
  rows = [row(f"p{p}", s, ("medium", "math-hard")[p % 2]) for p in range(12) for s in range(2)]
  lost = [row("lost", s, "medium", valid=False) for s in range(2)]
  lines = compare.overview(rows + lost, "out.jsonl").splitlines()
  assert lines[0].split() == ["source", "W", "U", "L", "parsed", "answer", "prompts"]
  names = [line.split()[0] for line in lines[1:4]]
  assert names == ["math-hard", "medium", "all"] and len(lines) == 5
  assert [line.split()[-1] for line in lines[1:4]] == ["6", "6", "12"]
  assert "0.500 [0.500, 0.500]" in lines[3]  # one of two chains of each prompt parsed
  user = np.mean([each["user_reward"] for each in rows])
  assert f"{user:.3f} [" in lines[3]
  assert lines[4] == "2 of 26 completions have no verdict and count nowhere"
  only = compare.overview(lost, "out.jsonl").splitlines()
  assert only[1].split() == ["all", "-", "-", "-", "-", "-", "0"]


@pytest.mark.slow
def test_a_job_goes_on_after_any_prompt_whatever_the_width(tmp_path):
  """Draws depend on the prompt's number alone, so width and place of the cut change no row."""
  prompts = tmp_path / "prompts.jsonl"
  lines = [
    {"data_source": "medium", "prompt": [{"role": "user", "content": f"{i}?"}]} for i in range(5)
  ]
  prompts.write_text("".join(json.dumps(each) + "\n" for each in lines))
  flags = ["generate", "--model", "random:tiny", "--prompts", str(prompts), "--group-size", "2"]
  flags += ["--max-new-tokens", "4"]
  whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
  assert main([*flags, str(whole)]) == 0
  rows = [each for _, each in read(whole)]
  job = json.loads((tmp_path / "whole.jsonl.job").read_text().splitlines()[0])
  partial = [job, *rows[:6], {"half": 1}]
  (tmp_path / "cut.jsonl.partial").write_text("".join(json.dumps(each) + "\n" for each in partial))
  assert main([*flags, "--prompts-at-once", "2", str(cut)]) == 0
  assert [each for _, each in read(cut)] == rows
  wide = tmp_path / "narrow.jsonl"
  assert main([*flags, "--dtype", "bfloat16", str(wide)]) == 0
  assert [each["id"] for _, each in read(wide)] == [each["id"] for each in rows]
