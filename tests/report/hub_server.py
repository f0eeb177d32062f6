"""As much of the hub as one pushed model needs, over real HTTP on this machine."""

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_secretsecretsecret"
ME = {"name": "me", "orgs": [{"name": "Lab"}], "auth": {"accessToken": {"role": "write"}}}


class Hub(BaseHTTPRequestHandler):
  """The server holds `repos` (name -> files), `private`, `asked`, and `broken`: path -> status."""

  protocol_version = "HTTP/1.1"

  def log_message(self, *_):
    pass

  def do_GET(self):
    self.answer(b"")

  def do_POST(self):
    self.answer(self.rfile.read(int(self.headers["Content-Length"])))

  def do_PUT(self):
    self.answer(self.rfile.read(int(self.headers["Content-Length"])))

  def answer(self, body):
    hub, path = self.server, self.path.partition("?")[0]
    hub.asked.append(f"{self.command} {path}")
    if status := next((code for part, code in hub.broken.items() if part in path), 0):
      return self.send({"error": f"sorry {TOKEN}"}, status)
    known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
    if path.startswith("/lfs/"):
      hub.blobs[path.removeprefix("/lfs/")] = body
      return self.send({})
    if path == "/api/whoami-v2":
      return self.send(hub.me if known else {"error": "Invalid"}, 200 if known else 401)
    if path == "/api/repos/create":
      asked = json.loads(body)
      name = f"{asked['organization']}/{asked['name']}"
      there = name in hub.repos
      hub.private.setdefault(name, asked.get("visibility") == "private")
      hub.repos.setdefault(name, {})
      return self.send({"url": f"{hub.url}/{name}"}, 409 if there else 200)
    if path == "/api/validate-yaml":
      return self.send({})
    name = path.removeprefix("/api/models").removesuffix(".git/info/lfs/objects/batch")
    name = "/".join(name.strip("/").split("/")[:2])
    if name not in hub.repos:
      return self.send({"error": "no"}, 404, "RepoNotFound")
    self.repository(name, path, body)

  def repository(self, name, path, body):
    hub = self.server
    if path == f"/api/models/{name}":
      return self.send({"id": name, "siblings": [], "tags": [], "private": True})
    if "/preupload/" in path:
      asked = json.loads(body)["files"]
      kind = {True: "lfs", False: "regular"}
      files = [
        {"path": f["path"], "uploadMode": kind[f["path"].endswith(".safetensors")], "shouldIgnore": False}
        for f in asked
      ]  # fmt: skip
      return self.send({"files": files})
    if path.endswith("/objects/batch"):
      objects = [
        {**each, "actions": {"upload": {"href": f"{hub.url}/lfs/{each['oid']}"}}}
        for each in json.loads(body)["objects"]
      ]
      return self.send({"transfer": "basic", "objects": objects})
    if "/tree/" in path:
      tree = [{"type": "file", "path": n, "oid": n, "size": 1} for n in hub.repos[name]]
      return self.send(tree)
    files = hub.repos[name]
    for line in map(json.loads, body.decode().splitlines()):
      value = line["value"]
      if line["key"] == "file":
        files[value["path"]] = base64.b64decode(value["content"])
      elif line["key"] == "lfsFile":
        files[value["path"]] = hub.blobs[value["oid"]]
      elif line["key"] == "deletedFile":
        del files[value["path"]]
    hub.commits += 1
    self.send({"commitUrl": f"{hub.url}/{name}/commit/1", "commitOid": "1" * 40})

  def send(self, value, status=200, code=""):
    data = json.dumps(value).encode()
    self.send_response(status)
    if code:
      self.send_header("X-Error-Code", code)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(data)))
    self.end_headers()
    self.wfile.write(data)


@contextlib.contextmanager
def running():
  server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
  server.daemon_threads = True
  server.url = f"http://127.0.0.1:{server.server_address[1]}"
  server.me, server.commits, server.asked = ME, 0, []
  server.repos, server.private, server.blobs, server.broken = {}, {}, {}, {}
  threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
