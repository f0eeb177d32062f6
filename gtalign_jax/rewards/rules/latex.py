"""LaTeX, unicode and plain text as one list of tokens, so that looks do not decide.

Nothing that carries meaning is deleted or joined: `\\frac12` becomes `\\frac{1}{2}` with its
braces, a command keeps the space that ends it, and words keep their `\\text{…}`.
"""
# ruff: noqa: RUF001 (look-alikes of ASCII signs are what this file is about)

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_DEPTH = 40  # braces in braces; readers recurse, and no released answer has more than 4

_TOKEN = re.compile(
  r"\\(?:begin|end)\s*\{[a-zA-Z]+\*?\}|\\mathbb\s*\{?[A-Z]\}?|\\[a-zA-Z]+|\\.|[a-zA-Z]+|\d|\s+|.",
  re.S,
)
# 1{,}000, 1,\!000 and 1\,000 are one number, whatever stands around it
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:(?:\{,\}|,\\!|\\,)\d{3})+(?!\d)")
_TIMES_TEN = re.compile(r"(?<=\d) ?[xX] ?(?=10 ?(?:\^|\*\*))")
_PYTHON = re.compile(r"\b(?:np|numpy|math)\.(?=[a-z])")  # minerva: np.arcsin(10/13)
_SQRT = re.compile(r"(?<!\\)sqrt(?=\()")

_SUPERSCRIPT = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n"))
_RAISED = re.compile(f"[{''.join(_SUPERSCRIPT)}]+")
_SUBSCRIPT = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789"))
_LOWERED = re.compile(f"[{''.join(_SUBSCRIPT)}]+")
_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?|[a-zA-Z])?")
_UNICODE = {
  **{chr(0xFF01 + n): chr(0x21 + n) for n in range(94)},  # full-width forms
  **dict(zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", (f"\\frac{{{n}}}{{{d}}}" for n, d in (
    (1, 2), (1, 3), (2, 3), (1, 4), (3, 4), (1, 5), (2, 5), (3, 5), (4, 5), (1, 6), (5, 6),
    (1, 8), (3, 8), (5, 8), (7, 8))))),
  **dict.fromkeys("−–—‒﹣", "-"), **dict.fromkeys("·⋅∙•", "\\cdot "),
  **dict.fromkeys("≤⩽", "\\le "), **dict.fromkeys("≥⩾", "\\ge "),
  **dict.fromkeys("∅⌀", "\\emptyset "), **dict.fromkeys("≈≃", "\\approx "),
  **dict.fromkeys("\u2009\u202f\u00a0\u2002\u2003", " "),
  **dict.fromkeys("\u200b\u2061\u2062\ufeff", ""),
  "×": "\\times ", "÷": "/", "∕": "/", "⁄": "/", "≠": "\\ne ", "∞": "\\infty ", "π": "\\pi ",
  "°": "^{\\circ}", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "±": "\\pm ", "∓": "\\mp ",
  "ℝ": "\\mathbb{R}", "∖": "\\setminus ", "‘": "'", "’": "'", "′": "'", "∶": ":",
  "⟨": "\\langle ", "⟩": "\\rangle ", "Å": "\\AA ", "€": "\\text{euros}", "£": "\\text{pounds}", 
  **dict(zip("αβγδεζηθικλμνξρστφχψω", (
    "\\alpha ", "\\beta ", "\\gamma ", "\\delta ", "\\epsilon ", "\\zeta ", "\\eta ", "\\theta ",
    "\\iota ", "\\kappa ", "\\lambda ", "\\mu ", "\\nu ", "\\xi ", "\\rho ", "\\sigma ", "\\tau ",
    "\\phi ", "\\chi ", "\\psi ", "\\omega "))),
}  # fmt: skip
_TRANSLATE = str.maketrans(_UNICODE)

