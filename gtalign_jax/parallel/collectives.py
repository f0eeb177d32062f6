"""Counts the collectives of a compiled program from its HLO text.

An operation inside a loop counts once an iteration where their number is known (scans over layers:
stated by the compiler, or the bound that the counter is compared with); a loop that ends when it
likes (decoding) counts as one iteration. Where the TPU compiler overlaps an operation with fusions,
its text repeats the operation in each of them; it counts where it starts.
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
# what runs while `async-collective-start` is under way, and where it ends
_OVERLAPPED = re.compile(r"^(?:ROOT )?%?async-collective-done|calls=%?async_collective_fusion")
_CONDITION = re.compile(r" while\(.*condition=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONSTANT = re.compile(r"%?([\w.-]+) = [su](?:32|64)\[\]\S* constant\((\d+)\)")
_BOUND = re.compile(r"ROOT .* compare\(\S+ %?([\w.-]+)\), direction=LT")
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,]*)\]")

Total = dict[str, dict[str, int]]


class _Computation(NamedTuple):
  own: list[tuple[str, int]]  # (kind, bytes)
  calls: list[tuple[str, int, str]]  # (computation, times, condition of the loop or "")
  constants: dict[str, int]
  bound: list[int]  # as a loop's condition: iterations of a counter from 0


def count(hlo: str) -> Total:
  """{kind: {"count", "bytes"}} of one execution; kinds that do not occur are left out.

  bytes: size of the results on one device, summed.
  """
  computations, entry = _parse(hlo)
  done: dict[str, Total] = {}

  def total(name: str) -> Total:
    if name not in done:
      out: Total = {}
      done[name] = out
      for kind, size in computations[name].own:
        _add(out, kind, 1, size)
      for called, times, condition in computations[name].calls:
        times = (computations[condition].bound or [1])[0] if condition else times
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
  entry, current = "", _Computation([], [], {}, [])
  for line in hlo.splitlines():
    opened = _COMPUTATION.match(line)
    if opened:
      current = computations[opened[2]] = _Computation([], [], {}, [])
      entry = opened[2] if opened[1] else entry
      continue
    _read(line.strip(), current)
  return computations, entry


def _read(line: str, current: _Computation) -> None:
  found = _OPERATION.match(line)
  if found:
    current.own.append((found[2], _bytes(found[1], found[2], bool(found[3]))))
    return
  if constant := _CONSTANT.match(line.removeprefix("ROOT ")):
    current.constants[constant[1]] = int(constant[2])
  if (bound := _BOUND.match(line)) and bound[1] in current.constants:
    current.bound.append(current.constants[bound[1]])
  if ("=%" not in line and "_computations={" not in line) or _OVERLAPPED.search(line):
    return
  names = _CALLED.findall(line)
  for listed in _BRANCHES.findall(line):
    names += [name.strip().lstrip("%") for name in listed.split(",")]
  stated = _TRIPS.search(line)
  loop = _CONDITION.search(line) if not stated else None
  times, condition = int(stated[1]) if stated else 1, loop[1] if loop else ""
  current.calls.extend((name, times, condition) for name in names)


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
