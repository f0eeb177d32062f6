"""`gtalign eval --endpoint`: the suites of `offline` for a model behind an endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gtalign_jax import progress
from gtalign_jax.config import Config
from gtalign_jax.data import conditions, intents
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.endpoint import answers
from gtalign_jax.endpoint.background import Loop
from gtalign_jax.endpoint.client import Endpoint
from gtalign_jax.endpoint.reply import Reply, spoken
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.evaluate.offline import CHUNK, Options
from gtalign_jax.progress import Advance
from gtalign_jax.rewards.reward import check_verdicts
from gtalign_jax.rollout import collect
from gtalign_jax.rollout.talk import environment
from gtalign_jax.rollout.text import uncounted

Chat = list[dict[str, str]]


class Job:
  """As `offline.Job`, of the model that `config.endpoint` names; rows are always scored."""

  def __init__(self, config: Config, options: Options, verdicts: Path | None):
    if jax.process_count() > 1:
      raise BadInput("--endpoint: one process asks it; start the command without GTALIGN_PROCESSES")
    self.config, self.options = config, options
    with contextlib.ExitStack() as stack:
      form = config.chain.form
      met = environment(config.rewards, config.conversation, config.data, verdicts, form=form)
      self.environment = stack.enter_context(met)
      self._endpoint, self._loop = Endpoint(config.endpoint), Loop()
      stack.callback(lambda: self._loop.close(self._endpoint.close()))
      self._stack = stack.pop_all()

  def __enter__(self) -> Job:
    return self

  def __exit__(self, *_: object) -> None:
    self._stack.close()

  def encode(self, records: Sequence[Record]) -> Encoded:
    """The records with their conditions; none is left out, as only the endpoint counts tokens."""
    given = conditions.given(records, self.config.data)
    return Encoded(given, [np.zeros(0, np.int32)] * len(given), 0)

  def chunks(
    self, encoded: Encoded, first: int, advance: Advance
  ) -> Iterator[list[dict[str, Any]]]:
    """Rows of so many prompts at a time. Raises RunFailure where a request got no answer at all."""
    answers.check(self.config.endpoint)  # else its absence would show after all the retries alone
    count = len(encoded.records)
    turns, seed = self.environment.conversation.turns, self.config.data.seed
    for start in range(first, len(encoded.records), CHUNK):
      part = encoded.records[start : start + CHUNK]
      self._answered, self._advance = 0, progress.part(advance, start, count)
      met = [intents.given(record, seed, None, turns) for record in part]
      rows = collect.converse(self._complete, met, self.environment, self.options.group_size)
      check_verdicts(rows, self.config.rewards, f"prompts from {start + 1} on")
      yield rows

  def _complete(self, chats: Sequence[Chat]) -> list[dict[str, Any]]:
    """The assistant of `collect.converse`. A sample's seed follows from its chat and its number."""
    seen: Counter[str] = Counter()
    asked = []
    for chat in chats:
      text = json.dumps(chat)
      name = f"{self.options.seed}/{seen[text]}/{text}"
      asked.append((chat, zlib.crc32(name.encode()) >> 1))  # 31 bits: some take an int32
      seen[text] += 1
    replies = self._loop.run(self._all(asked))
    lost = sum(reply is None for reply in replies)
    if lost or not self._endpoint.replied:  # all refused: no prompt's fault, but the request's
      what = f"gave {lost} of {len(replies)} requests no answer" if lost else "refuses every prompt"
      raise RunFailure(
        f"endpoint.base_url={self.config.endpoint.base_url!r} {what}; what was finished is kept, "
        "and the same command goes on from there"
      )
    return [_row(reply, self.environment.form) for reply in replies if reply]

  async def _all(self, asked: Sequence[tuple[Chat, int]]) -> list[Reply | None]:
    greedy = not self.config.endpoint.temperature

    async def one(chat: Chat, seed: int) -> Reply | None:
      async with self._endpoint.places:  # all tasks exist at once; this bounds the open requests
        # one sample: a text that is cut or empty is what the model has said
        reply = await self._endpoint.ask(chat, lambda _: True, 1, None if greedy else seed)
      self._answered += 1
      # of the first turn: how many more there will be, nobody knows
      self._advance(min(self._answered // self.options.group_size, CHUNK), CHUNK)
      return reply

    try:
      async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(*each)) for each in asked]
    except ExceptionGroup as failed:  # the first request at fault has cancelled the others
      raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def _row(reply: Reply, form: str) -> dict[str, Any]:
  """What a row says of a completion, as `rollout.text.written` does.

  finish_reason: stop, length, or why there is no text. Where the endpoint counts no tokens, words
  are counted; a response's tokens are its share of the completion's, by words.
  """
  text = spoken(reply.text)
  fault = {"": "stop", "truncated": "length"}.get(reply.fault, reply.fault)
  row = uncounted(text, form, fault) | {"prompt_tokens": reply.prompt_tokens}
  if reply.completion_tokens:
    share = row["response_tokens"] / max(row["completion_tokens"], 1)
    row["response_tokens"] = round(reply.completion_tokens * share)
    row["completion_tokens"] = reply.completion_tokens
  return row
