"""Work directories as finished runs leave them, with invented numbers, and the page read back."""

import html.parser
import json

import numpy as np

from gtalign_jax import config as configs
from gtalign_jax.types import CELLS

EVIL = "<script>alert('x')</script>\"'&\ud800\x00"
SOURCES = ("math-hard", "ambig_qa", "medium", "wildguard")
QUESTIONS = (
  "What is the sum of the first twelve odd numbers?",
  "When did the games take place in the capital?",
  "Write a short note to my landlord about the heating.",
  "How do I pick a lock that I am locked out of?",
)
# named cell, thinking, response; the matrix is drawn per prompt so that no two are alike
PLANS = (
  ("DQ_DA", "The user asks for one number and says all that is needed: DQ.", "The sum is 144."),
  ("VQ_CQ", "Several games fit: VQ.", "Which games do you mean, and in which year?"),
  ("VQ_AQ", "The tone is open: VQ.", "Here is a short note to send. Should it sound firmer?"),
  ("DQ_DA", "One aim, plainly stated: DQ.", "I would call a locksmith; bring proof of residence."),
)


def chain_text(named, thinking, response, rng):
  """A chain with a drawn matrix in which the named cell is the best."""
  cells = {
    c: {"LLM": float(x), "user": float(y)} for c, (x, y) in zip(CELLS, rng.integers(1, 5, (6, 2)))
  }
  cells[named] = {"LLM": 5.0, "user": 5.0}
  return (
    f"<thinking>{thinking}</thinking>\n<payoff>{json.dumps(cells)}</payoff>\n"
    f"<analyze>{named} gives both players the most, so I choose {named}.</analyze>\n"
    f"<response>{response}</response>"
  )


def completion(index, rng, evil=""):
  named, thinking, response = PLANS[index % 4]
  return chain_text(named, thinking + evil, response + evil, rng)


def eval_rows(quality, rng, prompts=16, evil=""):
  """Rows of `gtalign eval`; quality in [0, 1] moves parse rate and rewards."""
  rows = []
  for index in range(prompts):
    for sample in range(2):
      good = rng.random() < quality
      user = float(np.clip(0.25 + 0.5 * quality + 0.12 * rng.normal(), 0, 1))
      llm = float(np.clip(0.15 + 0.5 * quality + 0.12 * rng.normal(), 0, 1))
      text = completion(index, rng, evil) if good else f"Sure! Here is what I think. {evil}"
      rows.append({
        "id": f"p{index}#{sample}", "data_source": SOURCES[index % 4] + evil, "sample": sample,
        "prompt": [
          {"role": "system", "content": "s"},
          {"role": "user", "content": QUESTIONS[index % 4] + evil},
        ],
        "completion": text, "finish_reason": "stop" if good else "length",
        "completion_tokens": int(rng.integers(180, 260)), "prompt_tokens": 100,
        "user_reward": user, "llm_reward": llm,
        "utility": (user * llm) ** 0.5, "score": (user * llm) ** 0.5,
        "answer_reward": float(rng.random() < quality), "format": int(good), "parsed": good,
        "parse_error": None if good else "missing_block", "valid": True,
        "decision": float(good), "choice": float(good), "carried_out": float(good),
      })  # fmt: skip
  return rows


def metric_rows(rng, sft=18, grpo=40):
  yield {"phase": "eval", "step": 0, "policy": "base", "rewards/welfare/mean": 0.2}
  for k in range(1, sft + 1):
    yield {
      "phase": "sft",
      "step": k,
      "loss": 2.6 * 0.9**k + 0.05 * rng.random(),
      "grad_norm": 2.0,
      "lr": 5e-4,
    }
  for k in range(0, grpo + 1):
    w = 0.55 + 0.12 * (1 - 0.94**k)
    values = {
      "W": w, "rewards/welfare/mean": w, "rewards/user/mean": w + 0.05, "rewards/llm/mean": w - 0.06,
      "rewards/format/mean": 0.85 + 0.003 * k, "rewards/decision/mean": 0.6 + 0.006 * k,
      "chain/parse_rate": 0.85 + 0.003 * k,
    }  # fmt: skip
    if k % 20 == 0:
      yield {"phase": "eval", "step": k, "policy": "grpo" if k else "sft"} | values
    if k:
      noisy = {key: min(1.0, value + 0.03 * rng.normal()) for key, value in values.items()}
      length = 225 - 0.5 * k + 5 * rng.normal()
      yield {
        "phase": "grpo", "step": k, "loss": 0.01 * rng.normal(),
        "reward": noisy["rewards/welfare/mean"],
        "entropy": 0.8 - 0.008 * k + 0.02 * rng.normal(), "kl": 0.0005 * k + 0.001 * rng.random(),
        "grad_norm": 0.6 + 0.1 * rng.random(), "completions/mean_length": length,
        "game/payoff_icc": 0.4 + 0.1 * rng.random(), "game/distinct_frac": 0.9,
        "game/regret": 0.1 * 0.97**k, "game/calibration_error/user": 0.3 * 0.99**k,
        "game/calibration_error/llm": 0.25, "conversation/turns/mean": 1.4,
        "conversation/answered_frac": 0.7, "conversation/left_frac": 0.3,
        "completions/min_length": length - 60, "completions/max_length": length + 80,
      } | noisy  # fmt: skip


def jsonl(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make(workdir, gains=(("base", 0.02), ("sft", 0.85), ("grpo", 0.95)), evil="", seed=0):
  """A work directory as a finished run leaves it."""
  rng = np.random.default_rng(seed)
  workdir.mkdir(parents=True, exist_ok=True)
  config = configs.as_dict(
    configs.Config(workdir=str(workdir), model="m" + evil.replace("\ud800", ""))
  )
  (workdir / "config.json").write_text(json.dumps(config))
  jsonl(workdir / "metrics.jsonl", metric_rows(rng))
  for name, quality in gains:
    jsonl(workdir / "eval" / f"{name}.jsonl", eval_rows(quality, rng, evil=evil))
  seconds = {"install": 92.0, "load": 11.2, "compile": 48.9, "sft": 301.4, "rollout": 412.0}
  seconds |= {"reward": 6.1, "update": 256.3, "evaluation": 88.0, "checkpoint": 14.0, "other": 3.0}
  (workdir / "timings.json").write_text(json.dumps(seconds))
  return workdir


class Page(html.parser.HTMLParser):
  """Tags, attributes and visible text of a page, and whether its elements nest."""

  VOID = ("meta", "br", "path", "use", "rect", "circle", "line")

  def __init__(self, text):
    super().__init__()
    self.tags, self.attributes, self.text, self.open = [], [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.attributes += attributes
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.tags.append(tag)
    self.attributes += attributes

  def handle_endtag(self, tag):
    if tag not in self.VOID:
      assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

  def handle_data(self, data):
    self.text.append(data)
