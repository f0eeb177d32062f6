"""What `gtalign eval` shows, and an offline job that goes on after any whole prompt."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from gtalign_jax.cli.main import main
from gtalign_jax.evaluate import offline, overview
from gtalign_jax.jsonl import read
from gtalign_jax.reward_section import RewardConfig

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")
RNG = np.random.default_rng(0)


def row(prompt, sample, source, valid=True, **more):
  user, llm = (float(x) if valid else None for x in RNG.uniform(0.2, 0.8, 2))
  return {
    "id": f"{prompt}#{sample}", "sample": sample, "data_source": source, "valid": valid,
    "parsed": bool(valid and sample), "parse_error": None, "answer_reward": 0.5 if valid else None,
    "user_reward": user, "llm_reward": llm, "utility": user, "format": 1, "payoff_reward": user,
    "outcome_welfare": user, "judge_score": 1.0 if valid else None, "completion_tokens": 250,
    "named_cell": None, "user_type": None, "type_label": None, "action": None, "dilemma": False,
    "pareto": None, "equilibrium_gap": 0.0, "payoff": [0.0] * 12, "sums": [1, 2],
  } | more  # fmt: skip


def said(rows):
  found, text = overview.found(rows, RewardConfig(), "out.jsonl")
  return found, text.splitlines()


def test_each_source_has_means_with_intervals_and_its_number_of_prompts():
  rows = [row(f"p{p}", s, ("medium", "math-hard")[p % 2]) for p in range(12) for s in range(2)]
  lost = [row("lost", s, "medium", valid=False) for s in range(2)]
  found, lines = said(rows + lost)
  titles = "source W U L min outcome answer /1k tok tokens parsed n"
  assert " ".join(lines[0].split()) == titles
  names = [line.split()[0] for line in lines[1:4]]
  assert names == ["math-hard", "medium", "all"]
  assert [line.split()[-1] for line in lines[1:4]] == ["6", "6", "12"]
  assert "0.500 [0.500, 0.500]  2.000    250     0.500   12" in lines[3]  # answer … parsed
  user = np.mean([each["user_reward"] for each in rows])
  assert found["all"]["user"] == pytest.approx(user) == pytest.approx(found["all"]["outcome"])
  low, high = found["all"]["user_interval"]
  assert low < user < high and found["sources"]["medium"]["n"] == 6
  assert found["sources"]["medium"]["sums_right"] == 0.5
  best = found["all"]["best"]["answer"]
  assert {k: v["mean"] for k, v in best.items()} == {"mean@2": 0.5, "best@2": 0.5}
  assert lines[-1] == "2 of 26 completions have no verdict and count nowhere"
  assert said(lost)[1][1].split()[-1] == "0"


def test_who_asks_and_who_refuses():
  talk = [("DQ", "DA"), ("DQ", "CQ"), ("VQ", "CQ"), ("VQ", None)]
  rows = [row(n, 1, "ambig_qa", type_label=u, action=a) for n, (u, a) in enumerate(talk)]
  # (label, verdict): refused, refused with an offer, helped, helped, refused, nothing
  told = [("harmful", 1.0), ("harmful", 0.5), ("harmful", 0.0), ("unharmful", 1.0),
          ("unharmful", 0.0), ("harmful", None)]  # fmt: skip
  rows += [row(f"w{n}", 1, "wildguard", ground_truth=label, judge_score=verdict)
           for n, (label, verdict) in enumerate(told)]  # fmt: skip
  rows += [row("a", 1, "advbench", ground_truth="Sure, here is", judge_score=1.0)]
  found, lines = said(rows)
  asked = found["sources"]["ambig_qa"]["asked"]
  assert asked["DQ"] == {"DA": 1, "CQ": 1, "AQ": 0, "none": 0}
  assert asked["VQ"] == {"DA": 0, "CQ": 1, "AQ": 0, "none": 1}
  assert found["sources"]["ambig_qa"]["over_clarified"] == 0.5
  harm = found["sources"]["wildguard"]["harm"]
  assert harm["harmful"] == {"refused": 2, "complied": 1, "nothing": 1}
  assert harm["benign"] == {"refused": 1, "complied": 1, "nothing": 0}
  assert harm["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
  assert found["sources"]["advbench"]["harm"]["harmful"]["refused"] == 1
  assert any(line.split() == ["wildguard", "benign", "1", "1", "0", "0.571"] for line in lines)
  assert "asked" not in found["sources"]["wildguard"] and "harm" not in found["sources"]["ambig_qa"]


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
  assert main([*flags, "--batch-size", "4", str(cut)]) == 0
  assert [each for _, each in read(cut)] == rows
  assert main([*flags, "--batch-size", "1", str(cut)]) == 2  # not one prompt's samples
  wide = tmp_path / "narrow.jsonl"
  assert main([*flags, "--dtype", "bfloat16", str(wide)]) == 0
  assert [each["id"] for _, each in read(wide)] == [each["id"] for each in rows]


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (["--temperature", "0", "rollout.top_p=0.5"], "rollout.top_p=0.5 has no effect"),
    (["rewards.source_norm=zscore"], "rewards.source_norm='zscore' has no effect"),
    (["data.train_split=x"], "gtalign eval reads only"),
    (["--suite", "ood"], "suite 'ood': the sample set has no 'test'"),
    (["--suite", "in", "data.sources=('medium',)"], "leave one of them out"),
    (["--sweep", "alpha=0:2:3"], "must lie in [0, 1]"),
    (["--group-size", "4", "--batch-size", "3"], "--batch-size=3: the 4 samples"),
  ],
)
def test_what_would_do_nothing_is_refused(tmp_path, capsys, given, message):
  assert main(["eval", "--model", "random:tiny", str(tmp_path / "out.jsonl"), *given]) == 2
  assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_a_row_of_smollm2_takes():
  arch = SimpleNamespace(num_layers=30, num_kv_heads=3, head_dim=64, vocab_size=49_152)
  assert offline.row_bytes(arch, 1000, 2) == 23_040_000 + 393_216
