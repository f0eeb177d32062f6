"""Compares two LaTeX values with math-verify; run by path, in a process of its own.

Reads lines of JSON [truth, found, tolerance, seconds] and answers [same, seconds of CPU]. The
process that has loaded sympy (it takes seconds) forks a worker that compares. A comparison that
takes more than its `seconds` of CPU is false; where that is one C function, which no Python timer
can interrupt, the kernel ends the worker, and another is forked in milliseconds. So nothing runs on
after the parent is gone: a worker ends by its timer or at the end of its input.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import select
import signal
import time

MEMORY = 1 << 30  # bytes of address space; libraries take half of it
POLL_S = 1.0  # how often idle processes look whether the one above is still there
TRUTH_S = 2.0  # CPU to read a truth
GRACE_S = 0.05  # CPU; a C function that is not done by then is ended with its process
RELATIVE = 1e-12  # two values agree: floats, and closed forms at 30 digits, which get much closer
POINTS = (  # values of unknowns, by rank of their names: positive, then of mixed sign
  ("1.7281", "0.6173", "2.3917", "1.1409", "0.8531", "3.0713"),
  ("0.4127", "1.9339", "0.7711", "2.8123", "1.3513", "0.2917"),
  ("-0.7391", "1.2713", "-1.8317", "0.5519", "-2.2229", "1.6161"),
  ("2.1137", "-0.3391", "0.9173", "-1.4447", "0.6619", "-0.8117"),
)


@functools.lru_cache(maxsize=256)
def value(latex: str):
  """The sympy object that math-verify's reader makes of LaTeX. Capitals stay capitals."""
  from latex2sympy2_extended import latex2sympy
  from latex2sympy2_extended.latex2sympy2 import ConversionConfig

  config = ConversionConfig(lowercase_symbols=False)
  return latex2sympy(latex, normalization_config=None, conversion_config=config)


def same(truth: str, found: str, tolerance: str) -> bool:
  """Do both mean the same? tolerance: largest difference, "" for equal values."""
  import sympy
  from math_verify import verify

  gold, pred = (named(value(each)) for each in (truth, found))
  relations = (sympy.Eq, sympy.Lt, sympy.Le, sympy.Gt, sympy.Ge)
  if isinstance(gold, relations) and isinstance(pred, relations):
    return related(gold, pred)
  if isinstance(gold, sympy.Expr) and isinstance(pred, sympy.Expr):
    verdict = by_numbers(gold, pred, tolerance)
    if verdict is not None:
      return verdict
  return bool(verify(gold, pred, timeout_seconds=None))


def named(expression):
  """I(0) and f(x), of which nothing is known, as unknowns of that name."""
  import sympy
  from sympy.core.function import AppliedUndef

  if not isinstance(expression, sympy.Basic):
    return expression
  return expression.subs({each: sympy.Symbol(str(each)) for each in expression.atoms(AppliedUndef)})


def by_numbers(gold, pred, tolerance: str) -> bool | None:
  """Two expressions at several values of their unknowns; None where they have no values."""
  names = sorted({str(each) for each in gold.free_symbols | pred.free_symbols} - {"i"})
  compared = 0
  for point in POINTS if names else POINTS[:1]:
    a, b = at(gold, names, point), at(pred, names, point)
    if a is None or b is None:
      continue
    # real unknowns: where a root or a logarithm leaves the reals, nothing is said
    signed = point[0] < "0" or point[1] < "0"
    if signed and any(abs(each.imag) > RELATIVE * abs(each) for each in (a, b)):
      continue
    compared += 1
    if not close(a, b, tolerance):
      return False
  if compared and not names and not tolerance and gold.is_rational and pred.is_rational:
    return bool((gold.doit() - pred.doit()) == 0)  # 10^{50} + 1 is not 10^{50}
  return True if compared else None


def close(a, b, tolerance: str) -> bool:
  """Equal within the tolerance, else to 12 digits; relative, so 2^{-98} is not 2^{-99}."""
  import mpmath

  if tolerance:
    return bool(abs(a - b) <= mpmath.mpf(tolerance))
  return bool(abs(a - b) <= RELATIVE * max(abs(a), abs(b)) or max(abs(a), abs(b)) < 1e-90)


def at(expression, names, point):
  """The value of an expression where its unknowns have those of `point`; None if it has none."""
  import mpmath
  import sympy

  chosen = {
    name: sympy.Float(point[n % len(point)], 40) + n // len(point) for n, name in enumerate(names)
  }
  given = {
    each: sympy.I if str(each) == "i" else chosen[str(each)] for each in expression.free_symbols
  }
  number = expression.subs(given).evalf(30)
  if not number.is_number or number.has(sympy.nan, sympy.zoo, sympy.oo):
    number = expression.subs(given).doit().evalf(30)
  real, imaginary = number.as_real_imag()
  if not (real.is_Float or real.is_Rational) or not (imaginary.is_Float or imaginary.is_Rational):
    return None
  with mpmath.workdps(30):
    return mpmath.mpc(str(real), str(imaginary))


