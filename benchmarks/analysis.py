"""Where chains that go on from an edited matrix fail: copying, adding or comparing?

  gtalign eval --model DIR --suite concierge --intervene OUT.jsonl
  python benchmarks/analysis.py OUT.jsonl

Reads analyses as the warm start writes them (data/concierge_chain.py `analysis`), of the cells that were swapped and of
those beside them. Prints JSON, each as [right, all]: cells whose two numbers are those of the matrix, sums that are
right for the numbers as they were copied, and analyses that name the cell with the largest sum as stated.
"""

import argparse
import json
import re

from gtalign_jax import jsonl
from gtalign_jax.rewards import chain
from gtalign_jax.types import ACTIONS, CELLS

NUMBER = r"([-+]\d+\.\d)"
STATED = re.compile(rf"({'|'.join(CELLS)}) {NUMBER} {NUMBER} = {NUMBER}")


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("rows", metavar="OUT.jsonl")
  copied, added, compared = [], [], []
  for _, row in jsonl.read(parser.parse_args().rows):
    if not (edited := row.get("intervention")):
      continue
    found = chain.parse(edited["completion"])
    stated = [(cell, *map(float, x)) for cell, *x in STATED.findall(found.analyze or "")]
    if found.payoff is None:
      continue
    written = dict(zip(CELLS, found.payoff.reshape(6, 2).tolist()))
    copied += [[llm, user] == written[cell] for cell, llm, user, _ in stated]
    added += [abs(llm + user - total) < 0.05 for _, llm, user, total in stated]
    if len(stated) == len(ACTIONS):
      compared.append(max(stated, key=lambda each: each[-1])[0] == edited["named"])
  counts = {"copied": copied, "added": added, "compared": compared}
  print(json.dumps({name: [sum(each), len(each)] for name, each in counts.items()}))


if __name__ == "__main__":
  main()
