"""The judge behind any OpenAI-compatible endpoint.

Requests run in an event loop on a thread of their own, so that a batch is judged at once wherever
`judge` is called from. A failure is no verdict, never 0. What is retried: no connection, a
time-out, 429, 408, 409 and 5xx, and replies without a readable verdict; with growing, jittered
pauses, or as long as Retry-After says, and never beyond the deadline of the verdict.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import os
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openai

from gtalign_jax.parallel import distributed
from gtalign_jax.rewards.judges.base import Question, Stats, accept
from gtalign_jax.rewards.judges.breaker import Breaker
from gtalign_jax.rewards.judges.cache import Cache, key
from gtalign_jax.sections import JudgeConfig

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5  # doubled at each try, times a random factor in [0.5, 1.5]
LONGEST_PAUSE_S = 8.0
RETRIED = (408, 409, 429)  # and all from 500 on

_THOUGHT_TAG = re.compile(r"(</?think>)")
# Digits are bounded, so that a reply of nothing but digits is scanned in linear time; `90%` and
# `1.2.3` are no verdicts.
_VERDICT = re.compile(
  r"(?:verdict\W{0,6}?|\\boxed\{\s*)(?P<number>[-+]?\d{1,6}(?:\.\d{1,6})?)(?![\d.]*\d|%)", re.I
)


def read_verdict(reply: str) -> float | None:
  """The last `VERDICT: x` (or \\boxed{x}) after the model's thoughts; None if there is none."""
  said: list[str] = []
  thinking = False
  for piece in _THOUGHT_TAG.split(reply):  # one pass: a reply of many open tags costs no more
    if piece == "<think>":
      thinking = True
    elif piece == "</think>":
      if not thinking:  # the chat template had opened it
        said.clear()
      thinking = False
    elif not thinking:
      said.append(piece)
  # the last one: models change their mind while they write
  found = [match["number"] for match in _VERDICT.finditer(" ".join(said))]
  return float(found[-1]) if found else None


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
  """Seconds that a reply asks to wait: `retry-after-ms`, seconds or a date; None if it does not."""
  try:
    if "retry-after-ms" in headers:
      return max(float(headers["retry-after-ms"]) / 1000, 0.0)
    if "retry-after" not in headers:
      return None
    text = headers["retry-after"]
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
      return float(text)
    when = email.utils.parsedate_to_datetime(text).timestamp()
    return max(when - (time.time() if now is None else now), 0.0)
  except (ValueError, TypeError):
    return None


class _Again(Exception):
  """Worth another try. seconds: as the server asked, or None."""

  def __init__(self, why: str, seconds: float | None = None):
    super().__init__(why)
    self.seconds = seconds


class _Final(Exception):
  """No other try would help (a bad key, an unknown model, a prompt that is too long)."""


