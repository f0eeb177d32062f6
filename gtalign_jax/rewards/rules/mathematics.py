"""The rule for mathematics: the reply's final answer equals the truth.

answers.py finds the answer, latex.py spells it in one way, shapes.py reads its structure, and
math-verify compares single values (verifier.py). docs/judges.md says what this cannot see.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
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

Verdict = bool | None


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
  verdict = equal(found, truth)
  return None if verdict is None else float(verdict)


def equal(found: str, truth: str) -> Verdict:
  """Same answer? None where the process that compares is broken."""
  found, truth = found.strip(), truth.strip()
  if found == truth:
    return bool(found)
  plain, other = number(found), number(truth)
  if plain and other:  # most answers; all else costs ten times as much
    return numerals.equal(other, plain)
  budget = verifier.Budget()
  # "9.25 m" is read with a unit first, and then, where that differs, as m times 9.25
  readings = dict.fromkeys([(units.mark(truth), units.mark(found)), (truth, found)])
  verdict: Verdict = False
  for gold, pred in readings:
    try:
      shape = shapes.read(latex.tokens(pred))
      verdict = Comparison(budget).same(_read(gold), shape)
    except (latex.TooDeep, RecursionError):
      return False
    if verdict is not False:
      break
  return verdict


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


class Comparison:
  """Compares shapes; the budget bounds what math-verify may spend on one verdict."""

  def __init__(self, budget: verifier.Budget):
    self._budget = budget

  def same(self, truth: Shape, found: Shape) -> Verdict:
    """Do two shapes mean the same?"""
    if latex.text(truth.whole) == latex.text(found.whole):
      return bool(truth.whole)
    if _other_name(truth.name, found.name):
      return False
    if "relation" in (truth.kind, found.kind):
      return self._relations(truth, found)
    if truth.kind == found.kind == "value":
      return self._leaf(truth, found)
    if truth.kind == "value":
      return self._against_value(truth, found)
    return self._many(truth, found)

  def _relations(self, truth: Shape, found: Shape) -> Verdict:
    """Equations against each other; "2 + 3 = 5" against 5 is its last side."""
    if all(each.kind == "relation" or each.name for each in (truth, found)):
      whole = self._ask(latex.text(truth.whole), latex.text(found.whole))
      if whole is not False:
        return whole
    if truth.kind == "relation" or (truth.name and _VARIABLE.search(latex.text(found.whole))):
      return False  # x^2 = 1 is not x = 1
    return self.same(truth, found.parts[0])

  def _against_value(self, truth: Shape, found: Shape) -> Verdict:
    """One value is a set of one, and "3/4 or 0.75"; two different ones are none."""
    if found.kind == "set" and len(found.parts) == 1:
      return self.same(truth, found.parts[0])
    if found.kind == "list" and found.choice:
      return _all(self.same(truth, each) for each in found.parts)
    # 1,200 is a number, or a list where the other side has one
    if found.kind == "list" and "," in truth.tokens:
      return self._many(_as_list(truth), found)
    return False

  def _many(self, truth: Shape, found: Shape) -> Verdict:
    if found.kind == "value":
      if truth.kind == "set" and len(truth.parts) == 1:
        return self.same(truth.parts[0], found)
      if truth.kind != "list" or "," not in found.tokens:
        return False
      found = _as_list(found)
    kinds = {truth.kind, found.kind}
    if len(truth.parts) != len(found.parts) or len(truth.parts) > MAX_PARTS:
      return False
    if kinds <= {"list", "set"} or kinds == {"union"}:
      return self._unordered(truth.parts, found.parts)
    if kinds == {"interval"} or kinds == {"matrix"}:
      return truth.ends == found.ends and self._ordered(truth.parts, found.parts)
    is_tuple = [_is_tuple(each) for each in (truth, found)]
    if all(is_tuple) or (any(is_tuple) and "list" in kinds):
      return self._ordered(truth.parts, _by_name(found.parts))
    return False

  def _ordered(self, truth: Sequence[Shape], found: Sequence[Shape]) -> Verdict:
    return _all(self.same(a, b) for a, b in zip(truth, found))

  def _unordered(self, truth: Sequence[Shape], found: Sequence[Shape]) -> Verdict:
    """Each value of the truth once, in any order."""
    left = list(found)
    for gold in truth:
      for pred in left:
        verdict = self.same(gold, pred)
        if verdict is None:
          return None
        if verdict:
          left.remove(pred)
          break
      else:
        return False
    return True

  def _leaf(self, truth: Shape, found: Shape) -> Verdict:
    """Two single values: the first rule that knows both decides, else math-verify."""
    gold, pred = latex.text(truth.tokens), latex.text(found.tokens)
    if gold == pred:
      return bool(gold)
    for rule in (notations.clocks, notations.bases, notations.ratios, notations.words):
      verdict = rule(gold, pred)
      if verdict is not None:
        return verdict
    label = notations.OPTION.fullmatch(pred)
    if label:  # (B) 12 for 12
      return self._leaf(truth, shapes.read(latex.tokens(label[2])))
    return self._measured(gold, pred)

  def _measured(self, gold: str, pred: str) -> Verdict:
    """Values with their units, percent and degrees as they may be meant."""
    (gold, unit), (pred, other) = units.split(gold), units.split(pred)
    if not gold or not pred:
      return False
    if unit and other and unit.dimensions is not None and other.dimensions is not None:
      if unit.dimensions != other.dimensions:
        return False
      return self._values(gold, pred, other.size / unit.size)
    verdict = self._values(gold, pred)
    if verdict is not False:
      return verdict
    share, angle = frozenset({("share", 1)}), frozenset({("angle", 1)})
    for each, factor in ((unit, 100), (other, Fraction(1, 100))):
      if each and each.dimensions == share:
        return self._values(gold, pred, Fraction(factor))
    if unit and unit.dimensions == angle and "\\pi" in pred:
      return self._values(f"({gold})\\cdot\\frac{{\\pi}}{{180}}", pred)
    if other and other.dimensions == angle and "\\pi" in gold:
      return self._values(gold, f"({pred})\\cdot\\frac{{\\pi}}{{180}}")
    return False

  def _values(self, gold: str, pred: str, factor: Fraction = Fraction(1)) -> Verdict:
    """Two values without units: `pred` times `factor` is `gold`."""
    truth, found = number(gold), number(pred)
    if found and factor != 1:
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
    return self._ask(gold, pred, str(float(tolerance)) if tolerance else "")

  def _ask(self, gold: str, pred: str, tolerance: str = "") -> Verdict:
    """math-verify's verdict; no for words, and for what would grow beyond all bounds."""
    for each in (gold, pred):
      balanced = all(each.count(a) == each.count(b) for a, b in ("()", "[]"))
      if "\\text" in each or not balanced or too_big(latex.tokens(each)):
        return False
    # 1\frac{2}{3}\pi: a mixed number is a sum
    gold, pred = (_MIXED.sub(r"(\1+\2)", each) for each in (gold, pred))
    return verifier.equal(gold, pred, tolerance, self._budget)


