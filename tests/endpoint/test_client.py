"""The client of endpoints against real servers: what it sends, what it makes of answers, its end."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import judge_servers as servers
import pytest
from judge_servers import chaos, running

from gtalign_jax.endpoint import client, wire
from gtalign_jax.endpoint.background import Loop
from gtalign_jax.endpoint.client import Endpoint, RequestFault
from gtalign_jax.endpoint_sections import JudgeConfig, TeacherConfig
from gtalign_jax.errors import BadInput

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(client, "FIRST_PAUSE_S", 0.01)
  for name in PROXIES:
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(name.upper(), raising=False)


def config(url, **changes):
  settings = {"deadline_s": 5.0, "max_attempts": 2, **changes}
  return JudgeConfig(kind="http", base_url=url, model="m", **settings)


def ask(url, fit=bool, prompt="hello", samples=None, kind=config, **changes):
  """One prompt's reply, with a client of its own."""
  endpoint, loop = Endpoint(kind(url, **changes)), Loop()
  try:
    messages = [{"role": "user", "content": prompt}]
    return loop.run(endpoint.ask(messages, fit, samples))
  finally:
    loop.close(endpoint.close())


def body(request):
  return {k: v for k, v in request.items() if k not in ("path", "key", "headers", "at")}


def test_what_is_sent():
  with chaos([servers.good("yes")]) as server:
    assert ask(server.url).text == "yes"
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "seed": 7}
    ask(server.url, temperature=None, max_tokens=9, extra_body=extra)
    ask(server.url, max_tokens=9, max_tokens_key="max_completion_tokens", temperature=1)
    ask(server.url, prompt="odd \ud800")
  hello = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
  assert [body(each) for each in server.requests[:3]] == [
    hello | {"temperature": 0.0},
    hello | {"max_tokens": 9} | extra,
    hello | {"max_completion_tokens": 9, "temperature": 1},
  ]
  assert server.requests[3]["messages"][0]["content"] == "odd ?"


def test_a_query_goes_with_every_request_and_azure_has_its_own_header(monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "k1")
  with chaos([servers.status(503), servers.good()]) as server:
    ask(f"{server.url}/deployments/x/?api-version=2024-10-21&a=b")
  assert [each["path"] for each in server.requests] == [
    "/v1/deployments/x/chat/completions?api-version=2024-10-21&a=b"
  ] * 2
  assert [(each["key"], each["headers"]["api-key"]) for each in server.requests] == [
    (None, "k1")
  ] * 2


def test_an_unfit_reply_is_asked_for_after_a_pause_with_another_seed_and_not_greedily():
  with chaos([servers.good("no")]) as server:
    assert ask(server.url, lambda text: text == "yes", max_attempts=3).text == "no"
  sent = [(each["temperature"], each.get("seed")) for each in server.requests]
  assert sent == [(0.0, None), (0.5, 1), (0.5, 2)]
  times = [each["at"] for each in server.requests]
  assert all(
    b - a > 0.004 for a, b in itertools.pairwise(times)
  )  # half of the first pause, at least


def test_an_endpoint_that_knows_no_seeds_is_asked_without():
  def strict(handler, _, sent):
    servers.status(422)(handler) if "seed" in sent else handler.reply("no")

  with running(strict) as server:
    assert ask(server.url, lambda text: False, max_attempts=3).text == "no"
  assert [each.get("seed") for each in server.requests] == [None, 1, None, None]


@pytest.mark.parametrize(
  ("said", "changes", "fix"),
  [
    ("Unsupported value: 'temperature' does not support 0.0", {}, "temperature=none"),
    ("'max_tokens' is not supported. Use 'max_completion_tokens' instead.", {"max_tokens": 9},
     "max_tokens_key=max_completion_tokens"),
    ("max_tokens is too large: 9", {"max_tokens": 9}, "max_tokens=none"),
    ("Unrecognized request argument: top_k", {"extra_body": {"top_k": 1}}, "take top_k out of"),
    ("the model m does not exist", {}, "rewards.judge.model"),
  ],
)  # fmt: skip
def test_a_refused_parameter_is_named_with_the_key_that_sets_it(said, changes, fix):
  body = json.dumps({"error": {"message": said}})
  with chaos([servers.raw(body, 400)]) as server, pytest.raises(RequestFault) as caught:
    ask(server.url, **changes)
  line = str(caught.value)
  assert line.startswith(
    f"rewards.judge.base_url='{server.url}' refuses every request (400: {said}"
  )
  assert fix in line.rpartition("; ")[2] and "\n" not in line


