"""Asks an OpenAI-compatible endpoint: one deadline, retries, and whose fault a refusal is.

Asked again: no connection, a time-out, 408, 409, 425, 429, 5xx, a reply that is none, and a reply
that is not fit; after growing, jittered pauses, or as long as Retry-After says, and never beyond
the deadline. Any other status is a refusal: of the prompt, which then gets no reply, or of the
request, which would be refused for every prompt and ends the job.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence

from gtalign_jax.endpoint.breaker import Breaker
from gtalign_jax.endpoint.reply import Reply, hint, trouble
from gtalign_jax.endpoint.wire import Again, Refused, Wire
from gtalign_jax.endpoint_sections import EndpointConfig
from gtalign_jax.errors import RunFailure

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0  # doubled at each try
SOUND_S = 60.0  # for so long, a request that was found sound is not tried again
EVERYBODYS = (401, 407)  # the key, or the proxy's: no prompt is to blame
REPORTS = 50  # kinds of trouble that are logged
TRIAL = "Reply with the word ok."

Messages = Sequence[Mapping[str, str]]
Fit = Callable[[str], bool]


class RequestFault(RunFailure):
  """Every request would be refused: a wrong key, model, address or parameter."""


class Endpoint:
  """The endpoint that `config` names; used in one event loop until closed.

  Raises BadInput where its address, the key or the proxy of the environment cannot be used.
  """

  def __init__(self, config: EndpointConfig):
    self.config = config
    self.places = asyncio.Semaphore(config.concurrency)  # a wait here is no part of the deadline
    self.replied = False  # whether any prompt has been taken
    self._breaker = Breaker(config.breaker_failures, config.breaker_cooldown_s)
    self._wire = Wire(config, self._breaker)
    self._resume_at = 0.0  # no request before; set by Retry-After
    self._fault: RequestFault | None = None
    self._trying = asyncio.Lock()
    self._sound_until = 0.0
    self._seeded = True  # until a request with a seed is refused
    self._reported: set[str] = set()

  async def close(self) -> None:
    await self._wire.close()

  async def ask(
    self, messages: Messages, fit: Fit, samples: int | None = None, seed: int | None = None
  ) -> Reply | None:
    """The first fit reply, else the last one with what is wrong with it; None: no reply came.

    fit: whether a text is what was asked for. samples: replies until one is fit (None: as many as
    `max_attempts`). seed: of the draws, for endpoints that take one. The deadline holds for all
    tries; the caller holds one of `places`, and waits for it outside the deadline. Raises
    RequestFault.
    """
    began, seen = time.perf_counter(), list[Reply]()
    try:
      async with asyncio.timeout(self.config.deadline_s):
        await self._tries(messages, fit, samples, seen, seed)
    except TimeoutError:
      self._breaker.failed()
      limit = f"{self.config.SECTION}.deadline_s={self.config.deadline_s:g}"
      self._report(f"{self._wire.name}: no reply within {limit}")
    return seen[-1]._replace(seconds=time.perf_counter() - began) if seen else None

  async def _tries(
    self, messages: Messages, fit: Fit, samples: int | None, seen: list[Reply], seed: int | None
  ) -> None:
    end = time.monotonic() + self.config.deadline_s
    # a sample that is not fit is no failure, and takes no try away
    attempts = self.config.max_attempts + (samples - 1 if samples else 0)
    for attempt in range(attempts):
      if self._resume_at > end:
        return self._report(f"{self._wire.name} asks to wait for longer than the deadline")
      if not self._breaker.allows():
        return self._report(f"{self._wire.name} keeps failing; the circuit breaker is open")
      try:
        reply = await self._reply(messages, len(seen), seed)
        seen.append(reply)
        if not reply.fault and fit(reply.text):
          return None
        self._report(f"{self._wire.name}: {trouble(reply, self.config.SECTION)}")
        if reply.is_final or len(seen) == samples:
          return None
        asked = None
      except Again as error:
        self._report(str(error))
        asked = error.seconds
      # jittered: calls that failed together must not come back together
      pause = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) * random.uniform(0.5, 1.5)
      if asked is not None:  # by the server, of all calls and not of this one
        pause, self._resume_at = asked, max(self._resume_at, time.monotonic() + asked)
      if attempt + 1 == attempts or time.monotonic() + pause > end:
        return None
      await asyncio.sleep(pause)
    return None

  async def _reply(self, messages: Messages, before: int, seed: int | None) -> Reply:
    """One reply. before: replies to the same prompt that were not fit. Raises Again."""
    if before:  # another one than those
      seed = (seed or 0) + before
    return await self._send(messages, before, seed if self._seeded else None)

  async def _send(self, messages: Messages, before: int, seed: int | None) -> Reply:
    await asyncio.sleep(max(self._resume_at - time.monotonic(), 0.0))
    if self._fault:
      raise self._fault
    try:
      reply = await self._wire.send(self._body(messages, before, seed))
    except Refused as refusal:
      if seed is not None:
        again = await self._send(messages, before, None)
        self._seeded &= again.fault.startswith("http_")  # else the seed alone was at fault
        return again
      await self._blame(messages, refusal)
      return Reply("", f"http_{refusal.status}", str(refusal))
    self.replied = True
    return reply

  def _body(self, messages: Messages, before: int = 0, seed: int | None = None) -> bytes:
    config = self.config
    body: dict[str, object] = {"model": config.model, "messages": list(messages)}
    if config.temperature is not None:
      # the greedy reply would be the same once more
      body["temperature"] = config.temperature or (0.5 if before else 0.0)
    if config.max_tokens is not None:
      body[config.max_tokens_key] = config.max_tokens
    body |= config.extra_body
    if seed is not None:
      body["seed"] = seed
    # replace: a lone surrogate, which UTF-8 cannot carry, becomes a question mark
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")

  async def _blame(self, messages: Messages, refusal: Refused) -> None:
    """Raises RequestFault where not the prompt is at fault but the request: a trial tells."""
    async with self._trying:  # many prompts may be refused at once: one trial for all
      if self._fault:
        raise self._fault
      if refusal.status not in EVERYBODYS:
        if time.monotonic() < self._sound_until:
          return
        try:
          # the roles of the prompt: some endpoints take no system turn
          await self._wire.send(self._body([{**each, "content": TRIAL} for each in messages]))
          self._sound_until = time.monotonic() + SOUND_S
          return
        except Refused:
          pass
      self._fault = self._request_fault(refusal)
      raise self._fault

  def _request_fault(self, refusal: Refused) -> RequestFault:
    what = f"{self._wire.name} refuses every request ({refusal.status}: {refusal})"
    return RequestFault(f"{what}; {hint(refusal.status, str(refusal), self.config)}")

  async def check(self, deadline_s: float) -> None:
    """Is it there, and does it take requests? Asks for one word.

    One that is busy or thinks for longer passes. Raises RequestFault, or RunFailure where nobody
    answers.
    """
    try:
      async with asyncio.timeout(deadline_s):
        await self._wire.send(self._body([{"role": "user", "content": TRIAL}]))
    except Refused as refusal:
      raise self._request_fault(refusal) from None
    except Again as error:
      if error.gone:
        fix = "start it, or correct the address, and run the same command again"
        raise RunFailure(f"{error}; {fix}") from None
    except TimeoutError:
      pass  # a reasoning model thinks for longer than a check should take

  def _report(self, why: str) -> None:
    """Logs each kind of trouble once."""
    # bounded: messages of an endpoint may differ in each call, by a request id for one
    if why not in self._reported and len(self._reported) < REPORTS:
      self._reported.add(why)
      log.warning("%s: %s", self.config.SECTION.rpartition(".")[2], why)
