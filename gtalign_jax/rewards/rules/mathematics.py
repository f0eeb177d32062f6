"""The rule for mathematics: the reply's final answer equals the truth.

answers.py finds the answer, latex.py spells it in one way, shapes.py reads its structure, and
math-verify compares single values (verifier.py). docs/judges.md says what this cannot see.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from gtalign_jax.rewards.judges.base import Question
from gtalign_jax.rewards.rules import notations, numerals, shapes, units, verifier
from gtalign_jax.rewards.rules.answers import final_answer
from gtalign_jax.rewards.rules.latex import normal
from gtalign_jax.rewards.rules.numerals import number
from gtalign_jax.rewards.rules.shapes import Shape
from gtalign_jax.rewards.rules.size import too_big

MAX_ANSWER = 400  # characters beyond those of the truth; no released answer has more than 80
MAX_PARTS = 40  # of a list

_BOUND = re.compile(r"\\(?:sum|prod|int|lim)")  # these have variables of their own
_MIXED = re.compile(r"(?<![\d.])(\d+)(\\frac\{\d+\}\{\d+\})")
# kinds whose parts stand side by side: points, lists, rows, columns
_FLAT = re.compile(r"\(\)|list|1x\d+|\d+x1")
# no e and no i, which are numbers
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
  try:
    shape = shapes.read(normal(truth))
    several = len(shape.parts) if shape.kind in ("list", "set") else 1
    found = final_answer(question.response, several)
    # longer than any answer: text between two dollar signs
    if found is None or len(found) > MAX_ANSWER + len(truth):
      return 0.0
    return float(equal(found.strip(), truth))
  except RecursionError:  # brackets in brackets
    return 0.0
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
  pairs = (map(normal, each) for each in readings)
  return any(same(shapes.read(gold), shapes.read(pred), budget) for gold, pred in pairs)


def same(truth: Shape, found: Shape, budget: verifier.Budget) -> bool:
  """Do two shapes mean the same? The budget bounds what math-verify may spend on one verdict."""
  if truth.whole == found.whole:
    return bool(truth.whole)
  # x = 5 is not y = 5; longer names are spelled in too many ways
  if len(truth.name) == len(found.name) == 1 and truth.name != found.name:
    return False
  kinds = {truth.kind, found.kind}
  # first: y = 10x - 4 is read as a value with a name, and 10x - y = 4 as a relation
  if "relation" in kinds:
    return _relations(truth, found, budget)
  if kinds == {"value"}:
    return _values(truth.text, found.text, budget)
  if truth.kind == "value" and found.choice:  # 3/4 or 0.75; two different values are none
    return all(same(truth, each, budget) for each in found.parts)
  if "value" in kinds:
    alike = _fitted(truth, found), _fitted(found, truth)
    return alike != (truth, found) and same(*alike, budget)
  if len(truth.parts) != len(found.parts) or len(truth.parts) > MAX_PARTS:
    return False
  if kinds <= {"list", "set"} or kinds == {"union"}:
    return _unordered(truth.parts, found.parts, budget)
  # a point is a list in this order, and a vector; but a row is no column
  fits = len(kinds) == 1 or (kinds & {"()", "list"} and all(map(_FLAT.fullmatch, kinds)))
  return bool(fits) and all(same(a, b, budget) for a, b in zip(truth.parts, found.parts))


def _relations(truth: Shape, found: Shape, budget: verifier.Budget) -> bool:
  """Equations against each other; "2 + 3 = 5" against 5 is its last side."""
  equations = all(each.kind == "relation" or each.name for each in (truth, found))
  if equations and _ask(truth.whole, found.whole, budget):
    return True
  if truth.kind == "relation" or (truth.name and _VARIABLE.search(found.whole)):
    return False  # x^2 = 1 is not x = 1
  return same(truth, found.parts[0], budget)


def _fitted(shape: Shape, other: Shape) -> Shape:
  """A set of one as its value; 1,200, which is a number, as a list where the other side has one."""
  if shape.kind == "set" and len(shape.parts) == 1:
    return shape.parts[0]
  if shape.kind == "value" and other.kind == "list" and "," in shape.text:
    return shapes.as_list(shape)
  return shape


def _unordered(truth: Sequence[Shape], found: Sequence[Shape], budget: verifier.Budget) -> bool:
  """Each value of the truth once, in any order."""
  left = list(found)
  for gold in truth:
    pred = next((each for each in left if same(gold, each, budget)), None)
    if pred is None:
      return False
    left.remove(pred)
  return True


def _values(gold: str, pred: str, budget: verifier.Budget) -> bool:
  """Two single values: the first notation that knows both decides, else their amounts."""
  if gold == pred:
    return bool(gold)
  for rule in (notations.clocks, notations.bases, notations.ratios, notations.words):
    verdict = rule(gold, pred)
    if verdict is not None:
      return verdict
  if label := notations.OPTION.fullmatch(pred):  # (B) 12 for 12
    return _values(gold, shapes.read(label[2]).text, budget)
  (gold, unit), (pred, other) = units.split(gold), units.split(pred)
  if not gold or not pred:
    return False
  kind, kind_found = unit.dimensions, other.dimensions
  if kind is not None and kind_found is not None:
    return kind == kind_found and _amounts(gold, pred, budget, other.size / unit.size)
  return _amounts(gold, pred, budget) or (
    # 50% is 50 or 0.5, 90 degrees are 90 or \pi/2
    (kind == units.SHARE and _amounts(gold, pred, budget, Fraction(100)))
    or (kind_found == units.SHARE and _amounts(gold, pred, budget, Fraction(1, 100)))
    or (kind == units.ANGLE and "\\pi" in pred and _amounts(_radians(gold), pred, budget))
    or (kind_found == units.ANGLE and "\\pi" in gold and _amounts(gold, _radians(pred), budget))
  )


def _radians(degrees: str) -> str:
  return f"({degrees})\\cdot\\frac{{\\pi}}{{180}}"


def _amounts(gold: str, pred: str, budget: verifier.Budget, factor: Fraction = Fraction(1)) -> bool:
  """Two values without units: `pred` times `factor` is `gold`."""
  truth, found = number(gold), number(pred)
  if found:
    found = found._replace(value=found.value * factor, half=found.half * factor)
  if truth and found:
    return numerals.equal(truth, found)
  if (truth or found) and _VARIABLE.search(gold + " " + pred) and not _BOUND.search(pred):
    return False  # 5x is not 5
  tolerance = Fraction(0)
  if truth:
    gold, tolerance = numerals.exact(truth.value), truth.half
  if found:
    pred = numerals.exact(found.value)
    tolerance = found.half if numerals.rounded(found) else tolerance
  elif factor != 1:
    pred = f"({pred})\\cdot{numerals.exact(factor)}"
  return _ask(gold, pred, budget, tolerance)


def _ask(gold: str, pred: str, budget: verifier.Budget, tolerance: Fraction = Fraction(0)) -> bool:
  """math-verify's verdict; no for words, and for what would grow beyond all bounds."""
  for each in (gold, pred):
    # half a pair of brackets is no value, whatever the reader makes of it
    balanced = all(each.count(a) == each.count(b) for a, b in ("()", "[]"))
    if "\\text" in each or not balanced or too_big(each):
      return False
  # 1\frac{2}{3}\pi: a mixed number is a sum
  gold, pred = (_MIXED.sub(r"(\1+\2)", each) for each in (gold, pred))
  verdict = verifier.equal(gold, pred, str(float(tolerance)) if tolerance else "", budget)
  if verdict is None:
    raise NoVerdict
  return verdict
