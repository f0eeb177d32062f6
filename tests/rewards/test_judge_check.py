"""Is the judge there: real servers, closed ports, logs; and what making one leaves on the disk."""

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from judge_servers import serve

from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.rewards import judges
from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.judges.ping import ping
from gtalign_jax.sections import JudgeConfig


@contextmanager
def models(code):
  """A server that answers GET with `code`; yields (url, requests)."""
  heard = []

  class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
      heard.append((self.path, self.headers["Authorization"]))
      body = b'{"object": "list", "data": []}'
      self.send_response(code)
      self.send_header("Content-Type", "application/json")
      self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, *_):
      pass

  server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", heard
  finally:
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


def http(url):
  return JudgeConfig(kind="http", base_url=url, model="m", api_key_env="SOME_KEY")


@pytest.mark.parametrize("code", [200, 404, 405, 429, 500])
def test_any_answer_will_do(code, monkeypatch):
  monkeypatch.setenv("SOME_KEY", "sk-1")
  with models(code) as (url, heard):
    judges.check(http(url))
  assert heard == [("/v1/models", "Bearer sk-1")]


def test_a_server_without_such_a_list():
  with serve(lambda _: "VERDICT: 1") as server:  # answers GET with 501
    judges.check(http(server.url))
    assert server.requests == []  # nothing was asked of the model


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_is_bad_input(code, monkeypatch):
  monkeypatch.setenv("SOME_KEY", "sk-secret")
  with models(code) as (url, _), pytest.raises(BadInput) as caught:
    judges.check(http(url))
  line = str(caught.value)
  assert line.startswith(f"rewards.judge.base_url='{url}' refuses the key ({code})")
  assert "SOME_KEY" in line and "sk-secret" not in line


def test_nobody_there_is_a_failure_that_may_pass():
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    with pytest.raises(RunFailure, match=r"rewards\.judge\.base_url=.*refused.*start the judge"):
      judges.check(http(url))
  with pytest.raises(RunFailure, match="does not answer"):
    judges.check(http("http://no-such-host.invalid/v1"))


def test_a_busy_server_is_there():
  with socket.socket() as busy:
    busy.bind(("127.0.0.1", 0))
    busy.listen(5)  # connections are accepted, and never answered
    began = time.monotonic()
    ping(http(f"http://127.0.0.1:{busy.getsockname()[1]}/v1"), deadline_s=0.3)
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


def test_a_cache_that_cannot_be_made_is_bad_input(tmp_path):
  (tmp_path / "file").write_text("")
  config = JudgeConfig(
    kind="http", base_url="http://127.0.0.1:1/v1", model="m", cache=f"{tmp_path}/file/cache"
  )
  it = judges.make(config)
  with pytest.raises(BadInput, match=r"rewards\.judge\.cache='.*cannot be used"):
    it.judge([Question("q", "math", "", "", "r", BINARY, "{response}")])
  it.close()
