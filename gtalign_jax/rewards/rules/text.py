"""Words of a text that carry meaning, for rules that compare subjects."""

from __future__ import annotations

import re
from typing import Any

_WORD = re.compile(r"[^\W_]+")
# Words too common to tell a subject from another.
_COMMON = frozenset(
  _WORD.findall("""a about after all also am an and any are as at be because been before being but
  by can could did do does doing down each for from further get give given gives had has have having
  he help her here him his how i if in into is it its just let like make may me might more most must
  my need no nor not now of off on once one only or other our out over own please put same she
  should so some such take
  tell than that the their them then there these they thing this those through to too under until up
  us use very want was way we were what when where which while who whom whose why will with would
  write you your""")
)
STEM = 6  # letters kept of a word: joins manipulate and manipulating


def subject(text: str) -> set[str]:
  """Stems of the words that say what `text` is about."""
  found = _WORD.findall(text.lower())
  return {
    word[:STEM] for word in found if word not in _COMMON and (len(word) > 1 or word.isdigit())
  }


def share(part: set[Any], whole: set[Any]) -> float:
  """How much of `part` stands in `whole`; 0 for nothing."""
  return len(part & whole) / len(part) if part else 0.0


def plain(text: str) -> str:
  """Lower-case words with single spaces, nothing else: for finding a phrase."""
  return " ".join(_WORD.findall(text.lower()))