def related(gold, pred) -> bool:
  """Two equations or inequalities: their sides differ by a constant factor.

  The factor of inequalities is positive: that of what is greater minus what is less.
  """
  kinds = [each.canonical.rel_op.replace(">", "<") for each in (gold, pred)]
  a, b = ((each.lhs - each.rhs) * (-1 if "<" in each.rel_op else 1) for each in (gold, pred))
  names = sorted({str(each) for each in a.free_symbols | b.free_symbols} - {"i"})
  values = [(at(a, names, point), at(b, names, point)) for point in POINTS]
  if not names or any(None in pair or min(map(abs, pair)) < 1e-20 for pair in values):
    return False
  ratios = [x / y for x, y in values]
  return (
    kinds[0] == kinds[1]
    and all(abs(each - ratios[0]) <= RELATIVE * abs(ratios[0]) for each in ratios)
    and (kinds[0] == "==" or ratios[0].real > 0)
  )


def serve(parent: int) -> None:
  """Answers questions until the input ends or the parent is gone."""
  signal.signal(signal.SIGPROF, slow)
  while line := question(parent):
    truth, found, tolerance, seconds = json.loads(line)
    with contextlib.suppress(Exception, Slow), limited(TRUTH_S):
      value(truth)  # no attack, and read once for all answers to it: not on their account
    began, verdict = time.process_time(), False
    # what math-verify cannot read equals nothing
    with contextlib.suppress(Exception, Slow), limited(seconds):
      verdict = same(truth, found, tolerance)
    say(json.dumps([verdict, time.process_time() - began]))


def question(parent: int) -> bytes:
  """The next line; empty at the end of the input, or when the parent is gone."""
  line = b""
  while not line.endswith(b"\n"):
    while not select.select([0], [], [], POLL_S)[0]:
      if os.getppid() != parent:
        return b""
    piece = os.read(0, 1 << 16)
    if not piece:
      return b""
    line += piece
  return line


class Slow(BaseException):
  """The time is over; not an Exception, which the libraries catch."""


def slow(*_) -> None:
  raise Slow


@contextlib.contextmanager
def limited(seconds: float):
  """Raises Slow after `seconds` of CPU; the kernel ends a worker that cannot be interrupted.

  A worker that lives on keeps what its parser has learned.
  """
  signal.setitimer(signal.ITIMER_VIRTUAL, seconds + GRACE_S)  # unhandled: ends the process
  signal.setitimer(signal.ITIMER_PROF, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def say(line: str) -> None:
  os.write(1, line.encode() + b"\n")


def warm() -> None:
  """The reader learns its grammar from what it reads: 10 times faster afterwards."""
  for latex in (
    r"2\sqrt{3}+1", r"\frac{1}{2a}(\exp(a\cdot t)-e^{-\frac{t}{RC}})", r"e^{i\pi/3}", r"f(x)",
    r"\frac{t}{4}\sin(2t)", r"\sin x+\cos^{2}\alpha", r"\log_{2}8+\ln2", r"y=2x+3",
    r"x_{1}+a_{2}(1+r/r_{0})^{3/2}", r"\binom{5}{2}5!", r"s^{2}\le8r^{2}", r"8r^{2}\ge s^{2}",
    r"\sqrt[3]{2}|x-3|", r"(x^{2}+x+1)(x^{8}-x)", r"I(0)e^{-t/(RC)}", r"-\frac{1}{2}X^{-1/2}",
    r"\frac{1}{2a}(e^{at}-e^{-at})", r"(x+1)/(x-1)", r"(1+\frac{2}{3})\pi", r"10x\sqrt{21x}",
    r"\frac{\pi r}{h+r}", r"\sqrt{2}/2", r"-((1)/(5))-((2)/(5))i", r"4x^{2}+4x^{3}", r"10x-y=4",
    r"((9)/(\pi^{2}))(\sqrt{3}+3)", r"\frac{1}{2}+\frac{\sqrt{3}}{2}i", r"((25\cdot\pi)/(2))",
    r"\log(\frac{2007}{2006})", r"\frac{1}{7}\triangle ABC", r"((1)/((a-b)b))", r"\arcsin(10/13)",
    r"\frac{1+\sqrt{5}}{2}\pi r^{2}h", r"-\frac{1}{5}-\frac{2i}{5}", r"-1+\frac{\sqrt{7}}{2}",
  ):  # fmt: skip
    with contextlib.suppress(Exception):
      same(latex, latex, "")
  value.cache_clear()


def limit_memory() -> None:
  try:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
  except (ImportError, ValueError, OSError):
    pass  # a system without this limit


def main() -> None:
  parent = os.getppid()
  logging.disable(logging.CRITICAL)
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
  limit_memory()
  warm()
  say("ready")
  while True:
    alive, mine = os.pipe()
    own = os.getpid()
    worker = os.fork()
    if worker == 0:
      os.close(alive)
      serve(own)
      os._exit(0)
    os.close(mine)
    # the pipe is readable when the worker ends; in between, look whether the parent is still there
    while not select.select([alive], [], [], POLL_S)[0]:
      if os.getppid() != parent:
        os.kill(worker, signal.SIGKILL)
    os.close(alive)
    if os.waitpid(worker, 0)[1] == 0 or os.getppid() != parent:
      return
    say("[false, 1e9]")


if __name__ == "__main__":
  main()
