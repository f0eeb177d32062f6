"""The rule for mathematics: the reply's final answer equals the truth.

answers.py finds the answer, latex.py spells it in one way, shapes.py reads its structure, and
math-verify compares single values (verifier.py). docs/judges.md says what this cannot see.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from fractions import Fraction

from gtalign_jax.rewards.judges.base import Question
from gtalign_jax.rewards.rules import latex, notations, numerals, shapes, units, verifier
from gtalign_jax.rewards.rules.answers import final_answer
from gtalign_jax.rewards.rules.numerals import Number, number
from gtalign_jax.rewards.rules.shapes import Shape
from gtalign_jax.rewards.rules.size import too_big

MAX_ANSWER = 400  # characters beyond those of the truth; no released answer has more than 80
MAX_PARTS = 40  # of a list

_BOUND = re.compile(r"\\(?:sum|prod|int|lim)")  # these have variables of their own
_MIXED = re.compile(r"(?<![\d.])(\d+)(\\frac\{\d+\}\{\d+\})")
_VARIABLE = re.compile(r"(?<![\\a-zA-Z])[a-df-hj-zA-Z]")


class NoVerdict(Exception):
  """The process that compares is broken."""


def judge(question: Question) -> float | None:
  """1.0 if the final answer equals the truth, 0.0 if not or if there is none.

  None where the truth is empty (some released rows), or where the process that compares is broken.
  """
  truth = question.truth.strip()
  if not truth:
    return None
  # longer than any answer: text between two dollar signs
  found = final_answer(question.response, _count(truth))
  if found is None or len(found) > MAX_ANSWER + len(truth):
    return 0.0
  try:
    return float(equal(found.strip(), truth))
  except NoVerdict:
    return None


def equal(found: str, truth: str) -> bool:
  """Same answer? Raises NoVerdict."""
  if found == truth:
    return True
  plain, other = number(found), number(truth)
  if plain and other:  # most answers; all else costs ten times as much
    return numerals.equal(other, plain)
  budget = verifier.Budget()
  # "9.25 m" is read with a unit first, and then, where that differs, as m times 9.25
  readings = dict.fromkeys([(units.mark(truth), units.mark(found)), (truth, found)])
  try:
    return any(
      same(_read(gold), shapes.read(latex.tokens(pred)), budget) for gold, pred in readings
    )
  except (latex.TooDeep, RecursionError):
    return False


def normal(answer: str) -> str:
  """An answer in the one spelling that is compared."""
  return latex.text(latex.tokens(answer))


@functools.lru_cache(maxsize=1024)
def _read(truth: str) -> Shape:
  return shapes.read(latex.tokens(truth))


def _count(truth: str) -> int:
  """How many values a truth has."""
  try:
    shape = _read(truth)
  except (latex.TooDeep, RecursionError):
    return 1
  return len(shape.parts) if shape.kind in ("list", "set") else 1


def same(truth: Shape, found: Shape, budget: verifier.Budget) -> bool:
  """Do two shapes mean the same? The budget bounds what math-verify may spend on one verdict."""
  if latex.text(truth.whole) == latex.text(found.whole):
    return bool(truth.whole)
  # x = 5 is not y = 5; longer names are spelled in too many ways
  if len(truth.name) == len(found.name) == 1 and truth.name != found.name:
    return False
  kinds = {truth.kind, found.kind}
  if "relation" in kinds:
    return _relations(truth, found, budget)
  if kinds == {"value"}:
    return _values(truth, found, budget)
  if truth.kind == "value" and found.choice:  # 3/4 or 0.75; two different values are none
    return all(same(truth, each, budget) for each in found.parts)
  alike = _fitted(truth, found), _fitted(found, truth)
  if alike != (truth, found):
    return same(*alike, budget)
  return _structures(truth, found, budget)


def _relations(truth: Shape, found: Shape, budget: verifier.Budget) -> bool:
  """Equations against each other; "2 + 3 = 5" against 5 is its last side."""
  if all(each.kind == "relation" or each.name for each in (truth, found)) and _ask(
    latex.text(truth.whole), latex.text(found.whole), "", budget
  ):
    return True
  if truth.kind == "relation" or (truth.name and _VARIABLE.search(latex.text(found.whole))):
    return False  # x^2 = 1 is not x = 1
  return same(truth, found.parts[0], budget)


def _fitted(shape: Shape, other: Shape) -> Shape:
  """A set of one as its value; 1,200, which is a number, as a list where the other side has one."""
  if shape.kind == "set" and len(shape.parts) == 1 and other.kind == "value":
    return shape.parts[0]
  if shape.kind == "value" and other.kind == "list" and "," in shape.tokens:
    return shapes.as_list(shape)
  return shape


def _structures(truth: Shape, found: Shape, budget: verifier.Budget) -> bool:
  """Parts with parts: in any order (lists, sets, unions), or each in its place."""
  kinds = {truth.kind, found.kind}
  if len(truth.parts) != len(found.parts) or len(truth.parts) > MAX_PARTS:
    return False
  if kinds <= {"list", "set"} or kinds == {"union"}:
    left = list(found.parts)
    for gold in truth.parts:
      pred = next((each for each in left if same(gold, each, budget)), None)
      if pred is None:
        return False
      left.remove(pred)
    return True
  parts: Sequence[Shape] = found.parts
  if kinds in ({"interval"}, {"matrix"}):
    fits = truth.ends == found.ends
  else:
    tuples = [_is_tuple(each) for each in (truth, found)]
    fits, parts = all(tuples) or (any(tuples) and "list" in kinds), _by_name(parts)
  return fits and all(same(a, b, budget) for a, b in zip(truth.parts, parts))


def _is_tuple(shape: Shape) -> bool:
  vector = shape.kind == "matrix" and "1" in shape.ends.split("x")
  return shape.kind == "tuple" or vector or (shape.kind == "interval" and shape.ends == "()")


def _by_name(parts: Sequence[Shape]) -> Sequence[Shape]:
  """y = 3, x = 5 in the order of the alphabet; parts without names as they are."""
  names = {part.name for part in parts if len(part.name) == 1}
  return sorted(parts, key=lambda part: part.name) if len(names) == len(parts) else parts


def _values(truth: Shape, found: Shape, budget: verifier.Budget) -> bool:
  """Two single values: the first notation that knows both decides, else their amounts."""
  gold, pred = latex.text(truth.tokens), latex.text(found.tokens)
  if gold == pred:
    return bool(gold)
  for rule in (notations.clocks, notations.bases, notations.ratios, notations.words):
    verdict = rule(gold, pred)
    if verdict is not None:
      return verdict
  if label := notations.OPTION.fullmatch(pred):  # (B) 12 for 12
    return _values(truth, shapes.read(latex.tokens(label[2])), budget)
  return _measured(gold, pred, budget)


def _measured(gold: str, pred: str, budget: verifier.Budget) -> bool:
  """Values with their units, percent and degrees as they may be meant."""
  (gold, unit), (pred, other) = units.split(gold), units.split(pred)
  if not gold or not pred:
    return False
  kind, kind_found = (each and each.dimensions for each in (unit, other))
  if unit and other and kind is not None and kind_found is not None:
    return kind == kind_found and _amounts(gold, pred, budget, other.size / unit.size)
  if _amounts(gold, pred, budget):
    return True
  if kind == units.SHARE:  # 50% is 50, or 0.5
    return _amounts(gold, pred, budget, Fraction(100))
  if kind_found == units.SHARE:
    return _amounts(gold, pred, budget, Fraction(1, 100))
  if kind == units.ANGLE and "\\pi" in pred:
    return _amounts(f"({gold})\\cdot\\frac{{\\pi}}{{180}}", pred, budget)
  if kind_found == units.ANGLE and "\\pi" in gold:
    return _amounts(gold, f"({pred})\\cdot\\frac{{\\pi}}{{180}}", budget)
  return False


def _amounts(gold: str, pred: str, budget: verifier.Budget, factor: Fraction = Fraction(1)) -> bool:
  """Two values without units: `pred` times `factor` is `gold`."""
  truth, found = number(gold), number(pred)
  if found:
    found = found._replace(value=found.value * factor, half=found.half * factor)
  if truth and found:
    return numerals.equal(truth, found)
  if bool(truth or found) and _VARIABLE.search(gold + " " + pred) and not _BOUND.search(pred):
    return False  # 5x is not 5
  tolerance = Fraction(0)
  if truth:
    gold, tolerance = _exact(truth), truth.half
  if found:
    pred, tolerance = _exact(found), found.half if numerals.rounded(found) else tolerance
  elif factor != 1:
    pred = f"({pred})\\cdot{_exact(Number(factor))}"
  return _ask(gold, pred, str(float(tolerance)) if tolerance else "", budget)


def _exact(found: Number) -> str:
  """A number as LaTeX that no reader misreads (1.5e3 is no 1.5 times e times 3)."""
  above, below = found.value.numerator, found.value.denominator
  return f"\\frac{{{above}}}{{{below}}}" if below != 1 else str(above)


def _ask(gold: str, pred: str, tolerance: str, budget: verifier.Budget) -> bool:
  """math-verify's verdict; no for words, and for what would grow beyond all bounds."""
  for each in (gold, pred):
    balanced = all(each.count(a) == each.count(b) for a, b in ("()", "[]"))
    if "\\text" in each or not balanced or too_big(latex.tokens(each)):
      return False
  # 1\frac{2}{3}\pi: a mixed number is a sum
  gold, pred = (_MIXED.sub(r"(\1+\2)", each) for each in (gold, pred))
  verdict = verifier.equal(gold, pred, tolerance, budget)
  if verdict is None:
    raise NoVerdict
  return verdict
