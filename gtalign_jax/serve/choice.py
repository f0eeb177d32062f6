"""One choice of a request, from its prompt to its last token; the edit of its payoffs between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.errors import RunFailure
from gtalign_jax.game import payoff, pricing
from gtalign_jax.models.vocabulary import control_ids, spell
from gtalign_jax.rewards import chain, features
from gtalign_jax.rollout import edit, lanes
from gtalign_jax.serve.desk import Desk, Job, News
from gtalign_jax.serve.fields import Asked, Refused
from gtalign_jax.serve.reader import Reader, Token
from gtalign_jax.types import CELLS, GAME, ROLES, USER_TYPES


class Model(NamedTuple):
  """What is served.

  pieces, spaced, form: as in `Reader`. longest: tokens of a prompt. budget: of new ones.
  """

  name: str
  tokenizer: Any
  pieces: tuple[bytes, ...]
  spaced: bool
  eos_ids: tuple[int, ...]
  longest: int
  budget: int
  form: str = GAME


class Delta(NamedTuple):
  """What has come about since the last. tokens: of the content. game: so far; None: as before."""

  content: str = ""
  tokens: tuple[Token, ...] = ()
  game: dict[str, Any] | None = None
  finish: str | None = None


class Choice:
  """A choice under way. Its draws depend on (seed, index, token) alone."""

  def __init__(self, model: Model, asked: Asked, index: int, prompt: np.ndarray):
    self.model, self.index, self._asked, self._prompt = model, index, asked, prompt
    self._budget = asked.budget or model.budget
    self._reader = Reader(model.pieces, asked.stop, model.spaced, model.form)
    self._edits = asked.pricing is not None  # whether an edit is still to come
    self._opening: edit.Opening | None = None
    self._edited: Any = None  # the matrix after the edit
    self._closed = 0  # blocks that have ended
    self._ends = 0  # tokens that end the row and are none of the text
    self._events: asyncio.Queue[News] = asyncio.Queue()
    self.job = self._job(prompt, self._budget, "")

  @property
  def count(self) -> int:
    """Tokens of the completion so far."""
    return len(self._reader.ids) + self._ends

  def _job(
    self, ids: np.ndarray, budget: int, part: str, head: Sequence[int] = (), kept: int = 0
  ) -> Job:
    asked, loop, events = self._asked, asyncio.get_running_loop(), self._events
    number = zlib.crc32(f"{asked.seed}/{self.index}{part}".encode()) >> 1  # an int32
    sampled = (asked.temperature, asked.top_k, asked.top_p, asked.min_p)

    def tell(news: News) -> None:
      with contextlib.suppress(RuntimeError):  # the loop has ended, and its clients with it
        loop.call_soon_threadsafe(events.put_nowait, news)

    return Job(lanes.Asked(ids, number, budget, *sampled), tell, head, kept)

  async def deltas(self, desk: Desk) -> AsyncIterator[Delta]:
    """What the client gets, as it is written; the last one has `finish`. Raises Refused.

    The job is cancelled where the caller does not wait for the end.
    """
    try:
      while True:
        news = await self._events.get()
        ended = self._take(news)
        if self._edits and edit.STOP in self._reader.text:
          self._edits = False
          if self._edit(desk):
            ended = None if self._budget > len(self._reader.ids) else "length"
        final = ended is not None
        content = self._reader.content(final)
        if self._reader.stopped:
          final, ended = True, "stop"
        yield Delta(content, tuple(self._reader.entries(final)), self._news_of_game(final), ended)
        if final:
          return
    finally:
      desk.cancel(self.job)

  def _take(self, news: News) -> str | None:
    """Reads what a row has written; how it ended, if it did."""
    if news.error:
      raise Refused(f"the device failed: {news.error}", status=500, code="device")
    ids, logps = news.ids, news.logps
    if ids and ids[-1] in self.model.eos_ids and news.ended == "stop":
      ids, logps, self._ends = ids[:-1], logps[:-1], 1
    self._reader.push(ids, logps)
    return news.ended

  def _edit(self, desk: Desk) -> bool:
    """Edits the payoffs by the policy of the request; whether the row goes on from others now."""
    tokenizer, policy = self.model.tokenizer, self._asked.pricing
    opening = self._read_opening()
    if opening is None or policy is None:
      return False
    matrix = pricing.apply(policy, opening.payoff_UAR)
    own = opening.text[slice(*opening.span)]
    try:
      head = edit.splice(tokenizer, opening, edit.rewrite(own, matrix))
    except RunFailure:
      return False
    self._edited = matrix
    if head == opening.ids:
      return False
    self._events = asyncio.Queue()  # what the row still wrote is not read
    self._reader.restart(head, spell(tokenizer, head))
    self._ends = 0
    if self._budget > len(head):
      prompt = np.asarray([*self._prompt, *head], np.int32)
      same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(head, opening.ids))
      kept = sum(1 for _ in same)
      old, self.job = self.job, self._job(prompt, self._budget - len(head), "/edited", head, kept)
      desk.go_on(old, self.job)
    return True

  def _read_opening(self) -> edit.Opening | None:
    """The chain up to `</payoff>`, once it is there and where it can be read."""
    if self._opening is None and edit.STOP in self._reader.text:
      tokenizer = self.model.tokenizer
      found = edit.read(tokenizer, edit.opening_of(tokenizer, self._reader.ids))
      self._opening = None if isinstance(found, str) else found
    return self._opening

  def _news_of_game(self, final: bool) -> dict[str, Any] | None:
    """The game as it stands, where the request asks for it and a block has ended since."""
    closed = sum(tag in self._reader.text for _, tag in chain.TAGS)
    if not self._asked.game or (closed == self._closed and not final):
      return None
    self._closed = closed
    return self._game(final)

  def _game(self, final: bool) -> dict[str, Any]:
    text, policy, opening = self._reader.text, self._asked.pricing, self._read_opening()
    found = chain.parse(text, form=self.model.form)
    error = found.error
    if error is None and not control_ids(self.model.tokenizer).isdisjoint(self._reader.ids):
      error = "stray_text"
    cell = features.named_cell(found.analyze or "")
    matrix = None if opening is None else opening.payoff_UAR
    played = matrix if self._edited is None else self._edited
    kind: Any = -1 if opening is None else opening.user_type
    return {
      "thinking": found.thinking,
      "payoff": _cells(matrix),
      "edited": _cells(self._edited),
      "user_type": (*USER_TYPES, None)[kind],  # -1: undeclared
      "choice": None if played is None else CELLS[int(payoff.choose(played, kind))],
      "named": CELLS[cell] if cell >= 0 else None,
      "analyze": found.analyze,
      "parse_error": error if final else None,
      "pricing": policy and policy.name,
    }


def _cells(payoff_UAR: Any) -> dict[str, dict[str, float]] | None:
  if payoff_UAR is None:
    return None
  return {c: dict(zip(ROLES, p)) for c, p in zip(CELLS, payoff_UAR.reshape(6, 2).tolist())}
