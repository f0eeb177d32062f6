"""LaTeX, unicode and plain text as one list of tokens, so that looks do not decide.

Nothing that carries meaning is deleted or joined: `\\frac12` becomes `\\frac{1}{2}` with its
braces, a command keeps the space that ends it, and words keep their `\\text{…}`.
"""
# ruff: noqa: RUF001 (look-alikes of ASCII signs are what this file is about)

from __future__ import annotations

import functools
import re
from unicodedata import name, normalize

MAX_DEPTH = 40  # braces in braces; readers recurse, and no released answer has more than 4

_TOKEN = re.compile(
  r"\\(?:begin|end)\s*\{[a-zA-Z]+\*?\}|\\mathbb\s*\{?[A-Z]\}?|\\[a-zA-Z]+|\\.|[a-zA-Z]+|\d|\s+"
  r"|[<>]=|(?<= )!=(?= )|\*\*|.",
  re.S,
)
# NFKC makes plain letters, digits and spaces of full-width and other forms; these would lose their
# meaning by it: the exponent in x², the fraction in 1½
_KEPT = (
  (re.compile("[⁰¹²³⁴-⁹⁺⁻ⁿ]+"), r"^{\g<0>}"),
  (re.compile("[₀-₉]+"), r"_{\g<0>}"),
  (re.compile("[¼-¾⅐-⅞]"), r"{\g<0>}"),
  (re.compile("ℝ"), r"\\mathbb{R}"),
)
_REWRITTEN = (
  (re.compile(r"\{(\d+)⁄(\d+)\}"), r"\\frac{\1}{\2}"),
  (re.compile(r"√\s*(\d+(?:\.\d+)?|[a-zA-Z])"), r"\\sqrt{\1}"),
  (re.compile(r"√|(?<!\\)sqrt(?=\()"), r"\\sqrt "),
  (re.compile(r"\b(?:np|numpy|math)\.(?=[a-z])"), ""),  # minerva: np.arcsin(10/13)
  (re.compile(r"(?<=\d) ?[xX] ?(?=10 ?(?:\^|\*\*))"), r"\\times "),
)
# 1{,}000, 1,\!000 and 1\,000 are one number, whatever stands around it
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:(?:\{,\}|,\\!|\\,)\d{3})+(?!\d)")

_SPELLINGS = {
  r"\frac": r"\dfrac \tfrac \cfrac", r"\binom": r"\dbinom \tbinom", r"\infty": r"\infin ∞",
  r"\le": r"\leq \leqslant \leqq <= ≤ ⩽", r"\ge": r"\geq \geqslant \geqq >= ≥ ⩾", "<": r"\lt",
  ">": r"\gt", r"\ne": r"\neq != ≠", r"\approx": r"\simeq \thickapprox ≈ ≃", "^": "**",
  "|": r"\lvert \rvert \vert", r"\ldots": r"\cdots \dots", r"\{": r"\lbrace", r"\}": r"\rbrace",
  "[": r"\lbrack", "]": r"\rbrack", "-": "− – — ‒", "/": r"\div ÷ ∕ ⁄", r"\times": "×",
  r"\cdot": r"\ast * · ⋅ ∙ •", r"\emptyset": r"\varnothing ∅ ⌀", "%": r"\%", r"\$": r"\textdollar",
  r"\setminus": r"\backslash ∖", r"\mathbb{R}": r"\reals \R", r"\phi": r"\varphi", r"\pm": "±",
  r"\epsilon": r"\varepsilon", r"\mp": "∓", r"\degree": "°", r"\cup": "∪", r"\cap": "∩",
  r"\langle": "⟨", r"\rangle": "⟩", "'": "‘ ’ ′", r"\in": "∈", ":": r"\colon ∶",
  r"\text": r"\textbf \textit \textrm \textnormal \textsf \mathrm \mbox \operatorname",
  r"\text{or}": r"\lor \vee", r"\text{and}": r"\land \wedge", r"\text{angstrom}": r"\AA Å",
  r"\text{euros}": "€", r"\text{pounds}": "£",
  " ": r"\, \; \: \> \quad \qquad ~ $ \( \) \[ \]",
  "": r"\left \right \big \Big \bigl \bigr \Bigl \Bigr \bigg \Bigg \displaystyle \textstyle \limits"
      r" \mathbf \boldsymbol \bm \mathit \mathsf \mathnormal \rm \bf \boxed \fbox \emph \therefore"
      r" \implies \Rightarrow \!" " \u200b \u2061 \u2062 \ufeff",
}  # fmt: skip
_ALIASES = {each: token for token, spelled in _SPELLINGS.items() for each in spelled.split()} | {
  # GREEK SMALL LETTER ALPHA is \alpha; unicode has no b in its lambda
  c: "\\" + name(c).split()[-1].lower().replace("md", "mbd")
  for c in map(chr, range(0x3B1, 0x3CA))
}
# what may stand before an argument in braces; in plain text a function without its backslash
_CALLS = (
  "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
  "log", "ln", "exp",
)  # fmt: skip
_COMMANDS = {each: "\\" + each for each in (*_CALLS, "sqrt", "pi", "theta")}
_NAMED = {"infinity": "\\infty", "inf": "\\infty", "percent": "%"} | dict.fromkeys(
  ("degree", "degrees"), "\\degree"
)
_ARGUMENTS = {"\\frac": 2, "\\binom": 2} | dict.fromkeys(
  ("\\sqrt", "^", "_", "\\overline", "\\bar", "\\vec", "\\hat"), 1
)


