"""Where the final answer stands in a reply.

Found in this order: the last \\boxed{…}, or several that are joined; what follows the last "answer
is" or "answer:"; the last bold text; the last formula; the last number. Every pattern is linear in
the length of the reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_STATED = 400  # characters of a line that are read; no released answer has more than 80
MAX_BOX = 10 * MAX_STATED  # a box that is never closed is not searched to the end of the reply
MAX_SPANS = 12  # boxes or formulas at the end of a reply that are looked at

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,3}(?:\{|(?=\d))")
_BETWEEN = re.compile(r"[\s$*.,;\\()]*(?:and|or|,|;|\\text\{ ?(?:and|or) ?\})[\s$*,\\()]*", re.I)
_OR = re.compile(r"\bor\b")
_ANSWER = re.compile(
  r"\b(?:answer|result|solution)s?\b[^.\n:=]{0,40}?(?:\bis\b|\bare\b|:|=)"
  r"(?=[\s*:]{0,20}[^\s*:])",
  re.I,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,400})\*\*")
_DELIMITER = re.compile(r"(?<!\\)\$\$?|\\[()\[\]]")
_DISPLAY = re.compile(r"\$\$([^$]{1,400})\$\$|\\\[((?:[^\\]|\\(?!\])){1,400})\\\]")
_CLOSES = {"\\(": "\\)", "\\[": "\\]", "$": "$", "$$": "$$"}
_SAYS_SOMETHING = re.compile(r"[\d\\+*/=^-]")  # unlike the mention of a variable
_NUMBER = re.compile(r"-?(?:\$?\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?")
_ENDS = re.compile(
  r"(?<!\b[ap])[.;!?](?=\s|$)|,?\s(?:because|since|as|which|so|where|but|when|if|from|given|for)\s",
  re.I,
)
# bold, but not the power in 2**3
_STARS = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])|__|`")
_WORDS = re.compile(
  r"(?<![\\a-zA-Z^_])(?!(?:sin|cos|tan|log|exp|sqrt)\b)"
  r"(?:[a-zA-Z]{3,}|a[nst]|by|cm|i[fnst]|km|mm|kg|no|o[fnr]|to|we)(?![a-zA-Z({])"
)

_Span = tuple[int, str, int]  # where something starts, what it holds, where it ends


def final_answer(response: str, values: int = 1) -> str | None:
  """The answer that a reply commits to, as LaTeX; None if it states none.

  values: how many the truth has; that many boxes at the end are then one answer.
  """
  boxes = _boxes(response)
  if boxes:
    every = len(boxes) == values and not any("," in content for _, content, _ in boxes)
    return _joined(response, boxes, True, every)
  stated = max((match.end() for match in _ANSWER.finditer(response)), default=None)
  if stated is not None:
    rest = response[stated : stated + 2 * MAX_STATED].lstrip(" \t*:\n")
    display = _DISPLAY.match(rest)
    if display:
      return (display[1] or display[2]).strip()
    return _statement(rest.split("\n")[0][:MAX_STATED])
  # bold goes before formulas: replies stress the answer, and use formulas all the way
  bold = [each for each in _BOLD.findall(response) if _SAYS_SOMETHING.search(each)]
  if bold:
    return _statement(bold[-1])
  formulas = [each for each in _formulas(response) if _SAYS_SOMETHING.search(each[1])]
  if formulas:
    # "$a=2$ and $b=3$" gives two things, of which the last was asked for; "or" gives one, twice
    return _joined(response, formulas[-MAX_SPANS:], values > 1, False)
  numbers = _NUMBER.findall(response)
  return numbers[-1].rstrip(",") if numbers else None


def _joined(text: str, spans: list[_Span], by_and: bool, every: bool) -> str:
  """The last span with those that nothing but "or" (and, by_and: "and" and commas) keeps apart.

  every: all spans, where nothing ties the last one to another.
  """
  last = first = len(spans) - 1
  while first:
    start, end = spans[first - 1][2], spans[first][0]
    if not (0 <= end - start <= 40 and _BETWEEN.fullmatch(text[start:end])):
      break
    first -= 1
  if first == last and every:
    first = 0
  is_or = _OR.search(text[spans[first][2] : spans[last][0]])
  if not is_or and not by_and:
    first = last
  link = " \\text{or} " if is_or else " \\text{and} "
  return link.join(content.strip() for _, content, _ in spans[first:])


def _boxes(text: str) -> list[_Span]:
  """The last boxes that are closed; none where the very last one is not."""
  spans: list[_Span] = []
  starts = list(_BOX.finditer(text))[-MAX_SPANS:]
  for match in starts:
    start, depth = match.end(), 1
    if not match[0].endswith("{"):  # \boxed5
      spans.append((match.start(), text[start], start + 1))
      continue
    for at in range(start, min(len(text), start + MAX_BOX)):
      depth += {"{": 1, "}": -1}.get(text[at], 0)
      if depth == 0:
        spans.append((match.start(), text[start:at], at + 1))
        break
  return spans if spans and spans[-1][0] == starts[-1].start() else []


def _formulas(text: str) -> Iterator[_Span]:
  """Text between $…$, $$…$$, \\(…\\) and \\[…\\] of at most MAX_STATED characters."""
  opened: re.Match[str] | None = None
  for match in _DELIMITER.finditer(text):
    if opened and match[0] == _CLOSES[opened[0]] and match.start() - opened.end() <= MAX_STATED:
      if match.start() > opened.end():
        yield opened.start(), text[opened.end() : match.start()], match.end()
      opened = None
    elif match[0] in _CLOSES:
      opened = match


def _statement(stated: str) -> str:
  """The answer at the start of the rest of a line; words of the sentence are \\text{…}."""
  stated = _ENDS.split(_STARS.sub(" ", stated).strip(" *:\"'"), maxsplit=1)[0].strip()
  pieces = re.split(r"((?<!\\)\$\$?[^$]*\$\$?)", stated)  # formulas are every other one
  pieces[::2] = [_WORDS.sub(r"\\text{\g<0>}", piece) for piece in pieces[::2]]
  return "".join(pieces)
