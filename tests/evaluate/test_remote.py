"""`gtalign eval --endpoint`: a model behind a real local server, sound, slow to agree, or gone."""

import json

import judge_servers as servers
import pytest
from judge_servers import running

from gtalign_jax.cli.main import main
from gtalign_jax.config import override
from gtalign_jax.data import concierge, sources
from gtalign_jax.endpoint import client
from gtalign_jax.evaluate import offline, remote

CELLS = ("DQ_DA", "DQ_CQ", "DQ_AQ", "VQ_DA", "VQ_CQ", "VQ_AQ")
PAYOFF = json.dumps({cell: {"LLM": 1.0, "user": 2.0} for cell in CELLS})


def chain(response, cell="DQ_DA"):
  return (
    f"<thinking>It is {cell[:2]}.</thinking><payoff>{PAYOFF}</payoff>"
    f"<analyze>{cell} is best.</analyze><response>{response}</response>"
  )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
  monkeypatch.setenv("MY_KEY", "sesame")


@pytest.fixture
def data(tmp_path):
  rows = [
    {"id": f"p{n}", "data_source": "math-hard", "ground_truth": str(n),
     "prompt": [{"role": "user", "content": f"What is {n} + 0?"}]} for n in range(34)
  ]  # fmt: skip
  path = tmp_path / "in.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def usage(text, tokens=100, finish="stop"):
  choice = {"finish_reason": finish, "message": {"role": "assistant", "content": text}}
  return json.dumps(
    {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}}
  )


def ask(server, data, out, *more):
  flags = ["--endpoint", server.url, "--endpoint-model", "m", "--api-key-env", "MY_KEY", "--json"]
  return main(["eval", *flags, "--data", str(data), str(out), *more])


def rows_of(out):
  return [json.loads(line) for line in out.read_text().splitlines()]


def test_any_model_is_scored_on_the_same_prompts(data, tmp_path, capsys):
  def answer(handler, number, body):
    user = body["messages"][-1]["content"]
    if "seed" in body and number == 3:  # as of an endpoint that is called too often
      return servers.status(429, Retry_After="0.01")(handler)
    if "What is 5 " in user and number > 0:
      return servers.status(400)(handler)  # this prompt it does not take
    finish = "length" if "What is 6 " in user else "stop"
    handler.send(usage("<think>so</think>" + chain(f"It is {user.split()[2]}."), 100, finish))

  out = tmp_path / "out.jsonl"
  with running(answer) as server:
    assert ask(server, data, out, "--group-size", "2", "--max-new-tokens", "77") == 0
    asked = [each for each in server.requests if "What is" in each["messages"][-1]["content"]]
    assert ask(server, data, out, "--group-size", "2", "--max-new-tokens", "77") == 0
    assert len(asked) == len(
      [e for e in server.requests if "What is" in e["messages"][-1]["content"]]
    )
    first = capsys.readouterr().out
    assert ask(server, data, out, "--group-size", "2", "--temperature", "0.5") == 2
    assert "is there already" in capsys.readouterr().err
  assert {each["key"] for each in asked} == {"Bearer sesame"}
  assert {(each["model"], each["temperature"], each["max_tokens"]) for each in asked} == {
    ("m", 1.0, 77)
  }
  assert "<payoff>" in asked[0]["messages"][0]["content"]  # the instructions
  seeds = {each["seed"] for each in asked if "seed" in each}
  assert len(seeds) == 68
  rows = rows_of(out)
  assert [row["id"] for row in rows] == [f"p{n}#{g}" for n in range(34) for g in range(2)]
  assert rows[0]["answer_reward"] == 1.0 and rows[0]["completion"] == chain("It is 0.")
  assert (rows[0]["prompt_tokens"], rows[0]["completion_tokens"]) == (7, 100)
  assert 0 < rows[0]["response_tokens"] < 20
  assert [row["finish_reason"] for row in rows[8:14:2]] == ["stop", "http_400", "length"]
  assert rows[10]["completion"] == "" and rows[10]["valid"] and rows[10]["answer_reward"] == 0
  got = json.loads(first.splitlines()[-1])
  assert got["sources"]["math-hard"]["n"] == 34
  assert got["all"]["answer"] == pytest.approx(33 / 34)
  assert "sesame" not in "".join(path.read_text() for path in tmp_path.glob("out*"))


