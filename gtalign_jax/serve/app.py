"""The HTTP side of `gtalign serve`: routes, errors, streams."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gtalign_jax.game.pricing import Pricing
from gtalign_jax.sections import DataConfig
from gtalign_jax.serve import fields, prompt, replies
from gtalign_jax.serve.choice import Choice, Delta, Model
from gtalign_jax.serve.desk import Desk, Full
from gtalign_jax.serve.fields import Asked, Refused
from gtalign_jax.serve.meters import Meters
from gtalign_jax.serve.page import page
from gtalign_jax.types import has_payoff

log = logging.getLogger(__name__)
MOST_BYTES = 1 << 20  # of a body: a prompt that fits no lane is refused before it is tokenised
BODY_S = 30.0  # to send it
SILENCE_S = 10.0  # after which a stream says that it is alive: proxies cut connections off
GONE = 499  # as nginx counts clients that did not wait


class Service:
  """One model behind HTTP. closing: set, it takes no more requests."""

  def __init__(
    self, model: Model, desk: Desk, meters: Meters, data: DataConfig, default: Pricing | None,
    key: str | None,
  ):  # fmt: skip
    """default: pricing of requests that name none. key: that clients must send, or None."""
    self.model, self.desk, self.meters, self._data = model, desk, meters, data
    self._default, self._key = default, key
    self.closing = False
    self.open = 0  # requests under way
    self._since = int(time.time())

  def app(self, origins: Sequence[str]) -> Starlette:
    """The application. origins: of pages elsewhere that may read answers."""
    routes = [
      Route("/v1/chat/completions", self._counted(self.chat), methods=["POST"]),
      Route("/v1/models", self._counted(self.models)),
      Route("/", page),
      Route("/health", self.health),
      Route("/metrics", self.metrics),
    ]
    handlers: Any = {Refused: _refused, HTTPException: _http, Exception: _crashed}
    crossing = [
      Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
      )
    ]
    return Starlette(
      routes=routes, middleware=crossing if origins else [], exception_handlers=handlers
    )

  async def health(self, _: Request) -> Response:
    """Whether requests are taken."""
    if self.desk.failure:
      return JSONResponse({"status": "failed"}, 503)
    return JSONResponse(
      {"status": "closing" if self.closing else "ok"}, 503 if self.closing else 200
    )

  async def metrics(self, _: Request) -> Response:
    return Response(self.meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

  async def models(self, request: Request) -> Response:
    """The one model that is served."""
    self._admit(request)
    one = {"id": self.model.name, "object": "model", "created": self._since, "owned_by": "gtalign"}
    return JSONResponse({"object": "list", "data": [one]})

  async def chat(self, request: Request) -> Response:
    """A chat completion, whole or as a stream."""
    self._admit(request)
    asked = fields.read(await _body(request), self.desk.lanes.count, self._default)
    if asked.model != self.model.name:
      known = f"this server has {self.model.name!r}"
      raise Refused(
        f"no model {asked.model[:80]!r}; {known}", "model", status=404, code="model_not_found"
      )
    form = self.model.form
    if asked.pricing is not None and not has_payoff(form):
      raise Refused(f"chains of the form {form!r} hold no payoffs; leave pricing out", "pricing")
    ids = prompt.encode(asked.messages, self.model.tokenizer, self._data, form)
    self._check_size(len(ids), asked)
    choices = [Choice(self.model, asked, index, ids) for index in range(asked.n)]
    try:
      self.desk.submit([choice.job for choice in choices])
    except Full as full:
      raise Refused(
        f"{self.desk.most_waiting} answers wait already; try again later", status=429,
        code="queue_full", headers={"Retry-After": str(math.ceil(full.seconds))},
      ) from None  # fmt: skip
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
    if asked.stream:
      stream = self._stream(asked, choices, head, len(ids))

      def over() -> None:
        for choice in choices:
          self.desk.cancel(choice.job)

      return _Events(stream, over)
    return await self._whole(request, asked, choices, head, len(ids))

  def _admit(self, request: Request) -> None:
    if self._key is not None:
      said = request.headers.get("Authorization", "").encode()
      if not hmac.compare_digest(said, f"Bearer {self._key}".encode()):
        raise Refused("the API key is missing or wrong", status=401, code="invalid_api_key")
    if self.closing:
      raise Refused("the server is shutting down", status=503, code="shutting_down")
    if self.desk.failure:
      raise Refused("the device failed", status=503, code="device")

  def _check_size(self, count: int, asked: Asked) -> None:
    for number, limit, what, param in (
      (count, self.model.longest, "the prompt has", "messages"),
      (asked.budget or 0, self.model.budget, "max_tokens asks for", "max_tokens"),
    ):
      if number > limit:
        raise Refused(
          f"{what} {number} tokens, and the server takes {limit}", param, status=413,
          code="context_length_exceeded",
        )  # fmt: skip

  async def _whole(
    self, request: Request, asked: Asked, choices: list[Choice], head: dict[str, Any], prompt: int
  ) -> Response:
    async def collect(choice: Choice) -> list[Delta]:
      return [delta async for delta in choice.deltas(self.desk)]

    answers: asyncio.Future[Any] = asyncio.gather(*map(collect, choices))
    gone: asyncio.Future[Any] = asyncio.ensure_future(_gone(request))
    try:
      await asyncio.wait({answers, gone}, return_when=asyncio.FIRST_COMPLETED)
      if not answers.done():
        raise ClientDisconnect
      found = await answers
    finally:
      await _stop([answers, gone])
    made = [
      replies.whole(self.model, choice.index, deltas, asked.logprobs)
      for choice, deltas in zip(choices, found, strict=True)
    ]
    counts = replies.usage(prompt, sum(choice.count for choice in choices))
    return JSONResponse(head | {"object": "chat.completion", "choices": made, "usage": counts})

  async def _stream(
    self, asked: Asked, choices: list[Choice], head: dict[str, Any], prompt: int
  ) -> AsyncIterator[bytes]:
    head |= {"object": "chat.completion.chunk"} | ({"usage": None} if asked.usage else {})
    queue: asyncio.Queue[tuple[int, Delta | Exception]] = asyncio.Queue()

    async def follow(choice: Choice) -> None:
      try:
        async for delta in choice.deltas(self.desk):
          queue.put_nowait((choice.index, delta))
      except Exception as error:
        queue.put_nowait((choice.index, error))

    tasks = [asyncio.ensure_future(follow(choice)) for choice in choices]
    self.open += 1
    try:
      for choice in choices:
        begun = {"index": choice.index, "delta": {"role": "assistant", "content": ""}}
        yield replies.event(head | {"choices": [begun | {"logprobs": None, "finish_reason": None}]})
      running = len(choices)
      while running:
        try:
          index, delta = await asyncio.wait_for(queue.get(), SILENCE_S)
        except TimeoutError:
          yield b": still writing\n\n"
          continue
        if isinstance(delta, Exception):
          refused = delta if isinstance(delta, Refused) else Refused("failed", status=500)
          yield replies.event(replies.error(refused))
          return
        running -= delta.finish is not None
        if delta.content or delta.game is not None or delta.finish:
          made = replies.part(self.model, index, delta, asked.logprobs)
          yield replies.event(head | {"choices": [made]})
      if asked.usage:
        counts = replies.usage(prompt, sum(choice.count for choice in choices))
        yield replies.event(head | {"choices": [], "usage": counts})
      yield b"data: [DONE]\n\n"
    finally:
      self.open -= 1
      await _stop(tasks)

  def _counted(self, handler: Callable[[Request], Awaitable[Response]]) -> Any:
    """`handler`, with its requests counted by status."""

    async def counted(request: Request) -> Response:
      self.open += 1
      code, began = 500, time.monotonic()
      try:
        response = await handler(request)
        code = response.status_code
        return response
      except Refused as error:
        code = error.status
        raise
      except ClientDisconnect:
        code = GONE
        return Response(status_code=GONE)
      finally:
        self.open -= 1
        self.meters.requests.labels(str(code)).inc()
        self.meters.took.observe(time.monotonic() - began)

    return counted


class _Events(StreamingResponse):
  """A stream of events. over: called at its end, also where the client left before it began."""

  def __init__(self, events: AsyncIterator[bytes], over: Callable[[], None]):
    super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    self._over = over

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    try:
      await super().__call__(scope, receive, send)
    finally:
      self._over()


async def _body(request: Request) -> bytes:
  """The body, within MOST_BYTES and BODY_S."""
  parts, size = [], 0
  try:
    async with asyncio.timeout(BODY_S):
      async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BYTES:
          raise Refused(f"the body has more than {MOST_BYTES} bytes", status=413, code="too_large")
        parts.append(chunk)
  except TimeoutError:
    raise Refused(f"the body did not come within {BODY_S:g} s", status=408) from None
  return b"".join(parts)


async def _gone(request: Request) -> None:
  """Returns when the client has gone."""
  while (await request.receive())["type"] != "http.disconnect":
    pass


async def _stop(tasks: Sequence[asyncio.Future[Any]]) -> None:
  """Ends what still runs, and waits for it."""
  for task in tasks:
    task.cancel()
  with contextlib.suppress(asyncio.CancelledError):
    await asyncio.gather(*tasks, return_exceptions=True)


def _refused(_: Request, error: Refused) -> Response:
  return JSONResponse(replies.error(error), error.status, error.headers)


def _http(request: Request, error: HTTPException) -> Response:
  said = f"{request.method} {request.url.path[:80]}: {error.detail}"
  return _refused(request, Refused(said, status=error.status_code, headers=error.headers))


def _crashed(request: Request, error: Exception) -> Response:
  log.error("%s %s failed", request.method, request.url.path[:80], exc_info=error)
  return _refused(request, Refused("the server failed at this request", status=500))
