"""Chains from a teacher: a real local server that answers well, badly, or not at all."""

import json
import threading

import pytest
from judge_servers import running, serve

from gtalign_jax.cli.main import main
from gtalign_jax.data import sources
from gtalign_jax.endpoint import client
from gtalign_jax.endpoint_sections import TeacherConfig
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.sections import DataConfig
from gtalign_jax.synthesize import check, labels, sft_data, teacher

RECORDS = sources.load(DataConfig(), "test")[:12]
BY_QUESTION = {record.messages[-1]["content"]: record for record in RECORDS}
LIMITS = RewardConfig()


def good(messages):
  asked = messages[-1]["content"].split("Question: ")[-1]
  if asked == client.TRIAL:
    return "ok"
  return labels.chain(BY_QUESTION[asked], 0)


def make(url, **changes):
  settings = {"model": "big", "max_attempts": 3, "deadline_s": 5.0, **changes}
  return TeacherConfig(base_url=url, **settings)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)


def test_good_chains_are_kept_in_order(tmp_path):
  out = tmp_path / "out.jsonl"
  seen = []
  with serve(good) as server:
    counts = teacher.distil(
      RECORDS,
      make(server.url, concurrency=3),
      LIMITS,
      out,
      lambda done, total: seen.append((done, total)),
    )
    assert server.most <= 3
    request = server.requests[0]
  assert counts == {"prompts": 12, "kept": 12, "rejected": {}, "failed": 0}
  rows = list(sft_data.rows(out))
  assert [record for record, _ in rows] == RECORDS
  assert all(check.fault(text) is None for _, text in rows)
  assert seen == [(n, 12) for n in range(1, 13)]
  assert request["model"] == "big"
  assert request["messages"][0]["role"] == "system"
  assert not out.with_name("out.jsonl.part").exists()


def test_unfit_chains_are_counted_and_left_out(tmp_path):
  def sloppy(messages):
    chain = good(messages)
    kind = sum(map(ord, messages[-1]["content"])) % 3
    return [chain, "Sure!", chain.replace("<response>", "<response>Is it? Or not? ")][kind]

  with serve(sloppy) as server:
    counts = teacher.distil(RECORDS, make(server.url, tries=1), LIMITS, tmp_path / "o.jsonl")
    assert len(server.requests) == 12
  assert counts["kept"] + sum(counts["rejected"].values()) == 12
  assert set(counts["rejected"]) == {"missing_block", "carried_out"}
  assert len(list(sft_data.rows(tmp_path / "o.jsonl"))) == counts["kept"] > 0


def test_a_second_try_may_be_fit_and_thoughts_are_cut(tmp_path):
  asked, lock = set(), threading.Lock()

  def learns(messages):
    with lock:
      known = messages[-1]["content"] in asked
      asked.add(messages[-1]["content"])
    return "<think>hm, <response>?</think>\n" + good(messages) if known else "no chain"

  with serve(learns) as server:
    counts = teacher.distil(RECORDS, make(server.url, tries=2), LIMITS, tmp_path / "o.jsonl")
    assert len(server.requests) == 24
  assert counts["kept"] == 12


def test_a_stopped_run_goes_on_without_asking_twice(tmp_path):
  out = tmp_path / "o.jsonl"
  part = tmp_path / "o.jsonl.part"
  with serve(good) as server:
    job = json.dumps(teacher._job(RECORDS, make(server.url)))
    lines = [
      json.dumps({"id": r.id, "fault": None, "completion": labels.chain(r, 0)}) for r in RECORDS[:5]
    ]
    part.write_text("\n".join([job, *lines]) + '\n{"id": "broken o')
    counts = teacher.distil(RECORDS, make(server.url), LIMITS, out)
    assert len(server.requests) == 7
  assert counts["kept"] == 12
  assert len(list(sft_data.rows(out))) == 12


def test_a_part_file_of_another_job_is_not_mixed_in(tmp_path):
  part, answer = tmp_path / "o.jsonl.part", '{"id": "a", "fault": null, "completion": "x"}\n'
  part.write_text('{"model": "other"}\n' + answer)
  with pytest.raises(BadInput, match="belongs to another job"):
    teacher.distil(RECORDS, make("http://127.0.0.1:9/v1"), LIMITS, tmp_path / "o.jsonl")
  (tmp_path / "done.jsonl").write_text("rows")
  with pytest.raises(BadInput, match="is there already"):
    teacher.distil(RECORDS, make("http://127.0.0.1:9/v1"), LIMITS, tmp_path / "done.jsonl")


