"""What the reward reads from the texts of a chain (FORMULAS: corrected mode), by linear scans."""

from __future__ import annotations

import math
import re

from gtalign_jax.types import CELLS, USER_TYPES
from gtalign_jax.wording import Asking as Asking
from gtalign_jax.wording import asking as asking
from gtalign_jax.wording import words as words

# ASCII letters and digits join a key to a longer word; letters of other scripts do not. DQ in DQ_DA
# is no user type, but markdown may put underscores around a cell.
_CELL = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(CELLS)})(?![A-Za-z0-9])")
_TYPE = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(USER_TYPES)})(?![A-Za-z0-9_])")
_NUMBER = re.compile(r"[-+\u2212]?\d+(?:\.\d+)?")
_SENTENCE = re.compile(r"[.;!?](?:\s|$)|\n")  # its end; the point of 6.6 has no space behind it


def named_cell(analyze: str) -> int:
  """Index of the *last* cell key in analyze (`types.CELLS`), -1 if none is named."""
  return _last(analyze, CELLS, _CELL)


def user_type(thinking: str) -> int:
  """The *last* standalone DQ or VQ in thinking: 0 DQ, 1 VQ, -1 if there is none."""
  return _last(thinking, USER_TYPES, _TYPE)


def _last(text: str, keys: tuple[str, ...], standalone: re.Pattern[str]) -> int:
  """Index of the key that stands last in `text` by itself: one look back, else one pass."""
  places = list(map(text.rfind, keys))
  at = max(places)
  if at < 0:
    return -1
  if standalone.match(text, at):
    return places.index(at)
  found = standalone.findall(text)
  return keys.index(found[-1]) if found else -1


def stated_sums(analyze: str) -> list[tuple[int, float]]:
  """(cell, number) of each cell key that a number follows, before the next key or sentence.

  `DQ_DA +6.6`, `DQ_DA: 3.1 + 3.5 = 6.6` and `DQ_DA sums to 6.6` all state 6.6.
  """
  found = list(_CELL.finditer(analyze))
  ends = [*(each.start() for each in found[1:]), len(analyze)]
  stated = []
  for key, end in zip(found, ends):
    said = _SENTENCE.split(analyze[key.end() : end], maxsplit=1)[0].rpartition("=")[2]
    if number := _NUMBER.search(said):
      stated.append((CELLS.index(key[0]), float(number[0].replace("\u2212", "-"))))
  return stated


def carried_out(cell: int, response: str, cq_max_words: int, aq_min_words: int) -> float:
  """1.0 if the response does what the named cell's action says, else 0.0 (no cell: 0.0)."""
  did = action(response, cell, cq_max_words, aq_min_words)
  return float(cell >= 0 and did == cell % 3)  # cell = 3 * user type + action


def action(response: str, cell: int, cq_max_words: int, aq_min_words: int) -> int:
  """What the response does, as an index of ACTIONS; -1 if it is none of them.

  DA: no question. CQ: exactly one question and at most `cq_max_words` words outside it. AQ: exactly
  one question and at least `aq_min_words` words outside it. What is both did the action of `cell`,
  the named one, and CQ where that says neither: it commits to no answer in full.
  """
  if "?" not in response and "\uff1f" not in response:  # most responses: no words need be counted
    return 0
  found = asking(response)
  if found.questions != 1:
    return 0 if found.questions == 0 else -1
  # the words outside tell a question with an answer (AQ) from a bare one (CQ)
  bare, answers = found.words_outside <= cq_max_words, found.words_outside >= aq_min_words
  if bare and answers:
    return 2 if cell % 3 == 2 and cell >= 0 else 1
  return 1 if bare else 2 if answers else -1


def brief_chars(*reasoning: str | None) -> float:
  """Characters of the blocks of reasoning; NaN unless all of them exist and are not empty."""
  return float(sum(len(each or "") for each in reasoning)) if all(reasoning) else math.nan
