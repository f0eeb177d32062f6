"""`gtalign normalize IN.jsonl OUT.jsonl --method M`: scores put on one scale over their sources."""

from __future__ import annotations

import argparse
import math
import sys

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput
from gtalign_jax.rewards.normalize import normalize
from gtalign_jax.sections import SOURCE_NORMS


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("input", help="JSON lines with source (or data_source) and score")
  parser.add_argument("output", help="the same rows with `normalized`; null where score is null")
  parser.add_argument("--method", required=True, choices=SOURCE_NORMS, help="how to normalise")
  parser.add_argument("--json", action="store_true", help="print a JSON summary")


def run(args: argparse.Namespace) -> int:
  """One batch a file. Writes nothing where a row is malformed (BadInput names file and line)."""
  rows, scores, sources = [], [], []
  for line, row in jsonl.read(args.input):
    where = f"{args.input}:{line}"
    if "score" not in row:
      raise BadInput(f"{where}: no key score; give a number, or null for an invalid row")
    source = row.get("source", row.get("data_source"))
    if not isinstance(source, str):
      raise BadInput(f"{where}: source={source!r} must be a string")
    rows.append(row)
    scores.append(jsonl.number(row, "score", where))
    sources.append(source)
  for row, value in zip(rows, normalize(scores, sources, args.method)):
    row["normalized"] = float(value) if math.isfinite(value) else None
  jsonl.write(args.output, rows)
  invalid = sum(map(math.isnan, scores))
  summary = {"rows": len(rows), "invalid": invalid, "sources": len(set(sources))}
  found = jsonl.dumps(summary | {"method": args.method})
  text = f"{len(rows)} rows of {summary['sources']} sources, {invalid} invalid -> {args.output}"
  sys.stdout.write((found if args.json else text) + "\n")
  return 0
