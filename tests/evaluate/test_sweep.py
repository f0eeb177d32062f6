"""`gtalign eval --sweep`: assistants that respond to what a prompt says of its game, and do not."""

import json

import numpy as np
import pytest
from judge_servers import serve

from gtalign_jax.cli.main import main
from gtalign_jax.config import Config, vary
from gtalign_jax.data import concierge, prompts
from gtalign_jax.evaluate import plots, sweep
from gtalign_jax.evaluate.sweep import Sweep
from gtalign_jax.rollout.collect import play
from gtalign_jax.types import ACTIONS

CONFIG = vary(Config(), {"conversation.turns": 2})
RECORDS = [each for each in concierge.records("test", 400) if "lacking" in each.ground_truth][:12]
PRICES = Sweep("price", (0.0, 0.08, 0.16, 0.24))


def script(records, choose, config=CONFIG):
  """An assistant that speaks perfectly and takes `choose(record)`, the record with its condition."""
  form = config.chain.form
  by_prompt = {json.dumps(prompts.messages(r, "compact", form=form)): r for r in records}

  def complete(chat):
    record = by_prompt.get(json.dumps(chat[:2]))
    if record is None:  # whether the endpoint is there
      return "ok"
    replied = [each["content"] for each in chat[2:] if each["role"] == "user"]
    return concierge.speak(record, "DA" if replied else choose(record), config, *replied)

  return complete


def swept(its, choose, config=CONFIG):
  records = its.records(RECORDS, config.data.seed, 2)
  complete = script(records, choose, config)
  rows = play(lambda chats: [complete(chat) for chat in chats], records, config, 0)
  return sweep.found(rows, its, config.rewards)


def best(record):
  return concierge.best_action(record, CONFIG)


def test_a_policy_that_reads_the_price_flips_where_the_closed_form_does(tmp_path):
  got, text = swept(PRICES, best)
  part = got["sweep"]["sources"]["concierge"]
  assert part["n"] == 12 and len(part["points"]) == 4 and part["moved"] > 0.2
  flip = part["flip"]
  assert flip["within_one"] == 1.0 and flip["flipped"] == flip["n"] > 1
  assert flip["policy"] == pytest.approx(flip["closed_form"]) and 0 < flip["policy"] <= 0.24
  for point in part["points"]:
    assert point["closed_form"] == {a: pytest.approx(point["actions"][a]) for a in ACTIONS}
  users = [point["user"] for point in part["points"]]
  assert users == sorted(users, reverse=True)  # who pays more has less
  # three of twelve flip between prices above 0, and 3 % of the resamples draw none of them
  low, high = part["elasticity_interval"]
  assert low < part["elasticity"] < 0 and high == 0
  # all that asks does so before all that answers, so responses get shorter or stay
  assert part["monotone"] == 1.0
  assert "asking to answering at 0." in text and "within one step 1.00" in text
  plots.save_responses(tmp_path / "x.png", "price", got["sweep"]["sources"])
  assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_response_needs_no_matrix_to_move():
  bare = vary(CONFIG, {"chain.form": "none"})
  got, _ = swept(PRICES, lambda record: concierge.best_action(record, bare), bare)
  part = got["sweep"]["all"]
  assert part["moved"] > 0.2 and part["flip"]["within_one"] == 1.0
  for point in part["points"]:
    assert point["closed_form"] == {a: pytest.approx(point["actions"][a]) for a in ACTIONS}


def test_a_policy_that_never_looks_does_not_move():
  got, text = swept(PRICES, lambda _: "CQ")
  part = got["sweep"]["all"]
  assert (part["moved"], part["monotone"], round(part["elasticity"], 9)) == (0.0, 1.0, 0.0)
  assert part["flip"]["flipped"] == 0 and part["flip"]["policy"] is None
  assert part["flip"]["within_one"] < 0.5 and "asking to answering at never" in text
  contrary = swept(PRICES, lambda r: "CQ" if sweep_value(r) > 0.1 else "DA")[0]["sweep"]["all"]
  assert contrary["monotone"] == 0.0 and contrary["moved"] == 1.0 and contrary["elasticity"] > 0


def sweep_value(record):
  return record.extra_info[sweep.KEY]["price"]


def test_users_mean_the_same_at_every_weight():
  its = Sweep("alpha", (0.1, 0.9))
  records = its.records(RECORDS[:3], 0, 2)
  assert [each.id for each in records[:2]] == [f"{RECORDS[0].id}@0.1", f"{RECORDS[0].id}@0.9"]
  assert [each.extra_info["intent"] for each in records[::2]] == [
    each.extra_info["intent"] for each in records[1::2]
  ]
  assert "weighs 0.9" in prompts.messages(records[1], "compact")[0]["content"]
  got, _ = swept(its, lambda _: "DA")
  low, high = got["sweep"]["all"]["points"]
  assert low["user"] == pytest.approx(high["user"]) and got["sweep"]["all"]["n"] == 12
  encoded = prompts.Encoded(records[:5], [np.zeros(1)] * 5, 1)
  assert len(its.whole(encoded).records) == 4 and its.whole(encoded).left_out == 2


def test_the_command_writes_rows_curves_and_a_picture(tmp_path, capsys):
  data, out = tmp_path / "concierge.jsonl", tmp_path / "out.jsonl"
  lines = [each._asdict() | {"prompt": each.messages} for each in RECORDS[:2]]
  data.write_text("".join(json.dumps(each) + "\n" for each in lines))
  its = Sweep("price", (0.0, 0.1, 0.2))
  flags = ["eval", "--endpoint-model", "m", "--data", str(data), str(out), "--turns", "2", "--json"]
  with serve(script(its.records(RECORDS[:2], 0, 2), best)) as server:
    flags += ["--endpoint", server.url, "--sweep", "price=0:0.2:3"]
    refused = {
      "data.condition=alpha": "--sweep says what each prompt states",
      "rewards.mode=paper": "does not read it",
    }
    for more, message in refused.items():
      assert main([*flags, more]) == 2
      assert message in capsys.readouterr().err
    assert main(flags) == 0
  *_, last = capsys.readouterr().out.splitlines()
  found = json.loads(last)["sweep"]
  assert found["values"] == [0, 0.1, 0.2] and found["all"]["n"] == 2
  rows = [json.loads(line) for line in out.read_text().splitlines()]
  assert [row["id"].partition("@")[2] for row in rows] == ["0#0", "0.1#0", "0.2#0"] * 2
  assert rows[1]["extra_info"]["condition"]["pricing"]["price"] == {"LLM": -0.02, "user": 0.1}
  assert (tmp_path / "out.png").exists()
