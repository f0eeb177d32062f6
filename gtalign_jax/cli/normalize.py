"""`gtalign normalize IN.jsonl OUT.jsonl --method M`: puts scores of all sources on one scale."""

from __future__ import annotations

import argparse
import math

from gtalign_jax import files, jsonl
from gtalign_jax.cli import arguments
from gtalign_jax.errors import BadInput
from gtalign_jax.reward_section import SOURCE_NORMS
from gtalign_jax.rewards.normalize import normalize

LARGEST = 1e150  # squares of scores, of which spreads are made, stay finite


ARGUMENTS: arguments.Declared = {
  "input": dict(metavar="IN.jsonl", help="rows with source (or data_source), score"),
  "output": {},  # may be IN.jsonl: the rows stay, with one column more
  "--method": dict(required=True, choices=SOURCE_NORMS, help="how to normalise"),
}


def run(args: argparse.Namespace) -> int:
  """One batch per file. Writes nothing where a row is malformed: BadInput, with file and line."""
  files.check_output(args.output)
  rows, scores, sources = [], [], []
  for line, row in jsonl.read(args.input):
    where = f"{args.input}:{line}"
    if "score" not in row:  # a forgotten column, not a null: nobody scores a row by accident
      raise BadInput(f"{where}: no key score; give a number, or null for an invalid row")
    # rows of `gtalign score` have data_source; `source` says that a user groups them otherwise
    key = "source" if "source" in row else "data_source"
    if key not in row:
      raise BadInput(f"{where}: no key source or data_source; name the group that a row belongs to")
    source = row[key]
    if not isinstance(source, str):
      raise BadInput(f"{where}: {key}={source!r:.40} must be a string")
    score = jsonl.number(row, "score", where)
    if abs(score) > LARGEST:
      raise BadInput(f"{where}: score={score:g} must lie within {LARGEST:g} of 0; scale the scores")
    rows.append(row)
    scores.append(score)
    sources.append(source)
  for row, value in zip(rows, normalize(scores, sources, args.method)):
    row["normalized"] = float(value) if math.isfinite(value) else None
  jsonl.write(args.output, rows)
  invalid, count = sum(map(math.isnan, scores)), len(set(sources))
  found = {"rows": len(rows), "invalid": invalid, "sources": count, "method": args.method}
  text = f"{len(rows)} rows of {count} sources, {invalid} invalid -> {args.output}\n"
  arguments.show(args, text, found, alone=True)
  return 0