def test_an_outage_ends_the_job_and_the_same_command_goes_on(data, tmp_path, capsys):
  out, asked = tmp_path / "out.jsonl", []

  def answer(handler, number, body):
    user = body["messages"][-1]["content"]
    asked.append(user)
    if "What is 33 " in user and up == "half":
      return servers.status(503)(handler)
    handler.send(usage(chain("It is 1.")))

  with running(answer) as server:
    up = "half"
    assert ask(server, data, out, "endpoint.max_attempts=2") == 1
    error = capsys.readouterr().err
    assert "gave 1 of 2 requests no answer; what was finished is kept" in error
    assert not out.exists()
    up, before = "all", len(asked)
    assert ask(server, data, out) == 0
    again = [each for each in asked[before:] if "What is" in each]
    assert len(again) == 2 and len(rows_of(out)) == 34


def test_conversations_with_the_rule_user(tmp_path):
  records = concierge.records("test", 400, 0)
  data = tmp_path / "concierge.jsonl"
  picked = [each._asdict() for each in records if each.ground_truth.startswith("lacking")][:3]
  data.write_text(
    "".join(json.dumps(each | {"prompt": each["messages"]}) + "\n" for each in picked)
  )

  def answer(handler, number, body):
    said = [each["role"] for each in body["messages"]]
    text = "For how many people?" if "assistant" not in said else "Booked."
    handler.send(usage(chain(text, "VQ_CQ" if "?" in text else "DQ_DA")))

  with running(answer) as server:
    assert ask(server, data, tmp_path / "out.jsonl", "--turns", "2", "--temperature", "0") == 0
    assert not any("seed" in each for each in server.requests)
  rows = rows_of(tmp_path / "out.jsonl")
  assert [row["n_turns"] for row in rows] == [2, 2, 2]
  assert [row["completion_tokens"] for row in rows] == [200] * 3
  assert all(row["turns"][1]["role"] == "user" and row["true_payoffs"] for row in rows)


def test_prompts_are_told_as_they_are_answered(data):
  told = []
  with running(lambda handler, *_: handler.send(usage(chain("It is 1.")))) as server:
    given = [f"endpoint.base_url={server.url}", "endpoint.model=m", f"data.root={data}"]
    config = override(offline.config_for(""), given)
    with remote.Job(config, offline.Options(2, 1.0, 0), None) as job:
      prompts = job.encode(sources.load(config.data, "test"))
      chunks = list(job.chunks(prompts, 0, lambda *each: told.append(each)))
  assert [len(each) for each in chunks] == [64, 4]
  assert told == sorted(told) and {total for _, total in told} == {34}
  assert {done for done, _ in told} >= set(range(1, 35))


@pytest.mark.parametrize(
  ("more", "message"),
  [
    (["--intervene"], "--intervene needs a policy that is loaded here"),
    (["--dtype", "bfloat16"], "--dtype needs a policy"),
    (["--model", "random:tiny"], "--model needs a policy"),
    (["rollout.top_p=0.5"], "gtalign eval --endpoint reads only"),
    (["rewards.source_norm=zscore"], "rewards.source_norm='zscore' has no effect"),
    (["endpoint.temprature=1"], "did you mean"),
    (["--endpoint-model", ""], "go together"),
  ],
)
def test_what_an_endpoint_cannot_do_is_refused(data, tmp_path, capsys, more, message):
  class Nobody:
    url = "http://127.0.0.1:9/v1"

  assert ask(Nobody, data, tmp_path / "out.jsonl", *more) == 2
  assert message in capsys.readouterr().err
  assert not list(tmp_path.glob("out*"))


def test_nobody_there(data, tmp_path, capsys):
  class Nobody:
    url = "http://127.0.0.1:9/v1"

  assert ask(Nobody, data, tmp_path / "out.jsonl") == 1
  assert "does not answer" in capsys.readouterr().err