def completion(message, finish="stop"):
  return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


@pytest.mark.parametrize(
  ("answer", "fault", "requests"),
  [
    (completion({"content": "yes"}, "length"), "truncated", 2),
    (completion({"content": "yes"}, "MAX_TOKENS"), "truncated", 2),
    (completion({"content": " \n"}), "empty", 2),
    (completion({"content": None, "reasoning_content": "yes"}), "empty", 2),
    (completion({"content": []}), "empty", 2),
    (completion({"content": None, "refusal": "I cannot."}), "refused", 1),
    (completion({"content": [{"type": "refusal", "refusal": "No."}]}), "refused", 1),
    (completion({"content": "yes"}, "content_filter"), "filtered", 1),
    (completion({"content": None, "function_call": {"name": "f"}}), "tool_call", 1),
  ],
)
def test_replies_that_are_of_no_use(answer, fault, requests):
  with chaos([servers.raw(answer)]) as server:
    assert ask(server.url).fault == fault
  assert len(server.requests) == requests


@pytest.mark.parametrize(
  "content",
  ["yes", {"type": "text", "text": "yes"}, ["yes"], [{"type": "text", "text": {"value": "yes"}}],
   [{"type": "thinking", "thinking": "no"}, {"type": "output_text", "text": "yes"}]],
)  # fmt: skip
def test_the_spellings_of_a_text(content):
  with chaos([servers.raw("\ufeff" + completion({"content": content}))]) as server:
    assert ask(server.url)[:2] == ("yes", "")


@pytest.mark.parametrize(
  "answer",
  [
    servers.html, servers.half_json, servers.cut_off, servers.closed_socket, servers.status(500),
    servers.raw(""), servers.raw("null"), servers.raw("[]"), servers.raw("3"),
    servers.raw('{"choices": [null]}'), servers.raw('{"choices": {"a": 1}}'),
    servers.raw('{"detail": "x", "choices": []}'), servers.raw(completion(None)),
    servers.raw('[{"error": {"message": "busy", "code": 503}}]'),
    servers.raw('{"error": ' + "[" * 990 + "]" * 990 + "}"),
    servers.raw("[" * 200_000), servers.raw('{"a":' * 100_000), servers.raw("9" * 100_000),
    servers.raw("x" * (wire.MAX_BYTES + 1)), servers.raw("data: {}\n\ndata: [DONE]\n"),
    servers.raw(completion({"content": "yes"}, "abort")),
  ],
)  # fmt: skip
def test_answers_that_are_no_reply_are_asked_again(answer):
  with chaos([answer, servers.good("yes")]) as server:
    assert ask(server.url).text == "yes"
  assert len(server.requests) == 2
  with chaos([answer]) as server:
    assert ask(server.url) is None


def test_redirects_keep_the_request_or_are_told():
  def moved(handler, _, sent):
    old = handler.path.startswith("/old")
    handler.send("", 307, Location="/v1/chat/completions") if old else handler.reply("yes")

  with running(moved) as server:
    assert ask(server.url.replace("/v1", "/old")).text == "yes"
  told = pytest.raises(RequestFault, match=r"301: moved to /login")
  with chaos([servers.raw("", 302, Location="/login?next=x")]) as server, told:
    ask(server.url)  # followed with GET, as browsers do: a page, or an error


