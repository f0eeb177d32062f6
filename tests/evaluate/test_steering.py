"""`gtalign steer --data`: statistics by hand, the closed form's prices, and scripted policies."""

import json
import math

import numpy as np
import pytest
from scripted import POLICIES, Policy, choice, encode, tokenizer

from gtalign_jax.cli.main import main
from gtalign_jax.data import concierge
from gtalign_jax.evaluate import flips, steering, steering_text
from gtalign_jax.game import conditions, demand, pricing
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rollout import edit, intervene
from gtalign_jax.types import ACTIONS

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")
RULES, PAID = RewardConfig(), pricing.PRESETS["pay_per_token"]
RECORDS = concierge.records("test", 24)


# ---------------------------------------------------------------- statistics


def test_elasticity_by_hand():
  price = [0.0, 0.01, 0.02, 0.04]
  half = np.outer(range(30, 38), [9, 1, 2**-0.5, 0.5])  # what stands at price 0 is not read
  found = demand.elasticity(price, half, 200)
  assert found["elasticity"] == pytest.approx(-0.5)
  assert found["elasticity_interval"] == pytest.approx([-0.5, -0.5])
  constant = demand.elasticity(price, np.full((8, 4), 10.3), 200)
  assert (constant["elasticity"], constant["elasticity_interval"]) == (0, [0, 0])
  # of the means: 20, 15 tokens at a doubled price
  two = [[10.0, 10.0], [30.0, 20.0], [math.nan, 4.0]]
  found = demand.elasticity([0.01, 0.02], two, 2000)
  assert found["elasticity"] == pytest.approx(math.log(15 / 20) / math.log(2))
  assert np.isnan(found["elasticity_interval"]).all()  # two prompts say nothing of all
  assert found["elasticity_prompts"] == 2
  for price in ([0.0, 0.01], [0.01, 0.01]):  # no slope, and no prompt
    assert demand.elasticity(price, [[1.0, 2.0]], 9)["elasticity"] is None
  assert demand.elasticity([0.01, 0.02], [], 9)["elasticity_prompts"] == 0


@pytest.mark.parametrize(
  ("asks", "place"),
  [("110", 2), ("100", 1), ("101", None), ("1010", 3), ("011", None), ("00", None), ("11", None),
   ("1?0", 2), ("10?", None), ("?0", None), ("", None)],
)  # fmt: skip
def test_asking_turns_into_answering_where_it_never_comes_back(asks, place):
  assert flips.answers_from([{"1": True, "0": False, "?": None}[each] for each in asks]) == place


def result(before, after, named, went, tokens, action="DA"):
  """One of `steer`: choices, named cells and tokens, as written and edited; both matrices differ."""
  return {
    "pricing": "p", "choice": before, "edited_choice": after, "named": named, "edited_named": went,
    "action": "DA", "edited_action": action, "response_tokens": 8, "payoff": 0, "edited": 1,
    "edited_response_tokens": tokens,
  }  # fmt: skip


ROWS = [
  {"id": "a", "reasons": [], "policies": [
    result("DQ_DA", "DQ_DA", "DQ_DA", "DQ_AQ", 8), result("DQ_DA", "DQ_CQ", "DQ_DA", "DQ_CQ", 4, "CQ"),
  ]},
  {"id": "b", "reasons": [], "policies": [
    result("DQ_DA", "DQ_DA", "DQ_DA", "DQ_DA", None), result("DQ_DA", "DQ_CQ", "DQ_DA", "DQ_DA", 4),
  ]},
  {"id": "c", "reasons": [], "policies": [  # it had named the cell anyway: whoever names it again has not followed
    result("DQ_DA", "DQ_DA", "DQ_CQ", "DQ_CQ", 6), result("DQ_DA", "DQ_CQ", "DQ_CQ", "DQ_CQ", 4, None),
  ]},
  {"id": "d", "reasons": ["truncated"], "policies": []},
]  # fmt: skip


