"""How pictures tell runs apart: a colour, a marker and dashes each."""

from __future__ import annotations

from typing import NamedTuple

# Okabe and Ito's colours without black and yellow, which are lost on dark and on white ground. They
# are told apart by readers who see no red or green; in grey the markers do that.
TINTS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES = ("-", "--", ":", "-.")


class Look(NamedTuple):
  """Of a run: matplotlib's colour, marker and line style."""

  color: str
  marker: str
  linestyle: str


def look(index: int) -> Look:
  """That of run number `index`; the first 63 differ in colour and marker together."""
  return Look(TINTS[index % len(TINTS)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])