ALIASES = {
  **dict.fromkeys(("\\dfrac", "\\tfrac", "\\cfrac"), "\\frac"),
  **dict.fromkeys(("\\dbinom", "\\tbinom"), "\\binom"),
  **dict.fromkeys(("\\leq", "\\leqslant", "\\leqq"), "\\le"),
  **dict.fromkeys(("\\geq", "\\geqslant", "\\geqq"), "\\ge"),
  **dict.fromkeys(("\\,", "\\;", "\\:", "\\ ", "\\>", "\\quad", "\\qquad", "~", "$"), " "),
  **dict.fromkeys(("\\(", "\\)", "\\[", "\\]"), " "),
  **dict.fromkeys(("\\lvert", "\\rvert", "\\vert"), "|"),
  **dict.fromkeys(("\\cdots", "\\dots"), "\\ldots"),
  **dict.fromkeys(("\\simeq", "\\thickapprox"), "\\approx"),
  **dict.fromkeys(("\\lor", "\\vee"), "\\text{or}"),
  **dict.fromkeys(("\\land", "\\wedge"), "\\text{and}"),
  "\\neq": "\\ne", "\\lt": "<", "\\gt": ">", "\\lbrace": "\\{", "\\rbrace": "\\}",
  "\\lbrack": "[", "\\rbrack": "]", "\\ast": "\\cdot", "*": "\\cdot", "\\div": "/",
  "\\varnothing": "\\emptyset", "\\textdollar": "\\$", "\\%": "%", "\\infin": "\\infty",
  "\\colon": ":", "\\backslash": "\\setminus", "\\reals": "\\mathbb{R}", "\\R": "\\mathbb{R}",
  "\\varphi": "\\phi", "\\varepsilon": "\\epsilon", "\\AA": "\\text{angstrom}",
}  # fmt: skip
DROPPED = {
  "\\left", "\\right", "\\big", "\\Big", "\\bigl", "\\bigr", "\\Bigl", "\\Bigr", "\\bigg",
  "\\Bigg", "\\displaystyle", "\\textstyle", "\\limits", "\\!", "\\mathbf", "\\boldsymbol",
  "\\bm", "\\mathit", "\\mathsf", "\\mathnormal", "\\rm", "\\bf", "\\boxed", "\\fbox", "\\emph",
  "\\therefore", "\\implies", "\\Rightarrow",
}  # fmt: skip
TEXT = {
  "\\text", "\\textbf", "\\textit", "\\textrm", "\\textnormal", "\\textsf", "\\mathrm", "\\mbox",
  "\\operatorname",
}  # fmt: skip
FUNCTIONS = {
  "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
  "log", "ln", "exp", "sqrt", "pi", "theta",
}  # fmt: skip
NAMED = {
  "infinity": "\\infty",
  "inf": "\\infty",
  "percent": "%",
  "degrees": "\\degree",
  "degree": "\\degree",
}
_ARGUMENTS = {
  "\\frac": 2, "\\binom": 2, "\\sqrt": 1, "^": 1, "_": 1, "\\overline": 1, "\\bar": 1, "\\vec": 1,
  "\\hat": 1,
}  # fmt: skip


class TooDeep(ValueError):
  """More braces in braces than any answer has."""


def tokens(answer: str) -> list[str]:
  """The tokens of an answer: digits and letters one by one, commands, words as `\\text{word}`.

  Arguments of commands are always in braces; other braces are gone. " " marks a space. Raises
  TooDeep beyond MAX_DEPTH.
  """
  return _sequence(_flat(_plain(answer)), 0)[0]


def text(found: Sequence[str]) -> str:
  """Tokens as LaTeX again: one spelling for all looks, with the spaces that keep things apart."""
  out: list[str] = []
  last = ""
  for at, token in enumerate(found):
    if token == " ":
      # only between digits does a space say something: 1 1/4 is not 11/4
      if not (last[-1:].isdigit() and found[at + 1 : at + 2] and found[at + 1].isdigit()):
        continue
    elif last[:1] == "\\" and last[-1].isalpha() and token[0].isalpha():
      out.append(" ")
    out.append(token)
    last = token
  return "".join(out)


def word(token: str) -> str:
  """The word in a `\\text{word}` token, else ""."""
  return token[6:-1] if token.startswith("\\text{") else ""


def _plain(answer: str) -> str:
  """Unicode as LaTeX, and what only plain text writes."""
  answer = _RAISED.sub(lambda m: "^{" + "".join(map(_SUPERSCRIPT.get, m[0])) + "}", answer)  # type: ignore[arg-type]
  answer = _LOWERED.sub(lambda m: "_{" + "".join(map(_SUBSCRIPT.get, m[0])) + "}", answer)  # type: ignore[arg-type]
  answer = _ROOT.sub(lambda m: "\\sqrt{" + m[1] + "}" if m[1] else "\\sqrt ", answer)
  answer = answer.translate(_TRANSLATE).replace("<=", "\\le ").replace(">=", "\\ge ")
  answer = answer.replace(" != ", "\\ne ").replace("**", "^")
  answer = _TIMES_TEN.sub("\\\\times ", _SQRT.sub("\\\\sqrt", _PYTHON.sub("", answer)))
  return _GROUPED.sub(lambda m: re.sub(r"\D", "", m[0]), answer)