def test_rates_and_shares_by_hand():
  asked = steering.plan([PAID], 1, [0.01, 0.02])
  found = steering.measured(ROWS, asked)
  first, second = found["policies"]
  assert (found["questions"], found["unreadable"]) == (4, 1)
  assert (first["hold"], first["changed"], first["n"]) == (pytest.approx(2 / 3), 0, 0)
  assert (second["follow"], second["carry"], second["changed"], second["n"]) == (0.5, 0.5, 3, 2)
  assert second["actions"] == {k: pytest.approx(1 / 3) for k in ("DA", "CQ", "none")} | {"AQ": 0}
  assert first["tokens"] == 7 and np.isnan(second["tokens_interval"]).all()
  assert found["as_written"]["actions"]["DA"] == 1 and found["follow"] == 0.5
  # b has no response at the lower price: 7 tokens and 4
  assert found["elasticity"] == pytest.approx(math.log(4 / 7) / math.log(2))
  done = result("DQ_CQ", "DQ_DA", "DQ_CQ", "DQ_CQ", 8)  # named the question, and answered anyway
  only = steering.measured([{"id": "e", "policies": [done] * 2}], asked)["policies"][0]
  assert (only["changed"], only["n"]) == (1, 0)
  low, high = second["follow_interval"]
  assert (low, high) == pytest.approx((0.0945, 0.9055), abs=1e-4)  # Wilson, one of two prompts


def test_a_line_says_whether_the_choice_changed_and_the_model_followed():
  names = steering.plan([PAID], 1, [0.01, 0.02]).names()
  assert [steering_text.line(row, names) for row in ROWS] == [
    "a  DQ_DA as written; price 0.01: same choice, but DQ_AQ named; price 0.02: DQ_CQ, followed",
    "b  DQ_DA as written; price 0.01: same choice; price 0.02: DQ_CQ, not followed (DQ_DA)",
    "c  DQ_DA as written; price 0.01: same choice; price 0.02: DQ_CQ, as named before",
    "d  no payoffs to edit (truncated)",
  ]
  shown = steering_text.table(steering.measured(ROWS, steering.plan([PAID], 1)), ["paid"])
  assert "1 of 4 questions have no payoffs to edit" in shown and "elasticity" not in shown


# ---------------------------------------------------------------- the closed form


def count(text):
  return len(text.split())


def test_an_edit_takes_off_what_the_closed_form_is_charged():
  for record in RECORDS[:14]:
    policy = flips.expecting(pricing.at_price(PAID, 0.01), record, count)
    info = record.extra_info | {"condition": conditions.Condition(pricing=policy).table()}
    charged = concierge.true_payoffs(record._replace(extra_info=info), RULES, tokens=count)
    free = concierge.true_payoffs(record, RULES, tokens=count)
    matrix = pricing.affine(policy, np.stack([10 * free - 5] * 2))[0]
    np.testing.assert_allclose(matrix, 10 * charged - 5, atol=1e-9)
  own = pricing.Pricing(name="own", tokens=(1.0, 2.0, 3.0))
  assert flips.expecting(own, RECORDS[0], count).tokens == (1.0, 2.0, 3.0)


def test_the_price_of_a_flip_is_where_the_best_action_changes():
  prices, seen = [0, 0.05, 0.1, 0.15, 0.2], 0
  for record in RECORDS:
    for way, each in flips.closed_form(record, PAID, prices, RULES, count).items():
      if each["price"] is None:
        continue
      seen += 1
      near = [each["price"] - 1e-4, each["price"] + 1e-4]
      again = flips.closed_form(record, PAID, near, RULES, count)[way]["actions"]
      assert record.extra_info["lacking"] and again[0] != "DA" == again[1]
  assert seen >= 6


# ---------------------------------------------------------------- the command, scripted policies


