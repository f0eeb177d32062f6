"""Compares two LaTeX values with math-verify; run by path, in a process of its own.

Reads lines of JSON [truth, found, tolerance, seconds] and answers [same, seconds of CPU]. The
process that has loaded sympy (it takes seconds) forks a worker that compares. A comparison that
takes more than its `seconds` of CPU is false; where that is one C function, which no Python timer
can interrupt, the kernel ends the worker, and another is forked in milliseconds. Nothing runs on
after the run is gone: a worker ends by its timer or at the end of its input, and with it the
process that forked it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import random
import signal
import sys
import time

MEMORY = 1 << 30  # bytes of address space; libraries take half of it
TRUTH_S = 2.0  # CPU to read a truth
GRACE_S = 0.05  # CPU; a C function that is not done by then is ended with its process
RELATIVE = 1e-12  # two values agree: floats, and closed forms at 30 digits, which get much closer
POINTS = 4  # at which unknowns are compared: positive ones, and from SIGNED on of either sign
SIGNED = 2

# The reader learns its grammar from what it reads: 10 times faster afterwards.
WARM = r"""
2\sqrt{3}+1 \frac{1}{2a}(\exp(a\cdot{t})-e^{-\frac{t}{RC}}) e^{i\pi/3} f(x) \log_{2}8+\ln{2}
\frac{t}{4}\sin(2t) \sin{x}+\cos^{2}\alpha y=2x+3 x_{1}+a_{2}(1+r/r_{0})^{3/2} \binom{5}{2}5!
s^{2}\le8r^{2} 8r^{2}\ge{s}^{2} \sqrt[3]{2}|x-3| (x^{2}+x+1)(x^{8}-x) I(0)e^{-t/(RC)}
10x\sqrt{21x} -\frac{1}{2}X^{-1/2} \frac{1}{2a}(e^{at}-e^{-at}) (x+1)/(x-1) (1+\frac{2}{3})\pi
\frac{\pi{r}}{h+r} \sqrt{2}/2 -((1)/(5))-((2)/(5))i 4x^{2}+4x^{3} 10x-y=4
((9)/(\pi^{2}))(\sqrt{3}+3) \arcsin(10/13) \frac{1}{2}+\frac{\sqrt{3}}{2}i ((25\cdot\pi)/(2))
\log(\frac{2007}{2006}) \frac{1}{7}\triangle{ABC} ((1)/((a-b)b)) \frac{1+\sqrt{5}}{2}\pi{r}^{2}h
-\frac{1}{5}-\frac{2i}{5} -1+\frac{\sqrt{7}}{2} \frac{v_{0}}{r_{0}(1+r/r_{0})^{3/2}}
"""


@functools.lru_cache(maxsize=256)
def value(latex: str):
  """The sympy object that math-verify's reader makes of LaTeX. Capitals stay capitals.

  I(0) and f(x), of which nothing is known, are unknowns of that name.
  """
  import sympy
  from latex2sympy2_extended import latex2sympy
  from latex2sympy2_extended.latex2sympy2 import ConversionConfig
  from sympy.core.function import AppliedUndef

  config = ConversionConfig(lowercase_symbols=False)
  read = latex2sympy(latex, normalization_config=None, conversion_config=config)
  if not isinstance(read, sympy.Basic):
    return read
  return read.subs({each: sympy.Symbol(str(each)) for each in read.atoms(AppliedUndef)})


def same(truth: str, found: str, tolerance: str) -> bool:
  """Do both mean the same? tolerance: largest difference, "" for equal values."""
  import sympy
  from math_verify import verify

  gold, pred = value(truth), value(found)
  if isinstance(gold, sympy.Rel) and isinstance(pred, sympy.Rel):
    return related(gold, pred)
  if isinstance(gold, sympy.Expr) and isinstance(pred, sympy.Expr):
    verdict = by_numbers(gold, pred, tolerance)
    if verdict is not None:
      return verdict
  return bool(verify(gold, pred, timeout_seconds=None))


def by_numbers(gold, pred, tolerance: str) -> bool | None:
  """Two expressions at several values of their unknowns; None where they have no values."""
  import mpmath

  compared = False
  for point, (a, b) in enumerate(values(gold, pred)):
    if a is None or b is None:
      continue
    # real unknowns: where a root or a logarithm leaves the reals, nothing is said
    if point >= SIGNED and any(abs(each.imag) > RELATIVE * abs(each) for each in (a, b)):
      continue
    # relative, so that 2^{-98} is not 2^{-99}
    size = max(abs(a), abs(b))
    close = mpmath.mpf(tolerance) if tolerance else 1e-90 if size < 1e-90 else RELATIVE * size
    if abs(a - b) > close:
      return False
    compared = True
  constant = not (gold.free_symbols | pred.free_symbols)
  if compared and constant and not tolerance and gold.is_rational and pred.is_rational:
    return bool((gold.doit() - pred.doit()) == 0)  # 10^{50} + 1 is not 10^{50}
  return compared or None


def values(gold, pred):
  """Pairs of values of two expressions at the same points; one pair where nothing is unknown."""
  import sympy

  names = sorted({str(each) for each in gold.free_symbols | pred.free_symbols} - {"i"})
  for point in range(POINTS if names else 1):
    chosen = {"i": sympy.I}
    for n, name in enumerate(names):
      size = random.Random(POINTS * n + point).uniform(0.3, 3)
      chosen[name] = sympy.Float(-size if point >= SIGNED and (n + point) % 2 == 0 else size, 40)
    yield at(gold, chosen), at(pred, chosen)


def at(expression, chosen):
  """The value of an expression where its unknowns have those chosen; None if it has none."""
  import mpmath
  import sympy

  given = expression.subs({each: chosen[str(each)] for each in expression.free_symbols})
  number = given.evalf(30)
  if not number.is_number or number.has(sympy.nan, sympy.zoo, sympy.oo):
    number = given.doit().evalf(30)
  parts = number.as_real_imag()
  if not all(part.is_Float or part.is_Rational for part in parts):
    return None
  with mpmath.workdps(30):
    return mpmath.mpc(*map(str, parts))


def related(gold, pred) -> bool:
  """Two equations or inequalities: their sides differ by a constant factor.

  The factor of inequalities is positive: that of what is greater minus what is less.
  """
  kinds = {each.canonical.rel_op.replace(">", "<") for each in (gold, pred)}
  a, b = ((each.lhs - each.rhs) * (-1 if "<" in each.rel_op else 1) for each in (gold, pred))
  pairs = list(values(a, b))
  if len(pairs) < POINTS or any(None in pair or min(map(abs, pair)) < 1e-20 for pair in pairs):
    return False
  first, *others = [x / y for x, y in pairs]
  constant = all(abs(each - first) <= RELATIVE * abs(first) for each in others)
  return constant and len(kinds) == 1 and ("<" not in kinds.pop() or first.real > 0)


def serve() -> None:
  """Answers questions until the input ends."""
  signal.signal(signal.SIGPROF, slow)
  for line in sys.stdin:
    truth, found, tolerance, seconds = json.loads(line)
    began, verdict = time.process_time(), False
    # what math-verify cannot read equals nothing
    with contextlib.suppress(Exception, Slow):
      limit(TRUTH_S)
      value(truth)  # no attack, and read once for all answers to it: not on their account
      began = time.process_time()
      limit(seconds)
      verdict = same(truth, found, tolerance)
    limit(0)
    say([verdict, time.process_time() - began])


class Slow(BaseException):
  """The time is over; not an Exception, which the libraries catch."""


def slow(*_) -> None:
  raise Slow


def say(answer: object) -> None:
  os.write(1, json.dumps(answer).encode() + b"\n")


def limit(seconds: float) -> None:
  """Raises Slow after so many seconds of CPU, and ends a process that does not listen; 0: no limit.

  Slow goes first: a worker that lives on keeps what its parser has learned, up to 0.15 s a formula.
  """
  signal.setitimer(signal.ITIMER_PROF, seconds)
  signal.setitimer(signal.ITIMER_VIRTUAL, seconds and seconds + GRACE_S)  # unhandled: the end


def main() -> None:
  logging.disable(logging.CRITICAL)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this
  with contextlib.suppress(ImportError, ValueError, OSError):  # a system without this limit
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
  for latex in WARM.split():
    with contextlib.suppress(Exception):
      same(latex, latex, "")
  value.cache_clear()
  say("ready")
  while True:
    worker = os.fork()
    if worker == 0:
      serve()
      os._exit(0)
    if os.waitpid(worker, 0)[1] == 0:
      return
    say([False, 1e9])  # what a worker owed that the kernel has ended


if __name__ == "__main__":
  main()
