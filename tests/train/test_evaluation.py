"""Edited matrices in the evaluations of a run; chains are scripted, as no tiny model writes any."""

import json
import logging

import pytest
from real_runs import TINY
from scripted import encode, opening, rest, tenths

from gtalign_jax.cli.main import main
from gtalign_jax.rollout import intervene

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")
# so few tokens that a chain of bytes just fits into the prompt of a head
SMALL = (
  "sft.steps=0", "grpo.steps=1", "grpo.prompts_per_step=2", "grpo.micro_prompts=2",
  "grpo.length_buckets=[352]", "grpo.kl_coef=0", "rollout.max_new_tokens=352", "rollout.segment=352",
  "eval.prompts=2", "eval.group_size=1",
)  # fmt: skip


@pytest.mark.slow
def test_every_evaluation_of_a_run_edits_the_first_chains(tmp_path, monkeypatch, caplog):
  sampled = intervene.chains

  def readable(*given):
    found = enumerate(sampled(*given))
    return [each._replace(ids=encode(opening(tenths(n)) + rest(0))) for n, each in found]

  monkeypatch.setattr(intervene, "chains", readable)
  caplog.set_level(logging.INFO)
  given = [str(TINY), f"workdir={tmp_path}", *SMALL, "eval.intervene_prompts=1"]
  assert main(["train", *given]) == 0
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  evaluated = [line for line in lines if line["phase"] == "eval"]
  assert [line["policy"] for line in evaluated] == ["base", "grpo"]
  for line in evaluated:  # a random policy names nothing, before the edits and after
    assert (line["game/follow"], line["game/hold"], line["game/effect"]) == (0.0, 0.0, -1.0)
    rows = (tmp_path / "eval" / f"{line['policy']}.jsonl").read_text().splitlines()
    assert ["intervention" in json.loads(row) for row in rows] == [True, False]
  assert caplog.text.count("follow 0.00") == 2


def test_no_more_prompts_are_edited_than_evaluated(tmp_path, capsys):
  assert main(["train", str(TINY), f"workdir={tmp_path}", "eval.intervene_prompts=9"]) == 2
  assert "eval.intervene_prompts=9: must be at most eval.prompts=4" in capsys.readouterr().err