class Concierge(Policy):
  """Writes the honest matrix, and does what the rule takes on the matrix that it reads."""

  def __init__(self):
    self.records = concierge.records("test", 400)

  def __call__(self, ids, number):
    text = tokenizer().decode(ids)
    record = next(r for r in self.records if r.messages[-1]["content"] in text)
    if not text.endswith(edit.STOP):
      return encode(concierge.speak(record, None, RULES).partition(edit.STOP)[0] + edit.STOP)
    cell = choice(text)
    said = concierge.response(record, ACTIONS[cell % 3])
    kind = ("DQ", "VQ")[cell // 3]
    return encode(f"<analyze>{kind}_{ACTIONS[cell % 3]}.</analyze><response>{said}</response>")


def asked(tmp_path, *more):
  asked = ["steer", "--model", "random:tiny", "--max-new-tokens", "640", "--json", *more]
  return [*asked, str(tmp_path / "out.jsonl")]


def test_an_honest_policy_flips_where_the_closed_form_does(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(intervene, "stream", Concierge().stream)
  flags = ["--suite", "concierge", "--prompts", "24", "--sweep", "price=0:0.18:7"]
  command = asked(tmp_path, *flags)
  assert main(command) == 0
  *shown, last = capsys.readouterr().out.splitlines()
  got = json.loads(last)
  assert (got["questions"], got["unreadable"]) == (24, 0)
  assert got["follow"] == got["carry"] == got["hold"] == 1 and got["n"] >= 2
  by_sum = got["flip"]["sum"]
  assert by_sum["records"] >= 1
  assert by_sum["policy"] == by_sum["rule"] and by_sum["policy"]["steps"] == 0
  assert by_sum["policy"]["within_one"] == 1 and got["flip"]["welfare"]["records"] >= 1
  first, *_, dearest = got["policies"]
  assert (first["price"], first["changed"]) == (0, 0)
  assert first["actions"] == first["closed_form"] | {"none": 0}
  assert dearest["actions"]["DA"] > first["actions"]["DA"]
  # a question is shorter than the answer that takes its place
  assert got["elasticity"] > 0 and got["elasticity_prompts"] == 24
  assert (tmp_path / "out.png").stat().st_size > 20_000
  rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
  assert len(rows) == 24
  assert [each["price"] for each in rows[0]["policies"]] == pytest.approx(
    [0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18]
  )
  assert sum(", followed" in line for line in shown) >= 1
  monkeypatch.setattr(intervene, "stream", None)  # a finished job samples nothing
  assert main(command) == 0
  assert json.loads(capsys.readouterr().out.splitlines()[-1]) == got
  other = [each.replace("0.18", "0.2") for each in command]
  assert main(other) == 2 and "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "follow"), [("honest", 1), ("blind", 0)])
def test_policies_over_many_prompts(name, follow, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(intervene, "stream", POLICIES[name].stream)
  data = tmp_path / "in.jsonl"
  chats = [[{"role": "user", "content": f"What is number {n}?"}] for n in range(9)]
  data.write_text("".join(
    json.dumps({"data_source": "math-hard", "prompt": chat}) + "\n" for chat in chats
  ))  # fmt: skip
  dear = tmp_path / "dear.toml"
  dear.write_text("[price]\nuser = 0.03\n", encoding="utf-8")
  policies = ["--pricing", "free", "--pricing", "pay_per_token", "--pricing", str(dear)]
  assert main(asked(tmp_path, "--data", str(data), *policies)) == 0
  got = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert [each["pricing"] for each in got["policies"]] == ["free", "pay_per_token", "dear"]
  assert [each["price"] for each in got["policies"]] == [0, 0.01, 0.03]
  assert got["follow"] == follow and got["changed"] >= 4 and got["prompts"] >= 3
  assert got["hold"] == (1 if got["hold"] is not None else None) and "flip" not in got
  assert not (tmp_path / "out.png").exists()