def test_a_proxy_is_used_named_and_kept_secret(monkeypatch, caplog):
  with chaos([servers.good("yes")]) as proxy:
    at = proxy.url.removesuffix("/v1")
    monkeypatch.setenv("HTTP_PROXY", at.replace("//", "//me:hunter2@"))
    assert ask("http://judge.invalid/v1").text == "yes"
    assert proxy.requests[0]["path"] == "http://judge.invalid/v1/chat/completions"
    with chaos([servers.good("here")]) as server:  # and never for this machine
      assert ask(server.url).text == "here"
  assert ask("http://judge.invalid/v1", max_attempts=1) is None  # the proxy is gone
  assert "rewards.judge.base_url='http://judge.invalid/v1'" in caplog.text
  assert "HTTP_PROXY=http://***@127.0.0.1" in caplog.text and "refused" in caplog.text
  assert "hunter2" not in caplog.text
  monkeypatch.setenv("HTTP_PROXY", "socks4://p")
  with pytest.raises(BadInput, match=r"^HTTP_PROXY="):
    ask("http://judge.invalid/v1")


@pytest.mark.parametrize("key", ["a\nb", "schl\u00fcssel"])
def test_a_key_that_no_header_can_carry(monkeypatch, key):
  monkeypatch.setenv("OPENAI_API_KEY", key)
  with pytest.raises(BadInput, match=r"OPENAI_API_KEY.*characters that no key has") as caught:
    Endpoint(config("http://h/v1"))
  assert key not in str(caught.value)


def test_a_key_in_the_address_is_refused_and_not_shown(monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "abc123")
  with pytest.raises(BadInput, match="holds the key") as caught:
    Endpoint(config("http://h/abc123/v1"))
  assert "abc123" not in str(caught.value)


def test_a_key_that_an_answer_repeats_is_not_shown(monkeypatch, caplog):
  monkeypatch.setenv("OPENAI_API_KEY", "abc 123+x")
  with running(
    lambda handler, *_: handler.send(f"no {handler.headers['Authorization']}", 500)
  ) as it:
    assert ask(it.url) is None
  answer, refused = (
    servers.raw("your key abc%20123%2Bx, sk-another", 403),
    pytest.raises(RequestFault),
  )
  with chaos([answer]) as server, refused as caught:
    ask(server.url)
  said = caplog.text + str(caught.value)
  assert "***" in said and "123" not in said and "another" not in said


def test_certificates_that_are_not_there(monkeypatch):
  monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
  with pytest.raises(BadInput, match="SSL_CERT_FILE"):
    Endpoint(TeacherConfig(base_url="https://h/v1", model="m"))


def test_closing_ends_what_is_under_way_quickly_and_quietly(caplog):
  with chaos([servers.slow(20)]) as server:
    endpoint, loop = Endpoint(config(server.url, deadline_s=60)), Loop()
    asyncio.run_coroutine_threadsafe(
      endpoint.ask([{"role": "user", "content": "x"}], bool), loop._loop
    )
    while not server.requests:
      time.sleep(0.01)
    began = time.monotonic()
    loop.close(endpoint.close())
    loop.close(endpoint.close())  # twice does no harm
    assert time.monotonic() - began < 2
  assert caplog.text == ""


HANGING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # deaf to it as a shell's background job
from gtalign_jax.rewards import judges
from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.endpoint_sections import JudgeConfig
judge = judges.make(JudgeConfig(kind="http", base_url=sys.argv[1], model="m"))
try:
  judge.judge([Question(str(n), "math", "", "", str(n), BINARY, "{response}") for n in range(40)])
except KeyboardInterrupt:
  judge.close()
  print("closed")
"""


def test_an_interrupt_while_the_judge_hangs_leaves_no_noise():
  with chaos([servers.slow(30)]) as server:
    child = subprocess.Popen(
      [sys.executable, "-c", HANGING, server.url],
      stdout=-1,
      stderr=-1,
      text=True,
      env=dict(os.environ),
    )
    while not server.requests:
      time.sleep(0.05)
      assert child.poll() is None
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert time.monotonic() - began < 5
  assert (out, err, child.returncode) == ("closed\n", "", 0)
