"""HTTP servers that the judge tests talk to: a small OpenAI-compatible one, and one that misbehaves.

`serve(complete)` answers chat completions with `complete(messages) -> str`, whatever computes it: a
function, or a policy. `chaos(script)` misbehaves as its script says, request by request.
"""

import json
import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def log_message(self, *_):
    pass

  def do_POST(self):
    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    with self.server.lock:
      self.server.requests.append(
        {
          "path": self.path,
          "key": self.headers.get("Authorization"),
          "headers": dict(self.headers),
          "at": time.monotonic(),
          **body,
        }
      )
      self.server.under_way += 1
      self.server.most = max(self.server.most, self.server.under_way)
      number = len(self.server.requests) - 1
    try:
      self.server.answer(self, number, body)
    except (BrokenPipeError, ConnectionResetError):
      pass
    finally:
      with self.server.lock:
        self.server.under_way -= 1

  def send(self, text, code=200, **headers):
    data = text.encode()
    self.send_response(code)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
      self.send_header(name.replace("_", "-"), str(value))
    self.end_headers()
    self.wfile.write(data)

  def reply(self, content):
    choice = {
      "index": 0,
      "finish_reason": "stop",
      "message": {"role": "assistant", "content": content},
    }
    self.send(
      json.dumps(
        {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
      )
    )


@contextmanager
def running(answer):
  server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
  server.daemon_threads = True
  server.block_on_close = False
  server.lock = threading.Lock()
  server.requests, server.under_way, server.most = [], 0, 0
  server.answer = answer
  server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
  thread = threading.Thread(
    target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
  )
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


def serve(complete):
  """An OpenAI-compatible server; `complete(messages) -> str` writes the replies."""
  return running(lambda handler, _, body: handler.reply(complete(body["messages"])))


def chaos(script):
  """A server that follows `script`: a list of deeds, the last of which goes on for ever."""

  def answer(handler, number, body):
    script[min(number, len(script) - 1)](handler)

  return running(answer)


# Deeds of the chaos server.


def good(text="VERDICT: 1"):
  return lambda handler: handler.reply(text)


def slow(seconds, text="VERDICT: 1"):
  def deed(handler):
    time.sleep(seconds)
    handler.reply(text)

  return deed


def status(code, **headers):
  return lambda handler: handler.send(json.dumps({"error": {"message": "no"}}), code, **headers)


def raw(text, code=200, **headers):
  return lambda handler: handler.send(text, code, **headers)


def html(handler):
  handler.send("<html><body>Sign in</body></html>", Content_Type="text/html")


def half_json(handler):
  handler.send('{"id": "x", "choices": [{"mess')


def wrong_schema(handler):
  handler.send(json.dumps({"answer": 42}))


def null_content(handler):
  handler.reply(None)


def cut_off(handler):
  """Promises more bytes than it sends."""
  handler.send_response(200)
  handler.send_header("Content-Length", "1000")
  handler.end_headers()
  handler.wfile.write(b'{"id"')
  handler.close_connection = True


def closed_socket(handler):
  """Resets the connection without a word."""
  handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
  handler.close_connection = True
  handler.connection.close()