def test_errors_are_retried(tmp_path):
  out = tmp_path / "o.jsonl"

  seen, lock = set(), threading.Lock()

  def flaky(handler, number, body):
    """Every prompt's first request fails."""
    asked = body["messages"][-1]["content"]
    with lock:
      known = asked in seen
      seen.add(asked)
    if known:
      handler.reply(good(body["messages"]))
    else:
      handler.send("{}", 503, Retry_After="0.01")

  with running(flaky) as server:
    assert teacher.distil(RECORDS, make(server.url), LIMITS, out)["kept"] == 12
    assert len(server.requests) == 24


def test_no_answer_is_a_failure_that_can_be_resumed(tmp_path):
  out = tmp_path / "o.jsonl"
  dead = RECORDS[0].messages[-1]["content"]
  healthy = threading.Event()

  def partly(handler, number, body):
    if dead in body["messages"][-1]["content"] and not healthy.is_set():
      handler.send("{}", 500, Retry_After="0.01")
    else:
      handler.reply(good(body["messages"]))

  with running(partly) as server:
    with pytest.raises(RunFailure, match="1 of 12 requests got no answer"):
      teacher.distil(RECORDS, make(server.url, max_attempts=2), LIMITS, out)
    assert not out.exists()
    healthy.set()
    before = len(server.requests)
    assert teacher.distil(RECORDS, make(server.url, max_attempts=2), LIMITS, out)["kept"] == 12
    assert len(server.requests) == before + 1


def test_a_wrong_key_stops_at_once_and_is_not_shown(tmp_path, monkeypatch):
  monkeypatch.setenv("MY_KEY", "sk-very-secret")

  def refuse(handler, number, body):
    handler.send(json.dumps({"error": {"message": f"bad {handler.headers['Authorization']}"}}), 401)

  with running(refuse) as server:
    asked = make(server.url, api_key_env="MY_KEY", concurrency=2)
    with pytest.raises(RunFailure) as caught:
      teacher.distil(RECORDS, asked, LIMITS, tmp_path / "o.jsonl")
    assert server.requests[0]["key"] == "Bearer sk-very-secret"
    assert len(server.requests) <= 4
  assert "401" in str(caught.value)
  assert "secret" not in str(caught.value)


def test_a_prompt_that_the_endpoint_refuses_is_one_rejection(tmp_path):
  refused = RECORDS[3].messages[-1]["content"]

  def filters(handler, number, body):
    if refused in body["messages"][-1]["content"]:
      handler.send('{"error": {"message": "filtered"}}', 400)
    else:
      handler.reply(good(body["messages"]))

  with running(filters) as server:
    counts = teacher.distil(RECORDS, make(server.url), LIMITS, tmp_path / "o.jsonl")
  assert (counts["kept"], counts["rejected"]) == (11, {"http_400": 1})


def test_nothing_fit_is_a_failure(tmp_path):
  with (
    serve(lambda _: "hello") as server,
    pytest.raises(RunFailure, match="no chain of 12 was fit"),
  ):
    teacher.distil(RECORDS, make(server.url, tries=1), LIMITS, tmp_path / "o.jsonl")
  assert not (tmp_path / "o.jsonl").exists()


def test_the_command(tmp_path, capsys):
  config, out = tmp_path / "c.py", tmp_path / "out.jsonl"
  config.write_text("from gtalign_jax.config import Config\ndef config():\n  return Config()\n")
  flags = ["--limit", "8", "--json"]
  assert main(["synthesize", str(config), str(out), *flags]) == 0
  assert json.loads(capsys.readouterr().out.splitlines()[-1])["kept"] == 8
  first = out.read_text()
  assert {record.data_source for record, _ in sft_data.rows(out)} == {
    "ambig_qa", "concierge", "math-hard", "medium", "wildguard"
  }  # fmt: skip
  assert main(["synthesize", str(config), str(out), "seed=1", *flags]) == 0
  assert out.read_text() != first
  capsys.readouterr()
  assert main(["synthesize", str(config), str(out), "--teacher", "http://x/v1"]) == 2
  assert "--model" in capsys.readouterr().err
  assert main(["synthesize", str(config), str(tmp_path / "no" / "o.jsonl"), *flags]) == 2
  assert "cannot be written" in capsys.readouterr().err
  with serve(lambda _: labels.chain(RECORDS[0], 0)) as server:
    keys = ["teacher.temperature=none", "teacher.max_attempts=2"]
    teach = ["--teacher", server.url, "--model", "m", *keys, *flags]
    assert main(["synthesize", str(config), str(tmp_path / "t.jsonl"), *teach]) == 0
  assert json.loads(capsys.readouterr().out.splitlines()[-1])["kept"] == 8
  # the same job is done, without the endpoint; another one does not replace its chains
  assert main(["synthesize", str(config), str(tmp_path / "t.jsonl"), *teach]) == 0
  assert json.loads(capsys.readouterr().out.splitlines()[-1])["kept"] == 8
  assert main(["synthesize", str(config), str(tmp_path / "t.jsonl"), *teach[:-2], "4"]) == 2
  assert "--overwrite" in capsys.readouterr().err
  assert main(["synthesize", str(config), str(out), "grpo.steps=3"]) == 2
  assert "grpo.steps=3: gtalign synthesize reads only" in capsys.readouterr().err


