"""Reads the verdict out of a judge's reply: the last line that is one, or none."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200  # characters of a verdict line
LAST = 500  # lines that are looked at: a reply may be all lines
_THOUGHT_TAG = re.compile(r"(</?(?:think|thinking|reasoning)>|\[/?THINK\])")
# `VERDICT: 1`, `**Final verdict:** 0.5 (a refusal)`, `So \boxed{1}.`: the verdict, its dress and a
# remark, and nothing else. Digits are bounded, so that a scan is linear.
_VERDICT = re.compile(
  r"""(?:[-*+•#]{1,6}\s)?
  (?P<quote>["'`*_]{0,6})
  (?:(?:so|thus|hence|therefore|finally),?\s)?
  (?:(?:(?:my|the|final|overall)\s){0,3}verdict[*_`]{0,3}\s?(?:(?:[:=]|\bis\b:?|-\s)[*_`]{0,3}\s?)?)?
  (?P<boxed>\$?\\boxed\{)?
  [*_`<\[({]{0,4}
  (?P<number>[-+]?(?:\d{1,6}(?:\.\d{1,6})?|\.\d{1,6}))
  [>\])}]*\$?
  (?P<remark>["'`*_]{0,6}(?:\s?[(,;:.-].*|[.!])?["'`*_]{0,6})""",
  re.I | re.X,
)
# a remark that makes a choice, a share or a template of it: `0 or 1`, `1 of 10`, `1 (right) or …`
_UNSURE = re.compile(r"\d|%|\bverdict\b|\b(?:or|if|of|when|percent)\b", re.I)
# the line before a quoted one: `The response says:`
_QUOTING = re.compile(
  r"\b(?:sa(?:ys?|id|ying)|writ(?:es?|ing|ten)|wrote|stat(?:es?|ed|ing)|claim(?:s|ed|ing)?|"
  r"contain(?:s|ed|ing)?|end(?:s|ed|ing)?|read(?:s|ing)?|includ(?:es?|ed|ing)|quot(?:es?|ed|ing)|"
  r"respon(?:se|ds?)|repl(?:y|ies)|line|text)\b.*[:,]\W*$",
  re.I,
)


def read_verdict(reply: str) -> float | None:
  """The number of the last verdict line after the model's thoughts; None if there is none.

  A verdict inside a sentence, a line of the prompt said back, several verdicts in a row, and a line
  that the reply quotes are none.
  """
  lines = [each.strip() for each in _said(reply).splitlines()]
  lines = [each for each in lines if each][-LAST:]
  for at in range(len(lines) - 1, -1, -1):  # the last: models change their mind while they write
    if (number := _number(lines, at)) is not None:
      before = _number(lines, at - 1) if at else None
      # options on lines of their own; nothing between them says which
      return number if before in (None, number) else None
  return None


def _said(reply: str) -> str:
  """The reply without the model's thoughts."""
  said: list[str] = []
  thinking = False
  for piece in _THOUGHT_TAG.split(reply):  # one pass: a reply of many open tags costs no more
    if not _THOUGHT_TAG.fullmatch(piece):
      if not thinking:
        said.append(piece)
    elif "/" not in piece:
      thinking = True
    else:
      if not thinking:  # the chat template had opened it
        said.clear()
      thinking = False
  return " ".join(said)


def _number(lines: list[str], at: int) -> float | None:
  """The verdict of one line, None if it is no verdict line."""
  line = lines[at]
  if len(line) > LONGEST or not (found := _VERDICT.fullmatch(_plain(line))):
    return None
  if not ("verdict" in found[0].lower() or found["boxed"]) or _UNSURE.search(found["remark"]):
    return None
  before = lines[at - 1] if at else ""
  quoted = re.search("[\"']", found["quote"]) or before.startswith("```")
  if quoted and any(not each.startswith("```") for each in lines[at + 1 :]):
    return None  # in quotes or in a block of code only at the very end: else it is somebody else's
  while before.startswith("```"):
    at -= 1
    before = lines[at - 1] if at else ""
  return None if _QUOTING.search(before[-LONGEST:]) else float(found["number"])


def _plain(line: str) -> str:
  """A line in ASCII's digits, signs and quotes where it has others; "" where it has fractions."""
  if line.isascii():
    return line
  if any(unicodedata.category(each) == "No" for each in line):  # 1½ is not 11, nor 1² 12
    return ""
  line = unicodedata.normalize("NFKC", line)  # full-width letters, digits and colons
  # dashes and minus signs; quotation marks
  line = re.sub(r"[\u2010-\u2015\u2212]", "-", line)
  return re.sub(r"[\u2018-\u201f\xab\xbb]", '"', line)
