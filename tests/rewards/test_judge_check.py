"""Is the judge there: real servers, closed ports, logs; and what making one leaves on the disk."""

import json
import socket
import time

import judge_servers as servers
import pytest
from judge_servers import serve

from gtalign_jax.endpoint import answers
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.rewards import judges
from gtalign_jax.rewards.judges.base import BINARY, Question


def http(url):
  return JudgeConfig(kind="http", base_url=url, model="m", api_key_env="SOME_KEY")


def error_200(handler):
  handler.send(json.dumps({"error": {"message": "model is loading", "code": 503}}))


@pytest.mark.parametrize(
  "answer",
  [servers.good("ok"), servers.good(""), servers.status(429), servers.status(503), error_200],
)
def test_one_that_answers_or_is_busy_is_there(answer, monkeypatch):
  monkeypatch.setenv("SOME_KEY", "sk-1\n")  # as read from a file
  with servers.chaos([answer]) as server:
    judges.check(http(server.url))
  assert [(each["path"], each["key"]) for each in server.requests] == [
    ("/v1/chat/completions", "Bearer sk-1")
  ]


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_is_bad_input(code, monkeypatch):
  monkeypatch.setenv("SOME_KEY", "sk-secret")
  with servers.chaos([servers.status(code)]) as server, pytest.raises(BadInput) as caught:
    judges.check(http(server.url))
  line = str(caught.value)
  assert line.startswith(f"rewards.judge.base_url='{server.url}' refuses every request ({code}")
  assert "SOME_KEY" in line and "sk-secret" not in line


def test_a_sign_in_page_is_not_there():
  expected = pytest.raises(RunFailure, match=r"a web page instead of JSON.*correct the address")
  with servers.chaos([servers.html]) as server, expected:
    judges.check(http(server.url))


def test_nobody_there_is_a_failure_that_may_pass():
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    with pytest.raises(RunFailure, match=r"rewards\.judge\.base_url=.*refused.*start it"):
      judges.check(http(url))
  with pytest.raises(RunFailure, match="does not answer"):
    judges.check(http("http://no-such-host.invalid/v1"))


def test_a_busy_server_is_there():
  with socket.socket() as busy:
    busy.bind(("127.0.0.1", 0))
    busy.listen(5)  # connections are accepted, and never answered
    began = time.monotonic()
    answers.check(http(f"http://127.0.0.1:{busy.getsockname()[1]}/v1"), deadline_s=0.3)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://x/v1", "http://", "http://x:abc/v1"])
def test_what_is_no_address(url):
  with pytest.raises(BadInput, match="is no address"):
    judges.check(http(url))


def test_a_log_that_cannot_be_replayed(tmp_path):
  log = tmp_path / "log.jsonl"
  config = JudgeConfig(kind="recorded", log=str(log))
  with pytest.raises(BadInput, match=r"rewards\.judge\.log: .*log\.jsonl: cannot be read"):
    judges.check(config)
  log.write_text('{"id": "a"\n')
  with pytest.raises(BadInput, match=r"rewards\.judge\.log: .*log\.jsonl:1"):
    judges.check(config)
  log.write_text(json.dumps({"id": "a", "judge_score": 1}) + "\n")
  judges.check(config)
  judges.check(JudgeConfig())  # rules are always there


def test_a_judge_writes_nothing_before_its_first_verdict(tmp_path):
  question = Question("q", "math", "", "", "r", BINARY, "{response}")
  with serve(lambda _: "VERDICT: 1") as server:
    own = JudgeConfig(kind="http", base_url=server.url, model="m", cache=f"{tmp_path}/own/c.sqlite")
    for config, path in (
      (http(server.url), tmp_path / "run" / "judge_cache.sqlite"),
      (own, tmp_path / "own" / "c.sqlite"),
    ):
      unused = judges.make(config, tmp_path / "run")
      unused.close()
      assert not path.parent.exists()
      used = judges.make(config, tmp_path / "run")
      assert used.judge([question]) == [1.0] and path.exists()
      used.close()
      again = judges.make(config, tmp_path / "run")
      assert again.judge([question]) == [1.0]
      again.close()
  assert len(server.requests) == 2  # once for each cache
