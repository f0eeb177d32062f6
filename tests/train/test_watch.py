"""The watch: what each rule fires on, what it does not, once an episode, and the same after a resume."""

import json
import logging

import numpy as np
import pytest
import real_runs

from gtalign_jax.sections import LogConfig, WatchConfig
from gtalign_jax.train import metrics, watch

SOUND = {
  "game/distinct_frac": 0.9, "game/payoff_icc": 0.4, "chain/parse_rate": 0.9,
  "rewards/answer/mean": 0.5, "reward": 0.4, "completions/clipped_ratio": 0.05, "kl": 0.02,
}  # fmt: skip
STEPS = 60


def course(seed=0, noise=0.03, **changes):
  """Rows of a run; changes: metric -> value at the end, which it reaches between steps 25 and 35."""
  rng = np.random.default_rng(seed)
  rows = []
  for step in range(1, STEPS + 1):
    part = np.clip((step - 25) / 10, 0, 1)
    row = {name: value + noise * rng.normal() for name, value in SOUND.items()}
    for name, end in changes.items():
      row[name] = SOUND[name] + part * (end - SOUND[name]) + noise * rng.normal()
    rows.append(row)
  return rows


def told(rows, config=None):
  """(step, key of the rule) of all warnings."""
  seer = watch.Watch(config or WatchConfig())
  found = []
  for step, row in enumerate(rows, start=1):
    texts = seer.see("grpo", step, row)
    found += [(step, text.rpartition("watch.")[2].partition("=")[0]) for text in texts]
  return found


@pytest.mark.parametrize(
  "changes, key",
  [
    ({"game/distinct_frac": 0.3}, "distinct_fall"),
    ({"game/payoff_icc": 0.1}, "icc_fall"),
    ({"chain/parse_rate": 0.5}, "parse_fall"),
    ({"rewards/answer/mean": 0.35, "reward": 0.55}, "answer_fall"),
    ({"completions/clipped_ratio": 0.8}, "clipped"),
    ({"kl": 0.9}, "kl"),
  ],
)
def test_each_rule_warns_once_of_its_own(changes, key):
  for seed in range(5):
    [(step, found)] = told(course(seed, **changes))
    assert found == key and 25 < step < 46
    assert told(course(seed, **changes), WatchConfig(**{key: 0})) == []


def test_a_sound_run_says_nothing():
  for seed in range(20):
    assert told(course(seed, noise=0.1)) == []


@pytest.mark.parametrize(
  "changes",
  [
    {"game/distinct_frac": 0.6},  # a third, not a half
    {"rewards/answer/mean": 0.35},  # the reward does not rise
    {"rewards/answer/mean": 0.6, "reward": 0.6},
    {name: 2 * value for name, value in SOUND.items() if name != "kl"}
    | {"completions/clipped_ratio": 0.4},  # all is well
  ],
)
def test_what_is_no_fault_does_not_warn(changes):
  assert told(course(1, **changes)) == []


def test_noise_alone_does_not_warn():
  """The best window of an ICC of 0.02 is twice the worst, by chance; so is it for parse rates."""
  rng = np.random.default_rng(3)
  for mean, spread, name in ((0.02, 0.03, "game/payoff_icc"), (0.3, 0.15, "chain/parse_rate")):
    for _ in range(20):
      values = np.clip(mean + spread * rng.normal(size=300), 0, 1)
      assert told([{name: each} for each in values]) == []


def test_one_warning_an_episode():
  low, high = [{"chain/parse_rate": 0.1}], [{"chain/parse_rate": 0.9}]
  # it flickers at the bound for a while, recovers, and falls again
  rows = high * 20 + low * 6 + high * 3 + low * 10 + high * 25 + low * 20
  found = told(rows)
  assert [key for _, key in found] == ["parse_fall"] * 2
  first, second = (step for step, _ in found)
  assert 20 < first <= 26 and 64 < second <= 70


def test_lines_without_the_number_are_passed_over():
  rows = course(0, **{"game/payoff_icc": 0.05})
  thinned = []
  for row in rows:
    thinned += [row, row | {"game/payoff_icc": None}, {}]
  [(step, key)] = told(thinned)
  assert key == "icc_fall" and 3 * 25 < step < 3 * 46
  seer = watch.Watch(WatchConfig())
  assert not any(seer.see(phase, n, {"kl": 9.0}) for phase in ("sft", "eval") for n in range(50))


def write(workdir, rows, first=1):
  with metrics.Writer(workdir, LogConfig()) as writer:
    writer.resume({"sft": 0, "grpo": first - 1})
    for step, row in enumerate(rows[first - 1 :], start=first):
      writer.write("grpo", step, row)


def test_warnings_are_logged_and_kept_and_a_resume_goes_on(tmp_path, caplog):
  rows = course(2, **{"chain/parse_rate": 0.4, "kl": 0.8})
  with caplog.at_level(logging.WARNING):
    write(tmp_path / "whole", rows)
  lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
  marked = [row for row in map(json.loads, lines) if "watch" in row]
  texts = [f"grpo step {row['step']}: {text}" for row in marked for text in row["watch"]]
  assert len(texts) == 2 and [record.message for record in caplog.records] == texts
  parse = next(text for text in texts if "parse_rate" in text)
  assert "fewer chains can be read: chain/parse_rate fell from 0.9" in parse
  assert "against steps" in parse and parse.endswith("watch.parse_fall=0.25)")
  at = marked[0]["step"]
  for cut in (1, 12, at - 1, at, at + 1, STEPS):  # killed within the next line, and resumed
    folder = tmp_path / str(cut)
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:cut]) + "\n" + '{"phase": "gr')
    write(folder, rows, first=cut + 1)
    assert (folder / "metrics.jsonl").read_text().splitlines() == lines, cut


def test_a_real_run_warns_and_goes_on(tmp_path):
  """Random weights never stop by themselves: all completions run out of budget."""
  bounds = ("watch.window=2", "watch.clipped=0.9", "sft.steps=0", "eval.every=0", "grpo.steps=3")
  done = real_runs.finish(tmp_path / "run", *bounds)
  said = [row["watch"] for row in real_runs.metrics(tmp_path / "run") if "watch" in row]
  assert len(said) == 1 and said[0][0].startswith("completions run out of budget: ")
  assert done.stderr.count("completions run out of budget") == 1
  assert "Update 2: completions run out of budget" in (tmp_path / "run/report.html").read_text()
