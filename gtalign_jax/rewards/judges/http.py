"""The judge behind any OpenAI-compatible endpoint. A failure is no verdict, never 0.

Requests run in an event loop on a thread of their own, so that a batch is judged at once wherever
`judge` is called from; what is asked again, and when, says endpoint/client.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from gtalign_jax.endpoint.background import Loop
from gtalign_jax.endpoint.client import Endpoint, RequestFault
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.rewards.judges.base import Judge, Question, accept
from gtalign_jax.rewards.judges.cache import Cache, key
from gtalign_jax.rewards.judges.verdict import read_verdict

CACHE = "judge_cache.sqlite"
CHECK_S = 5.0  # to connect and to answer a request that no model has to think about


class HttpJudge(Judge):
  """See the module. Raises BadInput where the endpoint's address or the cache cannot be used.

  folder: where the cache lies unless the config names it; None: no cache then.
  """

  def __init__(self, config: JudgeConfig, folder: Path | None = None):
    super().__init__()
    self._cache = _cache(Path(config.cache) if config.cache else folder and folder / CACHE)
    self._endpoint = Endpoint(config)
    # What a verdict depends on. Not the address: the same model may move, and its verdicts with it.
    temperature = None if config.temperature is None else float(config.temperature)
    how = {"temperature": temperature, "extra_body": config.extra_body}
    self._name = f"{config.model} {json.dumps(how, sort_keys=True)}"
    self._loop = Loop()

  def judge(self, questions: Sequence[Question]) -> list[float | None]:
    """Verdicts in order; equal questions are asked once. Raises RunFailure: see Judge."""
    prompts = [question.prompt() for question in questions]
    keys = [
      key(self._name, question.task, text)
      for question, text in zip(questions, prompts, strict=True)
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
      known |= self._loop.run(self._all(wanted))
    return [accept(question, known[each]) for question, each in zip(questions, keys, strict=True)]

  async def _all(self, wanted: Mapping[str, tuple[Question, str]]) -> dict[str, float | None]:
    try:
      async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(self._one(name, *each)) for name, each in wanted.items()}
    except ExceptionGroup as failed:  # the first request at fault has cancelled the others
      raise failed.exceptions[0] from None
    return {name: task.result() for name, task in tasks.items()}

  async def _one(self, name: str, question: Question, text: str) -> float | None:
    async with self._endpoint.places:
      reply = await self._endpoint.ask(
        [{"role": "user", "content": text}],
        lambda said: accept(question, read_verdict(said)) is not None,
      )
    verdict = accept(question, read_verdict(reply.text)) if reply and not reply.fault else None
    if reply and verdict is not None:
      self._stats.seconds.append(reply.seconds)
      if self._cache:  # a thread: a file that is locked must not hold up the other verdicts
        await asyncio.to_thread(self._cache.put, name, verdict)
    return verdict

  def close(self) -> None:
    self._loop.close(self._endpoint.close())
    if self._cache:
      self._cache.close()


def _cache(path: Path | None) -> Cache | None:
  if path is None:
    return None
  from gtalign_jax.parallel import distributed  # deferred: jax, which one verdict can do without

  return Cache(distributed.own_file(path))


def check(config: JudgeConfig, deadline_s: float = CHECK_S) -> None:
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
