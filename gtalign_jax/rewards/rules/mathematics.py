"""The rule for mathematics: the reply's final answer equals the truth.

Found in this order: the last \\boxed{…}; what follows the last "answer is" or "answer:"; the last
bold text; the last formula; the last number. Compared as text without LaTeX dressing, then as exact
numbers, else by math-verify in a process of its own. docs/judges.md says what this cannot see.
"""

from __future__ import annotations

import re
from fractions import Fraction

from gtalign_jax.rewards.judges.base import Question
from gtalign_jax.rewards.rules import verifier

MAX_ANSWER = 400  # characters; no released answer has more than 80
_ANSWER = re.compile(
  r"(?:answer|result|solution)\b[^.\n:=]{0,40}?(?:\bis\b|\bare\b|:|=)[\s*:]*([^\n]{1,400})", re.I
)
_BOLD = re.compile(r"\*\*([^*\n]{1,400})\*\*")
_FORMULA = re.compile(r"\$\$?((?:[^$\\]|\\.){1,400})\$\$?|\\\(((?:[^\\]|\\(?!\))){1,400})\\\)")
_SAYS_SOMETHING = re.compile(r"[\d\\+*/=^-]")  # unlike the mention of a variable
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_HEDGE = re.compile(r"(?:\d|\\[a-z]|\$)[^.;\n]{0,60}?\s(?:or|possibly|maybe)\s[^.;\n]{0,60}?\d")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")

_SPACING = re.compile(r"\\[,;:! ]|\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|~|\s+")
_UNIT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}")
_DEGREE = re.compile(r"\^\{?\\circ\}?|\\degree|°|\\%|%|\\\$|\$")
_SHORT_FRACTION = re.compile(r"\\frac(?:\{(-?\d+)\}|(\d))(?:\{(-?\d+)\}|(\d))")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NAMED = re.compile(r"^[a-zA-Z](?:\([a-z]\))?(?:=|\\in)(?=.)")
_DECIMAL = re.compile(r"^(-?)(\d*)(?:\.(\d+))?$")
_RATIO = re.compile(r"^(-?)(\d+)/(\d+)$")
_POWER_OF_TEN = re.compile(r"^(-?\d*\.?\d+)(?:e|\\(?:times|cdot)10\^)\{?(-?\d{1,3})\}?$", re.I)


def judge(question: Question) -> float | None:
  """1.0 if the final answer equals the truth, 0.0 if not or if there is none.

  None where the truth is empty (some released rows), or where neither text nor numbers decide and
  math-verify came to no end in time.
  """
  if not question.truth.strip():
    return None
  found = final_answer(question.response)
  # longer than any answer: text between two dollar signs, which sympy would chew on for seconds
  if found is None or len(found) > MAX_ANSWER + len(question.truth):
    return 0.0
  verdict = equal(found, question.truth)
  return None if verdict is None else float(verdict)


def final_answer(response: str) -> str | None:
  """The answer that a reply commits to, as LaTeX or text; None if it states none."""
  boxed = _last_box(response)
  if boxed is not None:
    return boxed
  stated = None
  for match in _ANSWER.finditer(response):
    stated = match.group(1)
  if stated is not None:
    return _head(stated)
  # bold goes before formulas: replies stress the answer, and use formulas all the way
  for pattern in (_BOLD, _FORMULA):
    groups = [next(filter(None, match.groups()), "") for match in pattern.finditer(response)]
    found = [each for each in groups if _SAYS_SOMETHING.search(each)]
    if found:
      return _head(found[-1])
  numbers = _NUMBER.findall(response)
  return numbers[-1] if numbers else None


def equal(found: str, truth: str) -> bool | None:
  """Same answer? None if undecided in time."""
  if _HEDGE.search(found) and not _HEDGE.search(truth):
    return False
  left, right = normal(found), normal(truth)
  # "x = 2y = 6": the last side is what the reply ends at
  if "=" in left and "=" not in right:
    left = _side(left)
  if left == right:
    return bool(left)
  a, b = number(left), number(right)
  if a is not None and b is not None:
    # Fractions, not floats: 0.1 + 0.2 is 0.3 here, and a tie is decided as it is written
    digits = _digits(right)
    return abs(a - b) * 2 * 10**digits <= 1 if digits else a == b
  if not left or not right:
    return False
  return verifier.equal(right, left)


def normal(answer: str) -> str:
  """An answer without what changes its look only: spacing, units, `x =`, thousands commas."""
  answer = _SPACING.sub("", _DEGREE.sub("", _unit(answer)).strip())
  answer = answer.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("{,}", ",")
  answer = _SHORT_FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", answer)
  answer = _THOUSANDS.sub("", answer).replace("\u2212", "-").rstrip(".,;")
  return (
    _NAMED.sub("", answer).strip("()") if _is_wrapped_number(answer) else _NAMED.sub("", answer)
  )


def number(answer: str) -> Fraction | None:
  """The exact value of a plain number: integer, decimal, ratio, a × 10^b."""
  match = _DECIMAL.match(answer)
  if match and (match[2] or match[3]):
    return Fraction(answer)
  match = _RATIO.match(answer)
  if match and int(match[3]):
    return Fraction(answer)
  match = _POWER_OF_TEN.match(answer)
  return Fraction(match[1]) * Fraction(10) ** int(match[2]) if match else None


def _unit(answer: str) -> str:
  """Text inside an answer goes if a number is left, else it is the answer."""
  bare = _UNIT.sub("", answer)
  return bare if re.search(r"\d|\\", bare) else _UNIT.sub(r"\1", answer)


def _is_wrapped_number(answer: str) -> bool:
  return answer.startswith("(") and answer.endswith(")") and number(answer[1:-1]) is not None


def _digits(answer: str) -> int:
  """Decimal places that the truth shows; a decimal answer need agree to those only."""
  match = _DECIMAL.match(answer)
  return len(match[3]) if match and match[3] else 0


def _side(answer: str) -> str:
  return answer.rsplit("=", 1)[-1]


def _head(stated: str) -> str:
  """The answer at the start of the rest of a line."""
  if _HEDGE.search(stated):
    return stated  # two answers are none; as one text they equal no truth
  match = _FORMULA.search(stated)
  if match and match.start() <= 3:
    return match[1] or match[2]
  bold = _BOLD.search(stated)
  stated = bold[1] if bold and bold.start() <= 3 else stated
  stated = re.split(r"[.;](?:\s|$)|\s(?:because|since|as|which|so|where|and|but)\s", stated)[0]
  stated = stated.strip(" *_`:\"'")
  # "12 apples" and "5 cm": the number is the answer
  worded = re.match(r"(-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)\s+[a-zA-Z]", stated)
  return worded[1] if worded else stated


def _last_box(text: str) -> str | None:
  """Content of the last \\boxed{…} with balanced braces."""
  starts = [match.end() for match in _BOX.finditer(text)]
  if not starts:
    return None
  depth = 1
  # bounded, because a box that is never closed would be scanned to the end of a long text
  for at in range(starts[-1], min(len(text), starts[-1] + 10 * MAX_ANSWER)):
    depth += {"{": 1, "}": -1}.get(text[at], 0)
    if depth == 0:
      return text[starts[-1] : at]
  return None
