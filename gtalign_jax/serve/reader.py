"""A completion as it is written: bytes to text, text to what the client sees.

What the client sees (content) is the response of a chain from the moment it opens, and the whole
text where that is no chain; never a stop string, nor a character that the next token may change.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import NamedTuple

from gtalign_jax.rewards import chain
from gtalign_jax.types import FORMS, GAME

OPEN, CLOSE = chain.TAGS[-1]
FIRST = chain.TAGS[0][0]
REST = f"{OPEN}.{CLOSE}"  # makes a whole chain of a sound beginning


class Token(NamedTuple):
  """A sampled token and the characters of the text that it made whole, from begin to end."""

  id: int
  logp: float
  begin: int
  end: int


class Reader:
  """Reads one completion.

  pieces: bytes of every token id (stop.token_bytes). stops: the client's. spaced: whether the
  tokenizer writes a space before the first word, which is none of the text. form: of the chain.
  """

  def __init__(
    self, pieces: Sequence[bytes], stops: Sequence[str], spaced: bool = False, form: str = GAME
  ):
    self._pieces, self._stops, self._spaced, self._form = pieces, stops, spaced, form
    self.ids: list[int] = []
    self.tokens: list[Token] = []  # those that were sampled since the last restart
    self.text = ""
    self.stopped = False  # at a stop string of the client's
    # whether the whole text is content; None: not known yet
    self._whole: bool | None = None if FORMS[form] else True
    self._start = self._shown = 0  # characters: where content begins, and up to where it was given
    self._given = 0  # tokens that `entries` has handed over
    self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

  def restart(self, ids: Sequence[int], text: str) -> None:
    """Puts `ids`, which spell `text`, in place of what was read; before any content was given."""
    self.ids, self.tokens, self.text, self._given = list(ids), [], text, 0
    self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

  def push(self, ids: Sequence[int], logps: Sequence[float]) -> None:
    """Reads tokens that were sampled."""
    for each, logp in zip(ids, logps, strict=True):
      begin, new = len(self.text), self._decode(self._pieces[each])
      self.text += new[1:] if self._spaced and not self.ids and new[:1] == " " else new
      self.ids.append(each)
      self.tokens.append(Token(each, logp, begin, len(self.text)))

  def content(self, final: bool = False) -> str:
    """What has become content since the last call. final: nothing follows."""
    if final:
      self.text += self._decode(b"", True)
    self._settle(final)
    if self._whole is None:
      return ""
    end = self._end(final)
    empty = not self._whole and end <= self._start and not self.stopped
    if final and empty and chain.blocks(self.text, form=self._form).error:
      self._whole, self._start, self._shown = True, 0, 0  # an empty response: the text, then
      end = self._end(final)
    new = self.text[self._shown : end]
    self._shown = max(self._shown, end)
    return new

  def _settle(self, final: bool) -> None:
    """Finds out whether this is a chain, as soon as that can be told."""
    if self._whole is not None:
      return
    begun, at = self.text.lstrip(), self.text.find(OPEN)
    if not (begun.startswith(FIRST) or FIRST.startswith(begun)):
      self._whole = True
    elif at >= 0:
      self._whole = chain.blocks(self.text[:at] + REST, form=self._form).error is not None
      self._start = self._shown = 0 if self._whole else at + len(OPEN)
    elif final:
      self._whole = True

  def _end(self, final: bool) -> int:
    """Where content ends that can be given now; moves the start of a response past white space."""
    closed = final
    end = len(self.text)
    if not self._whole:
      at = self.text.find(CLOSE, self._start)
      closed, end = final or at >= 0, at if at >= 0 else _before_part(self.text, [CLOSE])
      if self._shown == self._start:
        self._start = self._shown = end - len(self.text[self._start : end].lstrip())
    longest = max(map(len, self._stops), default=1)
    begin = max(self._start, self._shown - longest + 1)
    found = [at for at in (self.text.find(stop, begin, end) for stop in self._stops) if at >= 0]
    if found:
      self.stopped, end = True, min(found)
    elif not closed:
      end = min(end, _before_part(self.text[:end], self._stops))
    if not self._whole:
      end = self._start + len(self.text[self._start : end].rstrip())
    return end

  def entries(self, final: bool = False) -> list[Token]:
    """The tokens of the content given since the last call."""
    out = []
    for token in self.tokens[self._given :]:
      if token.end > self._shown and not (final and token.begin < self._shown):
        break
      if token.end > self._start:
        out.append(token)
      self._given += 1
    return out


def _before_part(text: str, wholes: Sequence[str]) -> int:
  """Length of `text` without an end that one of `wholes` may begin with."""
  for length in range(min(len(text), max(map(len, wholes), default=0)), 0, -1):
    if any(whole.startswith(text[-length:]) for whole in wholes):
      return len(text) - length
  return len(text)
