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
MAX_BOXES = 12

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
  boxed = _boxes(response, values)
  if boxed is not None:
    return boxed
  stated = None
  for match in _ANSWER.finditer(response):
    stated = match.end()
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
    return _alternatives(response, formulas[-MAX_BOXES:], values)
  numbers = _NUMBER.findall(response)
  return numbers[-1].rstrip(",") if numbers else None


def _boxes(response: str, values: int) -> str | None:
  """Content of the last boxes: those that "and", "or" or a comma join, or as many as asked."""
  starts = list(_BOX.finditer(response))[-MAX_BOXES:]
  if not starts:
    return None
  found = [(match.start(), *_content(response, match)) for match in starts]
  if found[-1][1] is None:
    return None
  closed = [(start, content, end) for start, content, end in found if content is not None]
  joined = _run(response, closed)
  if joined == 1 < values == len(closed) and not any("," in content for _, content, _ in closed):
    joined = values
  if joined == 1:
    return closed[-1][1]
  return _linked(response, closed[-joined:])


def _alternatives(response: str, found: list[_Span], values: int) -> str:
  """The last formula, with those that "or" ties to it; with "and" and commas too for several."""
  joined = _run(response, found)
  between = response[found[-joined][2] : found[-1][0]]
  # "$a=2$ and $b=3$" gives two things, of which the last was asked for; "or" gives one, twice
  if joined == 1 or (values == 1 and not _OR.search(between)):
    return found[-1][1].strip()
  return _linked(response, found[-joined:])


def _run(text: str, found: list[_Span]) -> int:
  """How many of the last spans nothing but "and", "or" and commas keeps apart."""
  joined = 1
  while joined < len(found):
    end, start = found[-joined - 1][2], found[-joined][0]
    if not (0 <= start - end <= 40 and _BETWEEN.fullmatch(text[end:start])):
      break
    joined += 1
  return joined


def _linked(text: str, found: list[_Span]) -> str:
  """The spans as one answer, in the words that stand between them."""
  link = "or" if _OR.search(text[found[0][2] : found[-1][0]]) else "and"
  return f" \\text{{{link}}} ".join(content for _, content, _ in found)


def _content(text: str, match: re.Match[str]) -> tuple[str | None, int]:
  """What stands in the box that opens here, and where it ends; None if it is not closed."""
  if not match[0].endswith("{"):
    return text[match.end()], match.end() + 1
  depth = 1
  for at in range(match.end(), min(len(text), match.end() + MAX_BOX)):
    depth += {"{": 1, "}": -1}.get(text[at], 0)
    if depth == 0:
      return text[match.end() : at], at + 1
  return None, len(text)


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
  stated = _STARS.sub(" ", stated).strip(" *:\"'")
  cut = _ENDS.search(stated)
  stated = (stated[: cut.start()] if cut else stated).strip()
  pieces = re.split(r"((?<!\\)\$\$?[^$]*\$\$?)", stated)
  return "".join(
    piece if at % 2 else _WORDS.sub(r"\\text{\g<0>}", piece) for at, piece in enumerate(pieces)
  )
