"""`gtalign show`: how a run stands, and the report that follows it, over real HTTP."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from workdirs import Page, make

from gtalign_jax.cli import main as cli
from gtalign_jax.errors import BadInput
from gtalign_jax.train import lock, show, status


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  return make(tmp_path_factory.mktemp("show") / "run <1>")


@pytest.fixture
def workdir(made, tmp_path):
  return shutil.copytree(made, tmp_path / "run <1>")


@contextlib.contextmanager
def serving(*workdirs):
  with show.Server(workdirs, 0) as server:
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()


def get(server, path="", **headers):
  with urllib.request.urlopen(
    urllib.request.Request(server.url + path, headers=headers), timeout=60
  ) as answer:
    return answer.read().decode(), answer.headers


def refused(server, path, **headers):
  with pytest.raises(urllib.error.HTTPError) as caught:
    get(server, path, **headers)
  return caught.value.code


def steps(workdir, sft, grpo):
  """Leaves so many steps of each phase in metrics.jsonl."""
  rows = json.loads((workdir / "config.json").read_text())
  rows["sft"]["steps"], rows["grpo"]["steps"] = 18, 40
  (workdir / "config.json").write_text(json.dumps(rows))
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  kept = {"sft": sft, "grpo": grpo, "eval": 0}
  # one curve alone: to draw all of them takes seconds
  lines = [{key: row[key] for key in ("phase", "step", "W") if key in row} for row in lines]
  lines = [row | {"step_time": 90.0} for row in lines if row["step"] <= kept[row["phase"]]]
  (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))


def sign(workdir, pid, host):
  (workdir / "lock").write_text(json.dumps({"pid": pid, "host": host, "since": "now"}))


def dead():
  """The number of a process that has ended."""
  process = subprocess.Popen(["true"])
  process.wait()
  return process.pid


HERE = socket.gethostname()


@pytest.mark.parametrize(
  "sft, grpo, pid, host, kind, told",
  [
    (0, 0, os.getpid, HERE, "running", "running before its first step"),
    (8, 0, os.getpid, HERE, "running", "at warm start 8/18, 1 min 30 s a step, about 15 min 00 s left of the warm start, then 40 steps of GRPO, last line"),
    (18, 30, os.getpid, HERE, "running", "at GRPO 30/40, 1 min 30 s a step, about 15 min 00 s left, last line"),
    (18, 40, os.getpid, HERE, "running", "running at GRPO 40/40, last line"),
    (18, 3, lambda: 1, "pod-3", "running", "running on pod-3 at GRPO 3/40"),
    (18, 3, dead, HERE, "stopped", "stopped at GRPO 3/40: process"),
    (18, 3, lambda: "x", HERE, "stopped", "left its lock; the same command goes on"),
    (18, 3, None, HERE, "stopped", "stopped at GRPO 3/40; the same command goes on"),
  ],
)  # fmt: skip
def test_how_a_run_stands(workdir, sft, grpo, pid, host, kind, told):
  steps(workdir, sft, grpo)
  if pid is not None:
    sign(workdir, pid(), host)
  found = status.status(workdir)
  assert found.kind == kind and told in found.words


def test_a_finished_run_and_one_that_goes_on_with_more_steps(workdir):
  (workdir / "DONE").touch()
  assert status.status(workdir) == ("done", "done")
  with lock.held(workdir):  # the real lock, of this process
    assert status.status(workdir).kind == "running"
    assert lock.holder(workdir).is_alive
  assert lock.holder(workdir) is None


def snapshot(workdir):
  return {
    path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(workdir.rglob("*"))
  }


def test_the_report_follows_the_run(workdir, monkeypatch):
  monkeypatch.setattr(show, "SHARE", 0)
  steps(workdir, 18, 2)
  sign(workdir, os.getpid(), HERE)
  with serving(workdir) as server:
    before = snapshot(workdir)
    first = json.loads(get(server, "state")[0])
    text, headers = get(server, "report")
    assert headers["X-Version"] == first["version"] and "GRPO" in first["words"]
    assert Page(text).open == [] and "run &lt;1&gt;" in text and "x cpu" not in text
    assert get(server, "report")[1]["X-Version"] == first["version"]
    shell, headers = get(server)
    assert 'src="live.js"' in shell and "script-src 'self'" in headers["Content-Security-Policy"]
    assert "fetch(" in get(server, "live.js")[0]
    assert snapshot(workdir) == before  # nothing is written there
    with (workdir / "metrics.jsonl").open("a") as file:
      file.write('{"phase": "grpo", "step": 3, "W": 0.5}\n{"phase": "grpo", "st')  # half a line
    second = json.loads(get(server, "state")[0])
    assert second["version"] != first["version"] and "GRPO 3/40" in second["words"]
    assert get(server, "report")[0] != text


def test_a_report_takes_a_share_of_the_time_only(workdir):
  run = show.Run(workdir)
  run._version, run._made, run._took = "old", time.monotonic(), 60.0
  assert run.state()["version"] == run.report()[0] == "old"
  run._made -= 601
  assert run.state()["version"] == status.version(workdir) != "old"


def test_before_the_first_line_and_with_damage(workdir):
  for name in ("eval", "metrics.jsonl", "timings.json"):
    path = workdir / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  sign(workdir, os.getpid(), HERE)
  with serving(workdir) as server:
    assert "before its first step" in json.loads(get(server, "state")[0])["words"]
    assert "No policy was evaluated" in get(server, "report")[0]
    (workdir / "config.json").write_text("{")
    state = json.loads(get(server, "state")[0])
    assert state["kind"] == "stopped" and "is not JSON" in state["words"]
    server.runs[0]._took = 0.0
    assert refused(server, "report") == 500


def test_only_this_machine_and_only_what_is_there(workdir):
  with serving(workdir) as server:
    assert server.server_address[0] == "127.0.0.1"
    for host in ("evil.example:80", "127.0.0.1.evil.example:80"):
      assert refused(server, "state", Host=host) == 403
    for path in ("../config.json", "config.json", "0/", "%2e%2e/config.json", "live/live.js"):
      assert refused(server, path) == 404


def test_several_runs_at_once(workdir, tmp_path):
  other = shutil.copytree(workdir, tmp_path / "other")
  with serving(workdir, other) as server:
    page = get(server)[0]
    assert 'href="0/"' in page and 'href="1/"' in page and "run &lt;1&gt;" in page
    assert json.loads(get(server, "1/state")[0])["name"] == "other"
    for path in ("2/", "-1/", "x/state", "state"):
      assert refused(server, path) == 404


def test_what_cannot_be_shown_is_one_line(workdir, tmp_path, capsys):
  (tmp_path / "empty").mkdir()
  (tmp_path / "model").mkdir()
  (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
  (tmp_path / "file").write_text("")
  (tmp_path / "loading").mkdir()
  (tmp_path / "loading" / "lock").write_text("{}")
  for name, told in (
    ("missing", "does not exist"),
    ("empty", "holds no run (no config.json)"),
    ("model", "holds something else than a run"),
    ("file", "is no folder"),
    ("loading", "still loading its model"),
  ):
    assert cli.main(["show", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
  with serving(workdir) as server:
    port = server.server_address[1]
    for given in (port, 70_000, -1):
      assert cli.main(["show", str(workdir), "--port", str(given)]) == 2
      error = capsys.readouterr().err
      assert f"--port {given}" in error.replace("=", " ") and error.count("\n") == 1
  with pytest.raises(BadInput, match="choose another, 0 takes one that is free"):
    show.Server([workdir], 70_000)
