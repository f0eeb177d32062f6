"""The page on a server that answers by script: what the page must show comes when a test wants it.

The interface is the real server's, the prices are really applied; only the words are fixed. A word in
the question picks what happens: `busy`, `leaving`, `broken`, `slow`, `short`, `plain`, `markup`.
"""

import asyncio
import contextlib
import json
import threading
import time

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from gtalign_jax.game import payoff, pricing
from gtalign_jax.serve.page import page
from gtalign_jax.types import CELLS, ROLES

OWN_UAR = np.array([[[4, 3], [1, -1], [3, 2]], [[1, 0], [2, 2], [3.5, 4]]], float)
RESPONSES = {
  "DA": "The table is booked for seven. It is by the window, for two.",
  "CQ": "For how many people shall I book, and at what time?",
  "AQ": "I can book a table for two at seven this evening, by the window or on the terrace, and the kitchen is told of any allergy. Which of the two would you like?",
}
MARKUP = '<img src=x onerror="document.title = \'taken\'"><script>document.title = "taken"</script>'


def cells(payoff_UAR):
  return {c: dict(zip(ROLES, p)) for c, p in zip(CELLS, payoff_UAR.reshape(6, 2).tolist())}


def play(body, default=None):
  """(content, game) as the server would make them of one chain, whose prices may be edited."""
  wanted = body.get("pricing", default)
  policy = (
    pricing.from_table("pricing", wanted)
    if isinstance(wanted, dict)
    else pricing.load(wanted or "free")
  )
  edited_UAR = pricing.apply(policy, OWN_UAR)
  choice = CELLS[int(payoff.choose(edited_UAR, 1))]
  game = {
    "thinking": "The request leaves time and number open, so it is VQ.",
    "payoff": cells(OWN_UAR), "edited": cells(edited_UAR) if wanted else None, "user_type": "VQ",
    "choice": choice, "named": choice, "analyze": f"The largest sum is {choice}.", "parse_error": None,
    "pricing": policy.name if wanted else None,
  }  # fmt: skip
  return RESPONSES[choice[3:]], game


def error(status, message, **headers):
  return JSONResponse(
    {"error": {"message": message, "type": "x", "param": None, "code": None}}, status, headers
  )


async def complete(request):
  state, body = request.app.state, await request.json()
  state.requests.append(body)
  question = body["messages"][-1]["content"]
  if request.headers.get("Authorization") != (f"Bearer {state.key}" if state.key else None):
    return error(401, "wrong key")
  if "busy" in question and not state.told_busy:
    state.told_busy = True
    return error(429, "queue full", **{"Retry-After": "7"})
  if "leaving" in question:
    return error(503, "shutting down")
  return StreamingResponse(
    stream(state, question, *play(body, state.default)), media_type="text/event-stream"
  )


async def stream(state, question, content, game):
  if "markup" in question:
    content, game = MARKUP, game | {"thinking": MARKUP, "analyze": MARKUP}
  if "plain" in question:
    content, game = "I am no chain.", dict.fromkeys(game) | {"parse_error": "missing_block"}

  def event(delta, finish=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

  yield ": thinking\n\n"
  yield event({"game": game | dict.fromkeys(("edited", "named", "analyze", "parse_error"))})
  try:
    for at in range(0, len(content), 4):
      yield event({"content": content[at : at + 4]})
      await asyncio.sleep(0.5 if "slow" in question else 0)
      if "broken" in question and at:
        return
  except asyncio.CancelledError:
    state.cancelled += 1
    raise
  yield event({"game": game}, "length" if "short" in question else "stop")
  yield "data: [DONE]\n\n"


def models(request):
  if request.app.state.key and not request.headers.get("Authorization"):
    return error(401, "no key")
  return JSONResponse({"object": "list", "data": [{"id": "scripted", "object": "model"}]})


@contextlib.contextmanager
def running(key="", default=None):
  """Yields (address, app.state): `requests` are the bodies asked for, `cancelled` counts streams.

  default: pricing of requests that name none.
  """
  routes = [
    Route("/", page),
    Route("/v1/models", models),
    Route("/v1/chat/completions", complete, methods=["POST"]),
  ]
  app = Starlette(routes=routes)
  app.state.default = default
  app.state.key, app.state.requests, app.state.told_busy, app.state.cancelled = key, [], False, 0
  server = uvicorn.Server(
    uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
  )
  thread = threading.Thread(target=server.run, daemon=True)
  thread.start()
  while not server.started:
    time.sleep(0.01)
  try:
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/", app.state
  finally:
    server.should_exit = True
    thread.join()
