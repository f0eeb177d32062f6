"""Counts the collectives of a compiled program from its HLO text.

An operation inside a loop counts once an iteration where the compiler knows how many there are
(scans over layers); a loop that ends when it likes (decoding) counts as one iteration.
"""

from __future__ import annotations

import re
from typing import NamedTuple

KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_BITS = {"pred": 8, "c64": 64, "c128": 128, "bf16": 16}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_OPERATION = re.compile(rf"^(?:ROOT )?%?[\w.-]+ = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,]*)\]")

Total = dict[str, dict[str, int]]


class _Computation(NamedTuple):
  own: list[tuple[str, int]]  # (kind, bytes)
  calls: list[tuple[str, int]]  # (computation, times)


def count(hlo: str) -> Total:
  """{kind: {"count", "bytes"}} of one execution; kinds that do not occur are left out.

  bytes: size of the results on one device, summed.
  """
  computations, entry = _parse(hlo)
  done: dict[str, Total] = {}

  def total(name: str) -> Total:
    if name not in done:
      done[name] = out = {}
      for kind, size in computations[name].own:
        _add(out, kind, 1, size)
      for called, times in computations[name].calls:
        for kind, each in total(called).items() if called in computations else ():
          _add(out, kind, times * each["count"], times * each["bytes"])
    return done[name]

  return dict(sorted(total(entry).items()))


def _add(out: Total, kind: str, times: int, size: int) -> None:
  each = out.setdefault(kind, {"count": 0, "bytes": 0})
  each["count"] += times
  each["bytes"] += size


def _parse(hlo: str) -> tuple[dict[str, _Computation], str]:
  computations: dict[str, _Computation] = {}
  entry, current = "", _Computation([], [])
  for line in hlo.splitlines():
    opened = _COMPUTATION.match(line)
    if opened:
      current = computations[opened[2]] = _Computation([], [])
      entry = opened[2] if opened[1] else entry
      continue
    line = line.strip()
    found = _OPERATION.match(line)
    if found:
      current.own.append((found[2], _bytes(found[1], found[2], bool(found[3]))))
    elif "=%" in line or "_computations={" in line:
      trips = _TRIPS.search(line)
      times = int(trips[1]) if trips else 1
      names = _CALLED.findall(line)
      for listed in _BRANCHES.findall(line):
        names += [name.strip().lstrip("%") for name in listed.split(",")]
      current.calls.extend((name, times) for name in names)
  return computations, entry


def _bytes(shape: str, kind: str, start: bool) -> int:
  sizes = [_size(*each) for each in _SHAPE.findall(shape)]
  if not start or kind == "all-reduce":
    return sum(sizes)
  if kind == "collective-permute":  # (operand, result, context…)
    return sizes[1]
  return sum(sizes[len(sizes) // 2 :])  # (operands…, results…)


def _size(dtype: str, dimensions: str) -> int:
  bits = _BITS.get(dtype) or int((re.search(r"\d+", dtype) or ["8"])[0])
  elements = 1
  for size in filter(None, dimensions.split(",")):
    elements *= int(size)
  return elements * bits // 8