class TooDeep(RecursionError):
  """More braces in braces than any answer has."""


def tokens(answer: str) -> list[str]:
  """The tokens of an answer: digits and letters one by one, commands, words as `\\text{word}`.

  Arguments of commands are always in braces; other braces are gone. " " marks a space. Raises
  TooDeep beyond MAX_DEPTH.
  """
  for pattern, kept in _KEPT:
    answer = pattern.sub(kept, answer)
  answer = normalize("NFKC", answer)
  for pattern, written in _REWRITTEN:
    answer = pattern.sub(written, answer)
  answer = _GROUPED.sub(lambda match: re.sub(r"\D", "", match[0]), answer)
  # reversed, so that the readers below take from the end, which costs the same at any length
  return _group(_flat(answer)[::-1])


@functools.lru_cache(maxsize=2048)  # truths come again
def normal(answer: str) -> str:
  """Tokens as LaTeX again: one spelling for all looks, with the spaces that keep things apart."""
  out, last, found = [], "", tokens(answer)
  for token, after in zip(found, [*found[1:], ""]):
    if token == " ":
      # only between digits does a space say something: 1 1/4 is not 11/4
      if not (last.isdigit() and after.isdigit()):
        continue
    elif last[:1] == "\\" and last[-1].isalpha() and token[0].isalpha():
      out.append(" ")
    out.append(token)
    last = token
  return "".join(out)


def _flat(answer: str) -> list[str]:
  """Tokens with balanced braces, before arguments are found."""
  out: list[str] = []
  # of each open brace: does it hold text? One that closes nothing is left out: answers are cut off
  modes: list[bool] = []
  opens_text = after_size = False
  for raw in _TOKEN.findall(answer):
    token = " " if raw.lstrip("\\").isspace() else _ALIASES.get(raw, raw)
    if after_size and token == ".":  # \left. shows nothing
      token = ""
    after_size = raw in ("\\left", "\\right")
    if token == "\\text":
      opens_text = True
    elif token == "{":
      modes.append(opens_text or modes[-1:] == [True])
      if len(modes) > MAX_DEPTH:
        raise TooDeep(answer)
      out.append(" " if modes[-1] else "{")
      opens_text = False
    elif token == "}":
      out += [" " if modes.pop() else "}"] if modes else []
    elif token[:1].isalpha() and token.isascii():
      out += _letters(token, modes[-1:] == [True])
    elif token:
      out.append(token)
  return out + ["}" for in_text in modes if not in_text]


def _letters(run: str, in_text: bool) -> list[str]:
  """A run of letters: a function, a word, or variables side by side."""
  named = _COMMANDS.get(run) or _NAMED.get(run.lower())
  if named:
    return [named]
  # a product of four variables without any sign between them is rarer than a word
  if (in_text and run not in ("e", "i", "d")) or run in ("and", "or") or len(run) >= 4:
    return [f"\\text{{{run}}}"]
  return list(run)


# The readers below take tokens from the end of a reversed list: what they leave is not read yet.


def _group(rest: list[str]) -> list[str]:
  """Canonical tokens up to the brace that closes this group; `n \\choose k` is `\\binom{n}{k}`."""
  out: list[str] = []
  while rest and rest[-1] != "}":
    out += _item(rest)
  if rest:
    rest.pop()
  if "\\choose" in out:
    at = out.index("\\choose")
    return ["\\binom", "{", *out[:at], "}", "{", *out[at + 1 :], "}"]
  return out


def _item(rest: list[str]) -> list[str]:
  """One token with its arguments; a group that is no argument loses its braces."""
  token = rest.pop()
  if token == "{":
    return _group(rest)
  if token[1:] in _CALLS and rest[-1:] == ["{"]:  # \exp{a t}: the braces say what belongs to it
    inner = _item(rest)
    return [token, *(["(", *inner, ")"] if len(inner) > 1 else inner)]
  out = [token]
  if token == "\\sqrt" and rest[-1:] == ["["] and "]" in rest:
    while out[-1] != "]":
      out.append(rest.pop())
  for _ in range(_ARGUMENTS.get(token, 0)):
    inner = _argument(rest, token)
    if token == "^" and inner == ["\\circ"]:
      return ["\\degree"]
    out += ["{", *inner, "}"]
  return out


def _argument(rest: list[str], command: str) -> list[str]:
  while rest[-1:] == [" "]:
    rest.pop()
  if not rest or rest[-1] == "}":
    return []
  if rest[-1] == "(" and command in ("^", "\\sqrt"):  # plain text: 2^(1/2), sqrt(3)
    end = _closing(rest)
    if end is not None:
      inner = rest[end + 1 : -1]
      del rest[end:]
      return _group(inner)
  if command not in ("^", "_"):
    return _item(rest)
  out = [rest.pop()] if rest[-1] in ("+", "-") else []
  if rest and not rest[-1].isdigit() and rest[-1] != "}":
    return out + _item(rest)
  while rest and rest[-1].isdigit():  # 10^-12 as plain text has it
    out.append(rest.pop())
  return out


def _closing(rest: list[str]) -> int | None:
  """Where the parenthesis at the end of a reversed list closes."""
  depth = 0
  for at in range(len(rest) - 1, -1, -1):
    depth += {"(": 1, ")": -1}.get(rest[at], 0)
    if depth == 0:
      return at
  return None
