"""A completion read as a chain of one of FORMS, strictly or as the released code reads it.

The form game has four blocks, think two of them; none is the bare response. Everything is linear in
the length of the text and never raises on a string. FORMULAS: the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gtalign_jax.rewards import paper_text, payoffs
from gtalign_jax.rewards.blocks import ERRORS, TAGS, TAGS_OF, Blocks, Numbers, Span, contents
from gtalign_jax.types import BLOCKS, FORMS, GAME, has_payoff

__all__ = [
  "ERRORS", "TAGS", "Blocks", "Chain", "as_array", "blocks", "contents", "in_form", "parse",
  "token_blocks", "token_offsets",
]  # fmt: skip
RESPONSE = BLOCKS.index("response")
Spans = tuple[Span | None, ...]
Tags = Sequence[tuple[str, str]]  # of each block, opening and closing


class Chain(NamedTuple):
  """One completion, read.

  thinking, analyze, response: text of the block without surrounding white space; None where the
  block is absent (strict reading: or not the only one). payoff: payoff_UAR float64, or None.
  format: 1 if the reading's format test passes. error: None, or one of ERRORS. spans: characters
  between the tags of each of BLOCKS, None where absent. numbers: the payoffs as read, twelve Python
  numbers (paper reading: integers and booleans stay what they are).
  """

  thinking: str | None
  payoff: np.ndarray | None
  analyze: str | None
  response: str | None
  format: int
  error: str | None
  spans: tuple[Span | None, ...]
  numbers: Numbers | None


def parse(text: str, mode: str = "strict", form: str = GAME) -> Chain:
  """Reads a completion. mode: "strict" (default of the rewards) or "paper" (published runs)."""
  found = blocks(text, mode, form)
  thinking, _, analyze, response = (contents(text, span) for span in found.spans)
  payoff = None if found.numbers is None else as_array([found.numbers])[0]
  return Chain(
    thinking, payoff, analyze, response, found.format, found.error, found.spans, found.numbers
  )


def blocks(text: str, mode: str = "strict", form: str = GAME, cut: bool = False) -> Blocks:
  """`parse` up to, but without, copies of the text and the array.

  cut: whether the text ran out of its budget, which a bare response does not show by itself.
  """
  if mode == "paper":
    return paper_text.blocks(text)  # which knows the form game alone
  return _strict(text, form) if FORMS[form] else _bare(text, cut)


def in_form(text: str, form: str) -> str:
  """What a chain of another form says in `form`; a text that is none, or says too little, as is."""
  for other in (each for each in FORMS if FORMS[each] and each != form):
    found = blocks(text, form=other)
    said = {b: text[slice(*span)] for b, span in zip(BLOCKS, found.spans) if span}
    if found.error is None and said.keys() >= set(FORMS[form]):
      return "".join(f"<{b}>{said[b]}</{b}>" for b in FORMS[form]) or said["response"].strip()
  return text


def as_array(numbers: Sequence[Numbers]) -> np.ndarray:
  """payoff_BUAR float64 of many chains; an integer beyond float64 becomes an infinity."""
  try:
    flat = np.array(numbers, dtype=np.float64)
  except OverflowError:  # only the paper's reading lets such integers in
    flat = np.array([[_to_float(each) for each in row] for row in numbers])
  return flat.reshape(len(numbers), 2, 3, 2)


def _to_float(number: int | float) -> float:
  try:
    return float(number)
  except OverflowError:
    return float("inf") if number > 0 else float("-inf")


# ---------------------------------------------------------------- the strict reading


def _bare(text: str, cut: bool) -> Blocks:
  """The whole text as the response. Tags cost the format alone: the user reads them as text."""
  span: Span | None = (0, len(text))
  error: str | None = None
  if not text.strip():
    span, error = None, "missing_block"
  elif cut:  # as a response block that is not closed: nobody is shown half an answer
    span, error = None, "truncated"
  elif any(tag in text for pair in TAGS for tag in pair):
    error = "stray_text"
  return Blocks((None, None, None, span), None, int(error is None), error)


def _strict(text: str, form: str) -> Blocks:
  # a trained policy nearly always writes a chain: one pass without counting tags tells, and why a
  # text is none is looked up only where it is none
  spans = _in_order(text, TAGS_OF[form])
  if spans is None:
    found, reason = _diagnose(text, TAGS_OF[form])
    return Blocks(_placed(found, form), None, 0, reason)
  if not has_payoff(form):
    return Blocks(_placed(spans, form), None, 1, None)
  start, end = spans[1]
  numbers, error = payoffs.strict(text[start:end].strip())
  return Blocks(spans, numbers, int(error is None), error)


def _placed(spans: Spans, form: str) -> Spans:
  """The spans of a form's blocks as those of BLOCKS."""
  found = dict(zip(FORMS[form], spans, strict=True))
  return tuple(found.get(block) for block in BLOCKS)