def _flat(answer: str) -> list[str]:
  """Tokens with balanced braces, before arguments are found."""
  out: list[str] = []
  modes: list[bool] = []  # of each open brace: does it hold text?
  opens_text = after_size = False
  for token in _TOKEN.findall(answer):
    token = " " if token.isspace() else ALIASES.get(token, token)
    if after_size and token == ".":  # \left. shows nothing
      after_size = False
      continue
    after_size = token in ("\\left", "\\right")
    if token in DROPPED:
      continue
    if token in TEXT:
      opens_text = True
    elif token == "{":
      in_text = opens_text or bool(modes and modes[-1])
      modes.append(in_text)
      if len(modes) > MAX_DEPTH:
        raise TooDeep(answer)
      out.append(" " if in_text else "{")
      opens_text = False
    elif token == "}":
      if modes:
        out.append(" " if modes.pop() else "}")
    elif token[0].isalpha() and token.isascii():
      out += _letters(token, bool(modes and modes[-1]))
    else:
      out.append(token)
  return out + ["}" for in_text in modes if not in_text]


def _letters(run: str, in_text: bool) -> list[str]:
  """A run of letters: a function, a word, or variables side by side."""
  if run in FUNCTIONS:
    return ["\\" + run]
  if run.lower() in NAMED:
    return [NAMED[run.lower()]]
  # a product of four variables without any sign between them is rarer than a word
  if (in_text and run not in ("e", "i", "d")) or run in ("and", "or") or len(run) >= 4:
    return [f"\\text{{{run}}}"]
  return list(run)


def _sequence(flat: list[str], at: int) -> tuple[list[str], int]:
  """Canonical tokens up to the brace that closes this group, and where it closes."""
  out: list[str] = []
  while at < len(flat) and flat[at] != "}":
    item, at = _item(flat, at)
    out += item
  return _choose(out), at


def _item(flat: list[str], at: int) -> tuple[list[str], int]:
  """One token with its arguments; a group that is no argument loses its braces."""
  token = flat[at]
  if token == "{":
    inner, at = _sequence(flat, at + 1)
    return inner, at + 1
  out, at = [token], at + 1
  if token[1:] in FUNCTIONS - {"sqrt", "pi", "theta"} and flat[at : at + 1] == ["{"]:
    inner, at = _sequence(flat, at + 1)  # \exp{a t}: the braces say what belongs to it
    return [token, *(["(", *inner, ")"] if len(inner) > 1 else inner)], at + 1
  if token == "\\sqrt" and flat[at : at + 1] == ["["] and "]" in flat[at:]:
    end = flat.index("]", at)
    out, at = [*out, *flat[at : end + 1]], end + 1
  for _ in range(_ARGUMENTS.get(token, 0)):
    inner, at = _argument(flat, at, token)
    if inner == ["\\circ"] and token == "^":
      return ["\\degree"], at
    out += ["{", *inner, "}"]
  return out, at


def _argument(flat: list[str], at: int, command: str) -> tuple[list[str], int]:
  while at < len(flat) and flat[at] == " ":
    at += 1
  if at >= len(flat) or flat[at] == "}":
    return [], at
  token = flat[at]
  if token == "(" and command in ("^", "\\sqrt"):  # plain text: 2^(1/2), sqrt(3)
    end = _closing(flat, at)
    if end:
      inner, _ = _sequence(flat[at + 1 : end], 0)
      return inner, end + 1
  if command in ("^", "_"):  # 10^-12 as plain text has it
    end = at + (token in "+-")
    while end < len(flat) and flat[end].isdigit():
      end += 1
    if end > at + (token in "+-"):
      return flat[at:end], end
    if token in "+-" and end < len(flat):
      inner, end = _item(flat, end)
      return [token, *inner], end
  return _item(flat, at)


def _closing(flat: list[str], at: int) -> int:
  """Where the parenthesis that opens at `at` closes; 0 if it does not."""
  depth = 0
  for end in range(at, len(flat)):
    depth += {"(": 1, ")": -1}.get(flat[end], 0)
    if depth == 0:
      return end
  return 0


def _choose(group: list[str]) -> list[str]:
  """`n \\choose k` as `\\binom{n}{k}`."""
  if "\\choose" not in group:
    return group
  at = group.index("\\choose")
  return ["\\binom", "{", *group[:at], "}", "{", *group[at + 1 :], "}"]