class HttpJudge:
  """See the module. The API key is read from the environment and kept out of logs and files."""

  def __init__(self, config: JudgeConfig, workdir: str | Path | None = None):
    self.config = config
    self._key = os.environ.get(config.api_key_env, "")
    self._client = openai.AsyncOpenAI(
      base_url=config.base_url,
      api_key=self._key or "none",  # local servers want none, the client wants one
      max_retries=0,  # ours keep to one deadline for all tries of a verdict
      timeout=config.deadline_s,
    )
    path = config.cache or (Path(workdir) / "judge_cache.sqlite" if workdir else "")
    self._cache = Cache(distributed.own_file(Path(path))) if path else None
    self._stats = Stats()
    self._breaker = Breaker(config.breaker_failures, config.breaker_cooldown_s)
    self._resume_at = 0.0  # no request before; set by Retry-After
    self._reported: set[str] = set()
    # one loop for the judge's life: connections stay open from batch to batch
    self._loop = asyncio.new_event_loop()
    self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="judge")
    self._thread.start()

  def judge(self, questions: Sequence[Question]) -> list[float | None]:
    """Verdicts in order; equal questions are asked once."""
    prompts = [_sendable(question.prompt()) for question in questions]
    # another model, or the same name elsewhere, is another judge: its verdicts are not mixed in
    name = f"{self.config.model}@{self.config.base_url}"
    keys = [
      key(name, question.task, text) for question, text in zip(questions, prompts, strict=True)
    ]
    known: dict[str, float | None] = dict(self._cache.get(keys)) if self._cache else {}
    self._stats.asked += len(keys)
    self._stats.hits += sum(each in known for each in keys)
    # a dict: late in training the samples of a prompt often hold the same response
    wanted = {
      each: (question, text)
      for each, question, text in zip(keys, questions, prompts, strict=True)
      if each not in known
    }
    if wanted:
      future = asyncio.run_coroutine_threadsafe(self._all(wanted), self._loop)
      known |= future.result()
    return [accept(question, known[each]) for question, each in zip(questions, keys, strict=True)]

  def statistics(self) -> dict[str, float]:
    return self._stats.read()

  def close(self) -> None:
    asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(timeout=10)
    self._loop.call_soon_threadsafe(self._loop.stop)
    self._thread.join(timeout=10)
    self._loop.close()
    if self._cache:
      self._cache.close()

  async def _all(self, wanted: Mapping[str, tuple[Question, str]]) -> dict[str, float | None]:
    places = asyncio.Semaphore(self.config.concurrency)

    async def one(name: str, question: Question, text: str) -> tuple[str, float | None]:
      async with places:  # outside the deadline: waiting for a place is not the endpoint's fault
        began = time.perf_counter()
        verdict = await self._verdict(question, text)
        if verdict is not None:
          self._stats.seconds.append(time.perf_counter() - began)
          if self._cache:
            self._cache.put(name, verdict)
        return name, verdict

    return dict(await asyncio.gather(*(one(name, *each) for name, each in wanted.items())))

  async def _verdict(self, question: Question, text: str) -> float | None:
    """One verdict within the deadline, all tries included; None if there is none."""
    try:
      async with asyncio.timeout(self.config.deadline_s):
        return await self._tries(question, text)
    except TimeoutError:
      self._breaker.failed()
      self._report(f"no verdict within rewards.judge.deadline_s={self.config.deadline_s:g}")
    except _Final as error:
      self._report(str(error))
    return None

  async def _tries(self, question: Question, text: str) -> float | None:
    end = time.monotonic() + self.config.deadline_s
    for attempt in range(self.config.max_attempts):
      if self._resume_at > end:
        raise _Final("the endpoint asks to wait for longer than rewards.judge.deadline_s")
      if not self._breaker.allows():
        raise _Final("the endpoint keeps failing; the circuit breaker is open")
      try:
        verdict = accept(question, read_verdict(await self._reply(text)))
        if verdict is not None:
          return verdict
        self._report("a reply had no verdict on the scale")
        pause = 0.0  # the endpoint is well; there is nothing to wait for
      except _Again as error:
        self._report(str(error))
        pause = self._pause(attempt, error.seconds)
      if attempt + 1 == self.config.max_attempts or time.monotonic() + pause > end:
        return None
      await asyncio.sleep(pause)
    return None

  def _pause(self, attempt: int, asked: float | None) -> float:
    if asked is None:
      # jittered: calls that failed together must not come back together
      return min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) * random.uniform(0.5, 1.5)
    self._resume_at = max(self._resume_at, time.monotonic() + asked)  # for all calls, not this one
    return asked

  async def _reply(self, text: str) -> str:
    """The endpoint's answer. Raises _Again or _Final."""
    await asyncio.sleep(max(self._resume_at - time.monotonic(), 0.0))
    try:
      reply = await self._client.chat.completions.create(
        model=self.config.model, messages=[{"role": "user", "content": text}], temperature=0.0
      )
      content = _content(reply)
    except openai.APIStatusError as error:
      code = error.status_code
      why = f"the endpoint answered {code}"
      if code not in RETRIED and code < 500:
        self._breaker.worked()  # it is there and answers; the request is wrong
        raise _Final(f"{why}: {self._clean(str(error))}") from None
      if code >= 500:
        self._breaker.failed()
      raise _Again(why, retry_after(error.response.headers)) from None
    except (openai.APIConnectionError, openai.APIError, ValueError, TypeError) as error:
      self._breaker.failed()
      raise _Again(f"{type(error).__name__}: {self._clean(str(error))}") from None
    self._breaker.worked()
    return content

  def _clean(self, text: str) -> str:
    # endpoints say the key that they refuse; one that is wrong may still be somebody's
    text = text.replace(self._key, "***") if self._key else text
    return re.sub(r"\bsk-\S+", "***", " ".join(text.split()))[:200]

  def _report(self, why: str) -> None:
    """Says each kind of trouble once; the share of invalid rows is in the metrics."""
    # bounded: messages of an endpoint may differ in each call, by a request id for one
    if why not in self._reported and len(self._reported) < 50:
      self._reported.add(why)
      log.warning("judge: %s", why)


def _content(reply: Any) -> str:
  """Text of a chat completion. Raises ValueError where the reply has another schema."""
  try:
    content = reply.choices[0].message.content
  except (AttributeError, IndexError, TypeError, KeyError):
    raise ValueError("the reply is no chat completion") from None
  if not isinstance(content, str):
    raise ValueError("the reply has no text")
  return content


def _sendable(text: str) -> str:
  """Text that UTF-8 can carry: lone surrogates become question marks."""
  return text.encode("utf-8", "replace").decode("utf-8")
