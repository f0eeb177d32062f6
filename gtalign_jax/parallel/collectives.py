"""Counts the collectives of a compiled program from its HLO text, for one column of `plan`.

The text is the only form that both compilers give. An operation inside a loop counts once per
iteration where their number is known; a loop that ends when it likes (decoding) counts as one
iteration. tests/parallel/test_collectives.py holds a sample of the text and a compiled scan, so a
new XLA that prints another way is seen.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter, defaultdict

KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_OPERATION = re.compile(rf"^%?[\w.-]+ = (.*?) ({KINDS})(-start)?\(")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)"
  r"|branch_computations=\{([^}]*)\}"
)
# Where the TPU compiler overlaps an operation with fusions, its text repeats the operation in each
# of them and in the fusion that ends it; it counts where it starts.
_REPEATED = re.compile(r"^%?async-collective-done|calls=%?async_collective_fusion")
# a scan says how often it runs, or compares a counter from 0 with a constant
_STATED = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r" while\(.*condition=%?([\w.-]+)")
_BOUND = re.compile(r"^.* compare\(\S+ %?([\w.-]+)\), direction=LT")
_SHAPE = re.compile(r"\b([a-z]+(\d*)[a-z\d]*)\[([\d,]*)\]")


def count(hlo: str) -> dict[str, dict[str, int]]:
  """{kind: {"count", "bytes"}} of one execution; kinds that do not occur are left out.

  bytes: size of the results on one device, summed.
  """
  lines: dict[str, list[str]] = defaultdict(list)  # computation -> its lines
  entry = name = ""
  for line in hlo.splitlines():
    if header := _HEADER.match(line):
      name = header[2]
      entry = name if header[1] else entry
    else:
      lines[name].append(line.strip())

  @functools.cache  # a computation that many others call is walked once
  def total(name: str) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()  # (kind, "count" or "bytes") -> number
    for line in (each.removeprefix("ROOT ") for each in lines[name]):
      if operation := _OPERATION.match(line):
        shape, kind, start = operation.groups()
        found.update({(kind, "count"): 1, (kind, "bytes"): _bytes(shape, kind, bool(start))})
      elif not _REPEATED.search(line):
        times = _times(line, lines)
        for called, branches in _CALLED.findall(line):
          for each in [called] if called else re.findall(r"[\w.-]+", branches):
            found.update({key: times * value for key, value in total(each).items()})
    return found

  found = total(entry)
  kinds = sorted({kind for kind, _ in found})
  return {kind: {what: found[kind, what] for what in ("count", "bytes")} for kind in kinds}


def _times(line: str, lines: dict[str, list[str]]) -> int:
  """How often an instruction runs what it calls."""
  if stated := _STATED.search(line):
    return int(stated[1])
  condition = lines[loop[1]] if (loop := _CONDITION.search(line)) else []
  # the comparison must be the root: a loop that may also end for another reason has no bound
  root = next((each for each in condition if each.startswith("ROOT ")), "")
  if bound := _BOUND.match(root):
    constant = re.compile(rf"%?{re.escape(bound[1])} = [su](?:32|64)\[\]\S* constant\((\d+)\)")
    if found := next(filter(None, map(constant.match, condition)), None):
      return int(found[1])
  return 1


def _bytes(shape: str, kind: str, start: bool) -> int:
  """Bytes of an operation's results; the shape of a started one names its operands as well."""
  sizes = [_size(*each) for each in _SHAPE.findall(shape)]
  if not start or kind == "all-reduce":
    return sum(sizes)
  if kind == "collective-permute":  # (operand, result, context…)
    return sizes[1]
  return sum(sizes[len(sizes) // 2 :])  # (operands…, results…)


def _size(dtype: str, bits: str, dimensions: str) -> int:
  elements = math.prod(int(size) for size in dimensions.split(",") if size)
  return elements * int(bits or 8) // 8  # pred: a byte each
