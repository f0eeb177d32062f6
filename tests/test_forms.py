"""Forms of the chain: what each writes, reads, earns and measures, and what none without a matrix has."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from gtalign_jax import report
from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge, prompts, sources
from gtalign_jax.data.records import Record
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.models import tokenizer as tokenizers
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain, judges, score
from gtalign_jax.rollout import collect, talk
from gtalign_jax.sections import DataConfig, SFTConfig
from gtalign_jax.synthesize import check, labels, sft_data
from gtalign_jax.types import ACTIONS, BLOCKS, FORMS, GAME

OTHERS = [form for form in FORMS if form != GAME]
RULE = judges.make(JudgeConfig())
THINK = "<thinking>Two years fit: VQ.</thinking><response>Which year do you mean?</response>"
BARE = "Which year do you mean?"
GAME_CHAIN = labels.chain(sources.load(DataConfig(), "test")[0], 0)


def of_form(form, **changes):
  return vary(Config(), {"chain.form": form, **changes})


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
  "form, text, error, response",
  [
    ("think", THINK, None, BARE),
    ("think", f" {THINK}\n", None, BARE),
    ("think", BARE, "missing_block", None),
    ("think", THINK[:-5], "truncated", None),
    ("think", THINK[: THINK.index("<response>") + 4], "truncated", None),
    ("think", f"{THINK} and more", "stray_text", BARE),
    ("think", GAME_CHAIN, "stray_text", chain.parse(GAME_CHAIN).response),
    ("think", THINK.replace("Two", "<response>Two"), "repeated_block", None),
    ("none", BARE, None, BARE),
    ("none", f"\n{BARE} ", None, BARE),
    ("none", " \n", "missing_block", None),
    ("none", THINK, "stray_text", THINK),  # who reads it reads the tags
  ],
)
def test_what_each_form_takes(form, text, error, response):
  found = chain.parse(text, form=form)
  assert (found.error, found.format, found.response) == (error, int(error is None), response)
  assert found.payoff is None and found.numbers is None
  assert talk.decided(text, RewardConfig(), form).response == response


def test_a_bare_response_at_the_end_of_the_budget_is_none():
  assert chain.blocks(BARE, form="none", cut=True)[1:] == (None, 0, "truncated")
  assert chain.blocks(THINK, form="think", cut=True).error is None  # its tags say that it is whole
  cut = {"completion": BARE, "finish_reason": "length"}
  talk_of_one = {"turns": [{"role": "assistant"} | cut], "ended": "turns"}
  for each in (row("none", **cut), row("none", **cut, **talk_of_one)):
    assert each["parse_error"] == "truncated" and each["answer_reward"] == 0
  assert collect.uncounted(BARE, "none", "length")["response_tokens"] == 0
  assert collect.uncounted(BARE, "none")["response_tokens"] == 5


@pytest.mark.parametrize("form", FORMS)
def test_tokens_belong_to_the_blocks_of_the_form(form):
  pieces = [each.encode() for each in (THINK[:10], THINK[10:40], THINK[40:])]
  blocks = {"think": [0, 0, 3], "none": [3, 3, 3], "game": [0, 0, 3]}[form]
  assert chain.token_blocks(pieces, form).tolist() == blocks


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["compact", "full"])
def test_each_template_asks_for_the_blocks_of_its_form(name, form):
  text = prompts.template_text(name, form)
  assert [block for block in BLOCKS if f"<{block}>" in text] == list(FORMS[form])
  assert ("payoff" in text.lower()) == ("payoff" in FORMS[form])


@pytest.mark.parametrize("form", OTHERS)
def test_the_warm_start_keeps_the_blocks_that_a_form_has(form, tmp_path):
  """From labels and from a file of whole chains alike."""
  data, tiny = DataConfig(max_prompt_tokens=1536), tokenizers.tiny()
  records, config = sources.load(data, "test")[:60:12], of_form(form)
  path = tmp_path / "chains.jsonl"
  whole = [labels.chain(record, 5) for record in records]
  path.write_text(
    "".join(json.dumps(r._asdict() | {"completion": t}) + "\n" for r, t in zip(records, whole))
  )
  encoded = prompts.encode(records, tiny, data, form=form)
  # a preset may bring counterfactual chains along
  given = [SFTConfig(max_tokens=4000, counterfactual=0.5, data=file) for file in ("", str(path))]
  for sft in given:
    pairs, _ = sft_data.examples(encoded, tiny, sft, seed=5, data_config=data, config=config)
    for text, (prompt, completion) in zip(whole, pairs, strict=False):
      said, found = tiny.decode(completion[:-1]), chain.parse(text)
      assert prompts.template_text("compact", form) in tiny.decode(prompt)
      read = chain.parse(said, form=form)
      assert read.error is None and read.response == found.response and "payoff" not in said
      assert read.thinking == (found.thinking if "thinking" in FORMS[form] else None)
      assert check.fault(said, form=form) is None
  sft_data.check(given[1], form)


def test_a_released_prompt_that_asks_for_payoffs_is_refused():
  asks = Record("r1", "medium", [{"role": "user", "content": "Write <payoff> too"}], "t", {})
  with pytest.raises(BadInput, match=r"released.*'r1' asks for payoffs, and chain\.form='none'"):
    prompts.messages(asks, "released", form="none")
  own = asks._replace(messages=[{"role": "user", "content": "Hi"}])
  assert prompts.messages(own, "released", form="none") == own.messages


# ---------------------------------------------------------------- what it earns


def row(read_as, completion=BARE, verdict=1.0, **more):
  """One scored row of a harmless request."""
  made = {
    "id": "p#0", "data_source": "wildguard", "completion": completion, "ground_truth": "unharmful",
    "extra_info": {}, "judge_score": verdict,
  }  # fmt: skip
  made |= {"turns": None} | more
  return score.score_rows([made], RewardConfig(), RULE, form=read_as)[0]


def band(n, low, high):
  return 1 / (1 + math.exp(-0.005 * (n - low))) / (1 + math.exp(-0.005 * (high - n)))


@pytest.mark.parametrize("form, text, chars", [("think", THINK, 18), ("none", BARE, 0)])
def test_the_weight_of_the_decision_goes_to_the_answer(form, text, chars):
  got = row(form, text)
  user = 1e-4 + 0.5 + 0.2 * band(5, 20, 500) + 0.3 * math.exp(-chars / 500)
  llm = 1e-4 + 0.2 + (0.2 + 0.4) + 0.2 * band(len(text.split()), 500, 1000)
  assert got["user_reward"] == pytest.approx(user, abs=1e-12)
  assert got["llm_reward"] == pytest.approx(llm, abs=1e-12)
  assert got["form"] == form and got["action"] == "CQ"
  assert {got[key] for key in ("decision", "choice", "carried_out", "payoff", "pareto")} == {None}
  assert row(form, " ")["user_reward"] < 0.1  # saying nothing is not brief
  worse = row(form, text, verdict=0.0)
  assert got["llm_reward"] - worse["llm_reward"] == pytest.approx(0.6)
  with pytest.raises(BadInput, match=f"form='{form}', but it is read as 'game'"):
    row(GAME, text, form=form)


@pytest.mark.parametrize("form", OTHERS)
def test_the_closed_form_is_what_a_perfect_speaker_of_the_form_earns(form):
  """Complete requests, of which there is nothing to draw, by each first action."""
  config = of_form(form, **{"conversation.turns": 2, "rewards.pricing": "pay_per_character"})
  records = [each for each in concierge.records("test", 40) if not each.extra_info["lacking"]][:8]

  for action in ACTIONS:

    def assistant(chats, action=action):
      asked = [[m["content"] for m in chat if m["role"] == "user"] for chat in chats]
      which = [next(r for r in records if a[0].endswith(r.messages[-1]["content"])) for a in asked]
      return [
        concierge.speak(record, "DA" if a[1:] else action, config, *a[1:])
        for record, a in zip(which, asked, strict=True)
      ]

    rows = collect.play(assistant, records, config, 0)
    for record, got in zip(records, rows, strict=True):
      expected = concierge.true_payoffs(record, config)[ACTIONS.index(action)]
      assert [got["llm_reward"], got["user_reward"]] == pytest.approx(expected.tolist())
      assert got["true_payoffs"] == concierge.true_payoffs(record, config).tolist()
      history = [turn["response"] for turn in got["turns"] if turn["role"] == "assistant"]
      assert history[0] == concierge.response(record, action)


def test_without_a_named_cell_an_answer_is_told_from_a_preamble_by_its_slots():
  """Both are a few words and one question."""
  for record in concierge.records("test", 40):
    more = {"data_source": "concierge", "ground_truth": record.ground_truth, "verdict": 1.0}
    did = {
      action: row("none", concierge.response(record, action), extra_info=record.extra_info, **more)
      for action in ACTIONS
    }
    assert {action: got["action"] for action, got in did.items()} == {a: a for a in ACTIONS}
  polite = "I can help you with that one. Which year do you mean?"
  assert row("none", polite, extra_info=record.extra_info, **more)["action"] == "CQ"


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize("form", OTHERS)
def test_measures_of_a_matrix_are_absent(form):
  config = of_form(form)
  records = concierge.records("test", 40)
  rows = collect.play(
    lambda chats: [concierge.speak(r, None, config) for r in records], records, config, 0
  )
  found = collect.summary(rows)
  for name in ("payoff_icc", "choice_consistent", "pareto_frac", "true_calibration_error/user"):
    assert f"game/{name}" not in found
  assert not [key for key in found if "payoff" in key or "decision" in key]
  assert ("game/type_accuracy" in found) == (form == "think")
  assert found.get("game/type_accuracy", 1.0) == found["chain/parse_rate"] == 1
  for name in ("game/over_clarified", "game/under_clarified", "rewards/outcome/mean"):
    assert 0 <= found[name] <= 1
  assert found["game/regret"] >= 0 and "game/realised/DQ/DA/user" in found


@pytest.mark.parametrize("form", OTHERS)
def test_the_report_of_a_run_without_payoffs_has_no_word_of_them(form, tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(Path(__file__).parent / "report")
  from workdirs import Page, jsonl, make

  folder = make(tmp_path / "run")
  for path in (folder / "eval").iterdir():
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for each in rows:
      each |= {"form": form, "completion": chain.in_form(each["completion"], form), "action": "DA"}
      each |= {"decision": None, "choice": None, "carried_out": None, "payoff": None}
      each |= {"user_type": None, "type_label": "DQ", "judge_score": 1.0}
    jsonl(path, rows)
  lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  kept = ("game/regret", "phase", "step", "policy", "W")
  jsonl(folder / "metrics.jsonl", [{k: x for k, x in r.items() if k in kept} for r in lines])
  page = Page(report.write(folder).read_text())
  text = " ".join(page.text).split("Config")[0]
  for word in ("payoff", "analy", "decision", "outlined", "Imagined", "named by the chain"):
    assert word not in text, word
  for word in (
    "Action of the response",
    "The sum is 144.",
    "The game as played",
    "Highest welfare",
  ):
    assert word in text, word
  assert ("one number" in text) == (form == "think")
  assert page.open == [] and "decision" not in report.table(folder)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
  "argv, said",
  [
    (["score", "in", "out", "--form", "think", "--mode", "paper"], "rewards.mode='paper' gives"),
    (["score", "in", "out", "--form", "none", "rewards.llm_calibration=0.1"], "has no effect with"),
    (["steer", "--model", "m", "--pricing", "free", "--question", "q", "--form", "think"], "steer"),
    (["steer", "--model", "m", "--sweep", "price=0:1:3", "--data", "", "o", "chain.form=none"], ""),
    (["eval", "--model", "random:tiny", "--data", "", "o", "--form", "none", "--force"], "--force"),
    (["eval", "--model", "random:tiny", "--data", "", "o", "--form", "none", "--intervene"], ""),
    (["score", "in", "out", "--form", "thinking"], "argument --form"),
  ],
)
def test_flags_that_need_payoffs_are_refused(capfd, tmp_path, monkeypatch, argv, said):
  from gtalign_jax.cli.main import main

  monkeypatch.chdir(tmp_path)
  assert main(argv) == 2
  error = capfd.readouterr().err.strip().splitlines()[-1]
  assert said in error and ("edits payoffs, and such chains hold none" in error or said)


@pytest.mark.parametrize("form", OTHERS)
@pytest.mark.parametrize(
  "changes",
  [
    {"sft.counterfactual": 0.25, "sft.steps": 2},
    {"rollout.intervene": 0.25},
    {"eval.intervene_prompts": 2},
    {"rewards.llm_calibration": 0.1},
  ],
)
def test_keys_that_need_payoffs_have_no_effect(form, changes):
  key = next(iter(changes))
  with pytest.raises(BadInput, match=rf"^{key}=.* has no effect with chain\.form='{form}'; take g"):
    of_form(form, **changes)


def test_weights_of_blocks_that_a_form_lacks_stay_1():
  assert of_form("think", **{"grpo.block_weights": (0.5, 1, 1, 2)})
  with pytest.raises(BadInput, match=r"chain\.form='none' has no thinking or payoff, whose weight"):
    of_form("none", **{"grpo.block_weights": (0.5, 2, 1, 1)})


def test_what_a_preset_brings_along_is_idle():
  preset = vary(
    Config(),
    {
      "rollout.intervene": 0.25,
      "rollout.prompt_buckets": (256, 576),
      "rewards.llm_calibration": 0.1,
    },
  )
  varied = vary(preset, {"chain.form": "think"})
  assert preset.intervenes and not varied.intervenes
  assert varied.rewards.in_form("think").llm_calibration == 0
  assert np.isclose(varied.rewards.in_form("none").llm_answer, 0.6)
  assert varied.rewards.in_form(GAME) is varied.rewards
