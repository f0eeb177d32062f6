"""What the reward reads from the texts of a chain (FORMULAS: corrected mode), by linear scans."""

from __future__ import annotations

import re
from typing import NamedTuple

from gtalign_jax.types import CELLS, USER_TYPES

# Han, kana and bopomofo: written without spaces, so each character counts as a word. Korean is
# written with spaces and counts as other scripts do.
_CJK = (
  r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u30ff\u3105-\u312f"
  r"\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
  r"\U00020000-\U0003ffff"
)
_CJK_MARKS = r"\u3000-\u3004\u3008-\u3020\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_WORD = re.compile(rf"[{_CJK}]|[^\s{_CJK}{_CJK_MARKS}]+")
_ANY_CJK = re.compile(rf"[{_CJK}]")

# A run of full stops, exclamation and question marks with what closes quotes and brackets after it,
# or line breaks. It starts with one class of characters, which the engine searches for quickly, and
# consumes the whole run, so that long runs are scanned once.
_STOP = r".!?\u2026\u3002\uff01\uff1f"
_CLOSER = r"\"'\u201d\u2019)\]}\u00bb*_\u300d\u300f\uff09"
_RUN = re.compile(rf"[{_STOP}\n](?:(?<!\n)[{_STOP}]*+[{_CLOSER}]*+)?+\n*+")
_CJK_STOP = re.compile("[\u3002\uff01\uff1f]")

# ASCII letters and digits join a key to a longer word; letters of other scripts do not. DQ in DQ_DA
# is no user type, but markdown may put underscores around a cell.
_CELL = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(CELLS)})(?![A-Za-z0-9])")
_TYPE = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(USER_TYPES)})(?![A-Za-z0-9_])")


class Asking(NamedTuple):
  """Sentences of a response that ask, and the words of those that do not."""

  questions: int
  words_outside: int


def words(text: str) -> int:
  """Words separated by white space, each CJK character counting as one."""
  if text.isascii() or not _ANY_CJK.search(text):  # most texts, and split is far faster
    return len(text.split())
  return len(_WORD.findall(text))


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


def asking(text: str) -> Asking:
  """Counts the questions of a response. A question is a sentence that ends in `?` or `？`.

  `Really?!` and `(Which one?)` ask; a line break ends a sentence.
  """
  total = words(text)
  if "?" not in text and "\uff1f" not in text:  # most responses: no sentence need be found
    return Asking(0, total)
  questions, inside, at = 0, 0, 0
  for match in _RUN.finditer(text):
    run, end = match[0], match.end()
    if not _ends_sentence(run, text[end : end + 1]):
      continue
    if "?" in run or "\uff1f" in run:
      questions += 1
      inside += words(text[at:end])
    at = end
  return Asking(questions, max(total - inside, 0))


def _ends_sentence(run: str, after: str) -> bool:
  """White space, the end or a line break follows; CJK marks need none. `3.5` and `x?y` go on."""
  if not after or after.isspace() or run[-1] == "\n":
    return True
  return not run.isascii() and _CJK_STOP.search(run) is not None


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


def brief_chars(thinking: str | None, analyze: str | None) -> float:
  """Characters of thinking + analyze; NaN unless both blocks exist and are not empty."""
  return float(len(thinking) + len(analyze)) if thinking and analyze else float("nan")