def sends(text):
  """A server that answers every request with this body."""
  return running(lambda handler, number, body: handler.send(text))


def completion(message, finish="stop"):
  return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


CHAIN = labels.chain(RECORDS[0], 0)


@pytest.mark.parametrize(
  ("body", "fault"),
  [
    (completion({"content": CHAIN}, "length"), "truncated"),
    (completion({"content": None, "refusal": "I cannot."}), "refused"),
    (completion({"content": CHAIN}, "content_filter"), "filtered"),
    (completion({"content": None, "reasoning_content": CHAIN}), "empty"),
    (completion({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls"), "tool_call"),
  ],
)
def test_a_reply_that_is_none_is_the_fault_of_its_prompt(tmp_path, body, fault):
  with sends(body) as server, pytest.raises(RunFailure, match=rf"'{fault}': 3"):
    teacher.distil(RECORDS[:3], make(server.url), LIMITS, tmp_path / "o.jsonl")


@pytest.mark.parametrize(
  "body",
  [
    "<html>Sign in</html>",
    json.dumps({"error": {"message": "model is loading"}}),
    json.dumps({"error": "overloaded", "choices": []}),
    completion(None),
    json.dumps({"choices": []}),
    json.dumps({"choices": None}),
    "[" * 100_000,
    '{"choices": ' + "9" * 5_000 + "}",
    "data: {}",
    completion({"content": CHAIN}, "error"),
  ],
)
def test_what_is_no_reply_is_asked_again_and_not_written_down(tmp_path, body):
  out = tmp_path / "o.jsonl"
  with sends(body) as server:
    with pytest.raises(RunFailure, match="3 of 3 requests got no answer"):
      teacher.distil(RECORDS[:3], make(server.url, max_attempts=2), LIMITS, out)
    assert len(server.requests) == 3 * (2 + 2 - 1)
  assert len(out.with_name("o.jsonl.part").read_text().splitlines()) == 1


def test_a_chain_in_parts_is_put_together(tmp_path):
  parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
  body = completion({"content": [*parts, {"type": "text", "text": CHAIN}]})
  with sends(body) as server:
    kept = teacher.distil(RECORDS[:1], make(server.url), LIMITS, tmp_path / "o.jsonl")["kept"]
  assert kept == 1


@pytest.mark.parametrize("code", [400, 402, 403, 404, 405, 422])
def test_a_request_that_is_always_refused_is_booked_on_no_prompt(tmp_path, code):
  out = tmp_path / "o.jsonl"
  body = json.dumps({"error": {"message": "Unsupported value: 'temperature' is not supported"}})
  with running(lambda handler, number, _: handler.send(body, code)) as server:
    with pytest.raises(RunFailure, match=rf"refuses every request \({code}: Unsupported"):
      teacher.distil(RECORDS, make(server.url), LIMITS, out)
    assert len(server.requests) <= 9  # eight at once, and one trial
  assert len(out.with_name("o.jsonl.part").read_text().splitlines()) == 1
  with serve(good) as server:  # another model may go on with the same output
    changed = make(server.url, model="other", temperature=None, max_tokens=None)
    assert teacher.distil(RECORDS, changed, LIMITS, out)["kept"] == 12
    assert set(server.requests[0]) == {
      "path", "key", "headers", "at", "model", "messages",
    }  # fmt: skip


def test_prompts_that_are_all_refused_are_not_at_fault(tmp_path):
  """All are too long for it, say, and a word is not."""

  def small(handler, number, body):
    if body["messages"][-1]["content"] == client.TRIAL:
      handler.reply("ok")
    else:
      handler.send('{"error": {"message": "maximum context length is 512 tokens"}}', 400)

  out = tmp_path / "o.jsonl"
  with running(small) as server, pytest.raises(RunFailure, match="refused every prompt"):
    teacher.distil(RECORDS, make(server.url), LIMITS, out)
  assert len(out.with_name("o.jsonl.part").read_text().splitlines()) == 1


def test_a_start_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
  monkeypatch.setenv("HTTP_PROXY", "socks4://p")
  with pytest.raises(BadInput, match=r"^HTTP_PROXY="):
    teacher.distil(RECORDS, make("http://h.invalid/v1"), LIMITS, tmp_path / "o.jsonl")
  assert not list(tmp_path.iterdir())
