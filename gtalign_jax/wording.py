"""Words, subjects and questions of a text, by linear scans: what rewards and users read alike."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

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

_SUBJECT_WORD = re.compile(r"[^\W_]+")
# Words too common to tell a subject from another.
_COMMON = frozenset(
  _SUBJECT_WORD.findall("""
  a about after all also am an and any are as at be because been before being but by can could did
  do does doing down each for from further get give given gives had has have having he help her
  here him his how i if in into is it its just let like make may me might more most must my need
  no nor not now of off on once one only or other our out over own please put same she should so
  some such take tell than that the their them then there these they thing this those through to
  too under until up us use very want was way we were what when where which while who whom whose
  why will with would write you your""")
)
STEM = 6  # letters kept of a word: joins manipulate and manipulating
# Words before an answer that take it back, in the same clause.
_DENIES = re.compile(
  r"(?:\bnot|n t|\bnever|\bneither|\bcould be|\bmight be|\bmay be|\beither)(?: \w+){0,3} $"
)
OVERLAP = 0.8  # share of an answer's words that a reply must contain where it has not the phrase


class Asking(NamedTuple):
  """Sentences of a response that ask, and the words of those that do not."""

  questions: int
  words_outside: int


def words(text: str) -> int:
  """Words separated by white space, each CJK character counting as one."""
  if text.isascii() or not _ANY_CJK.search(text):  # most texts, and split is far faster
    return len(text.split())
  return len(_WORD.findall(text))


def cut(text: str, most: int) -> str:
  """The first `most` words of a text, as they are spaced there."""
  last = next(itertools.islice(_WORD.finditer(text), most - 1, None), None)
  return text if last is None else text[: last.end()]


def asking(text: str) -> Asking:
  """Counts the questions of a response: see `sentences`."""
  total = words(text)
  if not _asks(text):  # most responses: no sentence need be found
    return Asking(0, total)
  questions = [sentence for sentence, asks in sentences(text) if asks]
  return Asking(len(questions), max(total - sum(map(words, questions)), 0))


def sentences(text: str) -> Iterator[tuple[str, bool]]:
  """The sentences of a text, and whether each asks: whether it ends in `?` or `？`.

  `Really?!` and `(Which one?)` ask; a line break ends a sentence.
  """
  at = 0
  for match in _RUN.finditer(text):
    run, end = match[0], match.end()
    if _ends_sentence(run, text[end : end + 1]):
      yield text[at:end], _asks(run)
      at = end
  if at < len(text):
    yield text[at:], False


def _asks(text: str) -> bool:
  return "?" in text or "\uff1f" in text


def _ends_sentence(run: str, after: str) -> bool:
  """White space, the end or a line break follows; CJK marks need none. `3.5` and `x?y` go on."""
  if not after or after.isspace() or run[-1] == "\n":
    return True
  return not run.isascii() and _CJK_STOP.search(run) is not None


def subject(text: str) -> set[str]:
  """Stems of the words that say what `text` is about."""
  found = _SUBJECT_WORD.findall(text.lower())
  return {
    word[:STEM] for word in found if word not in _COMMON and (len(word) > 1 or word.isdigit())
  }


def share(part: set[Any], whole: set[Any]) -> float:
  """How much of `part` stands in `whole`; 0 for nothing."""
  return len(part & whole) / len(part) if part else 0.0


def plain(text: str) -> str:
  """Lower-case words with single spaces, nothing else: for finding a phrase."""
  return " ".join(_SUBJECT_WORD.findall(text.lower()))


def contains(response: str, answer: str) -> bool:
  """Does the reply state the answer: the phrase itself, or nearly all of its words?

  Not where it is denied ("not X"), or one of several guesses ("could be Y, X or Z").
  """
  phrase, text = plain(answer), plain(response)
  if not phrase:
    return answer.strip() != "" and answer.strip() in response
  before, found, after = f" {text} ".partition(f" {phrase} ")
  if found:
    # the last 60 characters: a clause; a denial further off is of something else
    denied = _DENIES.search(before[-60:] + " ") is not None
    return not denied and not before.endswith(" or") and not after.startswith("or ")
  words = phrase.split()
  needed = 1.0 if len(words) == 2 else OVERLAP  # half of a name is another person
  return len(words) >= 2 and share(set(words), set(text.split())) >= needed
