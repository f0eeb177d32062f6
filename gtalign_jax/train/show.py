"""The report of runs while they train, in a browser on this machine; reads alone, writes nothing.

A page asks every two seconds how its run stands, and fetches the report where a file of it has
changed. A report is made only when somebody looks, and takes at most a tenth of the time.
"""

from __future__ import annotations

import html
import json
import logging
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gtalign_jax import report
from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.report import page
from gtalign_jax.train import status

log = logging.getLogger(__name__)
HOST = "127.0.0.1"  # a report holds prompts and completions: not for the network
SHARE = 10  # a report that takes a second is made again after ten at the earliest
_ASSETS = Path(__file__).parent / "live"
_HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; "
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
}
_drawing = threading.Lock()  # matplotlib's settings are of the whole process


class Run:
  """One work directory, and its report as it was last made."""

  def __init__(self, workdir: Path):
    status.check(workdir)
    self.workdir = workdir
    self._version, self._text, self._made, self._took = "", "", 0.0, 0.0

  def state(self) -> dict[str, str]:
    """How the run stands, and the version of the report that can be had."""
    try:
      kind, words = status.status(self.workdir)
    except BadInput as error:
      kind, words = "stopped", str(error)
    return {"kind": kind, "words": words, "version": self._next(), "name": self.workdir.name}

  def report(self) -> tuple[str, str]:
    """(version, page), made anew where that is due."""
    with _drawing:
      wanted = self._next()
      if wanted != self._version:
        began = time.monotonic()
        self._text = page.render(report.load(self.workdir))
        self._made = time.monotonic()
        self._version, self._took = wanted, self._made - began
      return self._version, self._text

  def _next(self) -> str:
    is_early = time.monotonic() - self._made < SHARE * self._took
    return self._version if is_early else status.version(self.workdir)


class Server(ThreadingHTTPServer):
  """Serves runs at `url`; a host resource, close it (or use `with`).

  Raises BadInput where the port is taken or may not be had.
  """

  daemon_threads = True  # a page that still waits does not keep the process

  def __init__(self, workdirs: Sequence[str | Path], port: int):
    # absolute, so that `.` has a name
    self.runs = [Run(Path(each).absolute()) for each in workdirs]
    try:
      super().__init__((HOST, port), _Handler)
    except (OSError, OverflowError) as error:
      why = getattr(error, "strerror", None) or str(error)
      raise BadInput(f"--port {port}: {why}; choose another, 0 takes one that is free") from None
    self.url = f"http://{HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
  server: Server

  def log_message(self, format: str, *args: object) -> None:
    """Says nothing: a page asks every two seconds."""

  def do_GET(self) -> None:
    """Answers with a page, a script, a state or a report."""
    host = self.headers.get("Host", "").rpartition(":")[0]
    # a page of somebody else whose name leads here (DNS rebinding) may not read a report
    if host not in (HOST, "localhost"):
      return self._send("text/plain", f"open {self.server.url}\n", 403)
    path = self.path.partition("?")[0]
    runs = self.server.runs
    if len(runs) > 1 and path == "/":
      return self._send("text/html", _index(runs))
    number, _, name = path[1:].partition("/") if len(runs) > 1 else ("0", "", path[1:])
    if not (number.isascii() and number.isdecimal() and int(number) < len(runs)):
      return self._send("text/plain", "no such page\n", 404)
    return self._run(runs[int(number)], name)

  def _run(self, run: Run, name: str) -> None:
    if name == "":
      return self._send("text/html", (_ASSETS / "live.html").read_text("utf-8"))
    if name == "live.js":
      return self._send("text/javascript", (_ASSETS / "live.js").read_text("utf-8"))
    if name == "state":
      return self._send("application/json", json.dumps(run.state()))
    if name == "report":
      try:
        version, text = run.report()
      except Exception as error:  # the run goes on, and the next version may be sound
        log.warning("no report of %s: %s", run.workdir, first_line(error))
        return self._send("text/plain", first_line(error), 500)
      return self._send("text/html", text, version=version)
    return self._send("text/plain", "no such page\n", 404)

  def _send(self, kind: str, text: str, code: int = 200, version: str = "") -> None:
    data = text.encode()
    self.send_response(code)
    for header, value in (_HEADERS | ({"X-Version": version} if version else {})).items():
      self.send_header(header, value)
    self.send_header("Content-Type", f"{kind}; charset=utf-8")
    self.send_header("Content-Length", str(len(data)))
    self.end_headers()
    try:
      self.wfile.write(data)
    except (BrokenPipeError, ConnectionResetError):  # the page was closed
      self.close_connection = True


def _index(runs: Sequence[Run]) -> str:
  """The page of several runs: a line for each."""
  found = [(number, run.workdir, run.state()) for number, run in enumerate(runs)]
  lines = "".join(
    f'<p><a href="{number}/">{html.escape(str(path))}</a><br>{html.escape(state["words"])}</p>\n'
    for number, path, state in found
  )
  return (_ASSETS / "index.html").read_text("utf-8").replace("<!-- runs -->", lines)