def _in_order(text: str, tags: Tags) -> tuple[Span, ...] | None:
  """Spans of well-placed, non-empty, unrepeated blocks; None where anything is amiss."""
  spans, at = [], 0
  for opening, closing in tags:
    # find and isspace, no pattern: a pattern with .*? between tags backtracks on hostile text
    start = text.find(opening, at)
    end = text.find(closing, start) if start >= 0 else -1
    if end < 0 or (start > at and not text[at:start].isspace()):
      return None
    span = (start + len(opening), end)
    if span[0] == end or text[span[0] : end].isspace():
      return None
    spans.append(span)
    at = end + len(closing)
  if at < len(text) and not text[at:].isspace():
    return None
  if text.count("<") > 2 * len(tags):  # one of the others may be a tag again, inside a block
    for opening, closing in tags:
      if text.count(opening) != 1 or text.count(closing) != 1:
        return None
  return tuple(spans)


def _diagnose(text: str, tags: Tags) -> tuple[Spans, str]:
  """Spans of the blocks that occur exactly once, and the reason why the text is not a chain."""
  counts = [(text.count(opening), text.count(closing)) for opening, closing in tags]
  places = [(text.find(opening), text.find(closing)) for opening, closing in tags]
  spans: list[Span | None] = []
  for (opening, _), count, (start, end) in zip(tags, counts, places, strict=True):
    # its closing tag may stand before its opening one
    whole = count == (1, 1) and start + len(opening) <= end
    spans.append((start + len(opening), end) if whole else None)
  return tuple(spans), _reason(text, tags, counts, places)


def _reason(text: str, tags: Tags, counts: list[Span], places: list[Span]) -> str:
  # in this order: each test may rely on what the ones before it have ruled out
  if max(map(max, counts)) > 1:
    return "repeated_block"
  if min(map(min, counts)) == 0:
    return "truncated" if _breaks_off(text, tags, counts) else "missing_block"
  order = [place for pair in places for place in pair]
  if order != sorted(order):
    return "block_order"
  at = 0
  for (_, closing), (start, end) in zip(tags, places, strict=True):
    if text[at:start].strip():
      return "stray_text"
    at = end + len(closing)
  return "stray_text" if text[at:].strip() else "missing_block"  # what is left: an empty block


def _breaks_off(text: str, tags: Tags, counts: list[Span]) -> bool:
  """Does the text end inside the first incomplete block, or inside its opening tag?"""
  first = next(i for i, count in enumerate(counts) if min(count) == 0)
  if any(max(count) for count in counts[first + 1 :]):
    return False  # a later block was begun, so the text went on
  if counts[first] == (1, 0):
    return True
  opening = tags[first][0]
  # a budget that runs out inside a tag cuts it anywhere
  cut = any(text.endswith(opening[:n]) for n in range(1, len(opening)))
  return counts[first] == (0, 0) and cut


# ---------------------------------------------------------------- blocks on token ids


def token_blocks(pieces: Sequence[bytes], form: str = GAME) -> np.ndarray:
  """int8: which of BLOCKS holds the first byte of each token, tags included; -1 outside of all.

  pieces: the bytes of each token, in order. Blocks that occur exactly once count, also where the
  text is no chain. All of a bare response is response.
  """
  if not FORMS[form]:
    return np.full(len(pieces), RESPONSE, np.int8)
  # A character a byte: tags are ASCII, so they are found as in the text, and characters that are
  # split over tokens cannot shift them.
  text = b"".join(pieces).decode("latin-1")
  tags = TAGS_OF[form]
  spans = _in_order(text, tags) or _diagnose(text, tags)[0]
  start_C = np.cumsum([0, *map(len, pieces)])[:-1]
  out_C = np.full(len(pieces), -1, np.int8)
  for block, (opening, closing), span in zip(FORMS[form], tags, spans, strict=True):
    if span is not None:
      around = (span[0] - len(opening), span[1] + len(closing))
      out_C[slice(*np.searchsorted(start_C, around))] = BLOCKS.index(block)
  return out_C


def token_offsets(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[Span]:
  """Character offsets of token `ids` in `decode(ids)`.

  Re-encoding the text may give other tokens than were sampled, so the tokens are decoded: one by
  one where their pieces join to the text, else prefix by prefix (a character may take several).
  """
  text = decode(ids)
  pieces = [decode([each]) for each in ids]
  if "".join(pieces) == text:
    ends = np.cumsum([len(piece) for piece in pieces], dtype=int).tolist()
  else:
    # quadratic in the tokens, but only for texts with characters that are split over tokens
    ends = [_agreement(text, decode(ids[: n + 1])) for n in range(len(ids))]
  return list(zip([0, *ends], ends, strict=False))


def _agreement(text: str, prefix: str) -> int:
  """Characters that both begin with: a half-decoded one at the end of `prefix` is left out."""
  if text.startswith(prefix):
    return len(prefix)
  return next((n for n, (a, b) in enumerate(zip(text, prefix)) if a != b), len(text))