def _exact(found: Number) -> str:
  """A number as LaTeX that no reader misreads (1.5e3 is no 1.5 times e times 3)."""
  above, below = found.value.numerator, found.value.denominator
  return f"\\frac{{{above}}}{{{below}}}" if below != 1 else str(above)


def _other_name(one: str, other: str) -> bool:
  """x = 5 is not y = 5; longer names are spelled in too many ways."""
  return len(one) == len(other) == 1 and one != other


def _is_tuple(shape: Shape) -> bool:
  vector = shape.kind == "matrix" and "1" in shape.ends.split("x")
  return shape.kind == "tuple" or vector or (shape.kind == "interval" and shape.ends == "()")


def _by_name(parts: Sequence[Shape]) -> Sequence[Shape]:
  """y = 3, x = 5 in the order of the alphabet; parts without names as they are."""
  names = [part.name for part in parts]
  if all(len(name) == 1 for name in names) and len(set(names)) == len(names):
    return sorted(parts, key=lambda part: part.name)
  return parts


def _as_list(shape: Shape) -> Shape:
  """A number with a comma read as a list after all."""
  parts = tuple(map(shapes.read, shapes.split(shape.tokens, ",")))
  return shape._replace(kind="list", parts=parts)


def _all(verdicts: Iterable[Verdict]) -> Verdict:
  """False as soon as one is, None if one is unknown."""
  unknown = False
  for verdict in verdicts:
    if verdict is False:
      return False
    unknown = unknown or verdict is None
  return None if unknown else True
