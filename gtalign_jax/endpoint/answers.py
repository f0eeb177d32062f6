"""Answers of a model behind an endpoint: each asked for once, kept on disk, None where it fails.

Requests run in an event loop on a thread of their own, so that a batch is asked at once wherever
`ask` is called from; what is asked again, and when, says client.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple

from gtalign_jax.endpoint.background import Loop
from gtalign_jax.endpoint.cache import Answer, Cache, key
from gtalign_jax.endpoint.client import Endpoint, RequestFault
from gtalign_jax.endpoint.stats import Stats
from gtalign_jax.endpoint_sections import AnswererConfig, EndpointConfig
from gtalign_jax.errors import BadInput

CHECK_S = 5.0  # to connect and to answer a request that no model has to think about


class Wanted(NamedTuple, Generic[Answer]):
  """task: kind of question, part of its key. read: the answer in a reply, None if it holds none."""

  task: str
  prompt: str
  read: Callable[[str], Answer | None]


class Answers(Generic[Answer]):
  """See the module. Raises BadInput where the endpoint's address or the cache cannot be used.

  cache: the file that keeps them; None: they are not kept.
  """

  def __init__(self, config: AnswererConfig, cache: Path | None, stats: Stats):
    self._cache: Cache[Answer] | None = Cache(cache, type(config)) if cache else None
    self._endpoint, self._stats = Endpoint(config), stats
    # What an answer depends on. Not the address: a model may move, and its answers with it.
    temperature = None if config.temperature is None else float(config.temperature)
    how = {"temperature": temperature, "extra_body": config.extra_body}
    self._name = f"{config.model} {json.dumps(how, sort_keys=True)}"
    self._loop = Loop()

  def ask(self, wanted: Sequence[Wanted[Answer]]) -> list[Answer | None]:
    """Answers in order; what is wanted twice is asked once. Raises RunFailure: see client.py."""
    keys = [key(self._name, each.task, each.prompt) for each in wanted]
    known: dict[str, Answer | None] = dict(self._cache.get(keys)) if self._cache else {}
    self._stats.asked += len(keys)
    self._stats.hits += sum(each in known for each in keys)
    # a dict: late in training the samples of a prompt often hold the same response
    missing = {name: each for name, each in zip(keys, wanted, strict=True) if name not in known}
    if missing:
      known |= self._loop.run(self._all(missing))
    return [known[name] for name in keys]

  async def _all(self, missing: Mapping[str, Wanted[Answer]]) -> dict[str, Answer | None]:
    try:
      async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(self._one(name, each)) for name, each in missing.items()}
    except ExceptionGroup as failed:  # the first request at fault has cancelled the others
      raise failed.exceptions[0] from None
    return {name: task.result() for name, task in tasks.items()}

  async def _one(self, name: str, wanted: Wanted[Answer]) -> Answer | None:
    async with self._endpoint.places:
      messages = [{"role": "user", "content": wanted.prompt}]
      reply = await self._endpoint.ask(messages, lambda text: wanted.read(text) is not None)
    answer = wanted.read(reply.text) if reply and not reply.fault else None
    if reply and answer is not None:
      self._stats.seconds.append(reply.seconds)
      if self._cache:  # a thread: a file that is locked must not hold up the other answers
        await asyncio.to_thread(self._cache.put, name, answer)
    return answer

  def close(self) -> None:
    self._loop.close(self._endpoint.close())
    if self._cache:
      self._cache.close()


def check(config: EndpointConfig, deadline_s: float = CHECK_S) -> None:
  """Is the endpoint there, and does it take our requests? Asks for one word.

  Raises BadInput where the request would always be refused; RunFailure where nobody answers: the
  same command may succeed once the endpoint is up.
  """
  endpoint, loop = Endpoint(config), Loop()
  try:
    loop.run(endpoint.check(deadline_s))
  except RequestFault as error:
    raise BadInput(str(error)) from None
  finally:
    loop.close(endpoint.close())
