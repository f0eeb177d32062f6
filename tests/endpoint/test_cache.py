"""The cache of verdicts fails in every way that a file can; verdicts come all the same."""

import logging
import os
import sqlite3
import subprocess
import sys
import time

import pytest
from judge_servers import serve

from gtalign_jax.endpoint import cache
from gtalign_jax.endpoint.cache import Cache
from gtalign_jax.endpoint_sections import JudgeConfig, UserConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.rewards import judges
from gtalign_jax.rewards.judges.base import BINARY, Question


@pytest.fixture(autouse=True)
def soon(monkeypatch):
  monkeypatch.setattr(cache, "LOCKED_S", 0.1)


def warnings(caplog):
  return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def filled(path, count=3):
  it = Cache(path, JudgeConfig)
  for n in range(count):
    it.put(f"k{n}", n / 2)
  it.close()


def test_verdicts_are_kept(tmp_path):
  path = tmp_path / "new" / "c.sqlite"
  filled(path)
  it = Cache(path, JudgeConfig)
  assert it.get([f"k{n}" for n in range(2_000)]) == {"k0": 0.0, "k1": 0.5, "k2": 1.0}
  it.close()


def test_replies_are_texts_and_verdicts_are_of_another_cache(tmp_path):
  path, odd = tmp_path / "c.sqlite", "007\x00\n日本 <|im_end|> "
  it = Cache(path, UserConfig)
  it.put("k", odd)
  it.close()
  assert Cache(path, UserConfig).get(["k"]) == {"k": odd}  # no number, and cut nowhere
  with pytest.raises(BadInput, match=r"^rewards\.judge\.cache='.*' cannot be used"):
    Cache(path, JudgeConfig)


def _folder(path):
  path.mkdir()


def _text(path):
  path.write_text("not a database, but long enough to be looked at" * 10)


def _other(path):
  with sqlite3.connect(path) as file:
    file.execute("CREATE TABLE mine (x)")
  file.close()


@pytest.mark.parametrize("make", [_folder, _text, _other])
def test_what_is_no_cache_is_bad_input_and_left_as_it_is(tmp_path, make):
  path = tmp_path / "c.sqlite"
  make(path)
  before = path.read_bytes() if path.is_file() else None
  with pytest.raises(BadInput, match=r"^rewards\.judge\.cache='.*c\.sqlite' cannot be used"):
    Cache(path, JudgeConfig)
  assert before is None or path.read_bytes() == before


def test_a_cache_below_a_file_is_bad_input_before_anything_is_asked(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(BadInput, match=r"^rewards\.judge\.cache=.*file is no folder"):
    Cache(tmp_path / "file" / "sub" / "c.sqlite", JudgeConfig)


def test_a_lock_is_waited_for_briefly_and_verdicts_are_written_later(tmp_path, caplog):
  path = tmp_path / "c.sqlite"
  filled(path)
  other = sqlite3.connect(path, isolation_level=None)
  other.execute("BEGIN EXCLUSIVE")
  it = Cache(path, JudgeConfig)
  began = time.monotonic()
  for n in range(50):
    it.put(f"new{n}", 1.0)
  assert time.monotonic() - began < 1.0  # one wait, not fifty
  assert it.get(["new3"]) == {"new3": 1.0}  # from memory
  other.execute("ROLLBACK")
  it.get([])
  it.put("last", 0.0)
  assert other.execute("SELECT COUNT(*) FROM verdicts").fetchone() == (54,)
  other.close()
  it.close()
  assert len(warnings(caplog)) == 1 and "locked" in caplog.text


def test_a_damaged_cache_is_left_out(tmp_path, caplog):
  path = tmp_path / "c.sqlite"
  filled(path, 3_000)
  whole = path.read_bytes()
  path.write_bytes(whole[:4_096] + b"\xff" * (len(whole) - 4_096))
  it = Cache(path, JudgeConfig)
  assert it.get(["k1"]) == {}
  it.put("k1", 0.5)
  assert it.get(["k1"]) == {"k1": 0.5}
  it.close()
  assert len(warnings(caplog)) == 1 and "malformed" in caplog.text


def test_a_cache_that_vanishes_or_becomes_something_else(tmp_path, caplog):
  it = Cache(tmp_path / "c.sqlite", JudgeConfig)  # not there yet
  _text(tmp_path / "c.sqlite")
  it.put("k", 1.0)
  assert it.get(["k"]) == {"k": 1.0}
  it.close()
  assert len(warnings(caplog)) == 1


FULL = """
import logging, resource, sys
from gtalign_jax.endpoint.cache import Cache
from gtalign_jax.endpoint_sections import JudgeConfig
logging.basicConfig(format="%(message)s")
it = Cache(sys.argv[1], JudgeConfig)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))  # a disk that ends there
for n in range(2_000):
  it.put(f"key {n}", 1.0)
print(len(it.get([f"key {n}" for n in range(2_000)])))
it.close()
"""


@pytest.mark.parametrize("room", [0, 100, 40_000])
def test_a_full_disk(tmp_path, room):
  command = [sys.executable, "-c", FULL, str(tmp_path / "c.sqlite"), str(room)]
  done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
  assert (done.returncode, done.stdout) == (0, "2000\n"), done.stderr
  assert done.stderr.count("\n") == 1 and "is left out" in done.stderr


def test_a_locked_cache_holds_up_no_other_verdict(tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "LOCKED_S", 1.0)
  path = tmp_path / "c.sqlite"
  filled(path)
  other = sqlite3.connect(path, isolation_level=None)
  other.execute("BEGIN IMMEDIATE")  # readers pass, writers wait
  asked = [Question(str(n), "math", "", "", str(n), BINARY, "{response}") for n in range(4)]
  with serve(lambda _: "VERDICT: 1") as server:
    config = JudgeConfig(
      kind="http", base_url=server.url, model="m", cache=str(path), concurrency=1
    )
    judge = judges.make(config)
    assert judge.judge(asked) == [1.0] * 4
    judge.close()
    times = [each["at"] for each in server.requests]
  other.close()
  assert times[-1] - times[0] < 0.9  # the first verdict waits for its second, the others do not


def test_a_moved_endpoint_keeps_its_verdicts_and_other_sampling_asks_again(tmp_path):
  asked = [Question("q", "math", "", "", "r", BINARY, "{response}")]

  def requests(url, **changes):
    judge = judges.make(JudgeConfig(kind="http", base_url=url, model="m", **changes), tmp_path)
    assert judge.judge(asked) == [1.0]
    judge.close()

  with serve(lambda _: "VERDICT: 1") as one, serve(lambda _: "VERDICT: 1") as two:
    requests(one.url)
    for same in ({}, {"temperature": 0}, {"max_tokens": 500}, {"max_attempts": 9}):
      requests(two.url, **same)
    assert (len(one.requests), len(two.requests)) == (1, 0)
    for n, other in enumerate(
      ({"temperature": 1}, {"temperature": None}, {"extra_body": {"a": 1}})
    ):
      requests(two.url, **other)
      assert len(two.requests) == n + 1
