"""Data sets by hub id: a hub that has it, one that has not, one that is gone; a copy alone."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SHA = "5" * 40
ROWS = [
  {"data_source": "medium", "prompt": [{"role": "user", "content": f"q{n}"}], "ground_truth": "t"}
  for n in range(3)
]
FILES = {
  "README.md": b"---\nlicense: mit\n---\n",
  "train.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
}
LOAD = """
import sys
from gtalign_jax.data import sources
from gtalign_jax.sections import DataConfig
from gtalign_jax.errors import BadInput
try:
  found = sources.load(DataConfig(root=sys.argv[1]), "train")
  print([record.messages[0]["content"] for record in found])
except BadInput as error:
  print("refused:", error)
"""


class Hub(BaseHTTPRequestHandler):
  """As much of the hub as `datasets` asks for one public data set, `some/data`."""

  def log_message(self, *_):
    pass

  def do_HEAD(self):
    self.answer(body=False)

  def do_GET(self):
    self.answer(body=True)

  def answer(self, body):
    path = self.path.split("?")[0]
    self.server.asked.append(f"{self.command} {path}")
    tree = [
      {"type": "file", "path": name, "oid": name, "size": len(data)} for name, data in FILES.items()
    ]
    found = {
      "/api/datasets/some/data": self.info(),
      f"/api/datasets/some/data/revision/{SHA}": self.info(),
      f"/api/datasets/some/data/tree/{SHA}": tree,
    }
    name = path.removeprefix(f"/datasets/some/data/resolve/{SHA}/")
    name = name.removeprefix("/datasets/some/data/resolve/main/")
    data = FILES.get(name) or (json.dumps(found[path]).encode() if path in found else None)
    known = path.startswith(("/api/datasets/some/data", "/datasets/some/data"))
    self.send_response(404 if data is None else 200)
    if data is None:
      self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
    data = data or b""
    self.send_header("Content-Length", str(len(data)))
    self.send_header("X-Repo-Commit", SHA)
    self.send_header("ETag", f'"{name}"')
    self.end_headers()
    if body:
      self.wfile.write(data)

  def info(self):
    files = [{"rfilename": name} for name in FILES]
    return {"id": "some/data", "sha": SHA, "siblings": files, "tags": [], "private": False}


class Gone(Hub):
  """Takes connections and hangs up."""

  def answer(self, body):
    self.server.asked.append(self.path)
    self.connection.close()


@contextmanager
def running(handler):
  server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
  server.asked = []
  threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()


def asked(hub, name):
  return sum(name in path for path in hub.asked)


@pytest.fixture
def load(tmp_path):
  def call(server, name):
    url = f"http://127.0.0.1:{server.server_address[1]}"
    env = os.environ | {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
      [sys.executable, "-c", LOAD, name], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()

  return call


def test_a_hub_data_set_and_its_copy_when_the_hub_is_gone(load):
  with running(Hub) as hub:
    assert load(hub, "some/data") == "['q0', 'q1', 'q2']"
    assert load(hub, "no/such").startswith("refused: data.root='no/such', split 'train': neither")
  with running(Gone) as hub:
    assert load(hub, "some/data") == "['q0', 'q1', 'q2']"
    assert asked(hub, "some/data") == 1


def test_a_hub_that_is_gone_is_asked_once(load):
  with running(Gone) as hub:
    said = load(hub, "some/other")
    assert asked(hub, "some/other") == 1  # the libraries alone retry for half a minute
  assert said.startswith(
    "refused: data.root='some/other', split 'train': neither a folder here nor"
  )
  assert "OfflineMode" not in said and len(said.splitlines()) == 1
