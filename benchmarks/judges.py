"""Accuracy of the rule judge on synthesised right and wrong responses to the released prompts.

  python benchmarks/judges.py --data $GTALIGN_DATA [--markdown] [--show WAY]

The ways of being right and wrong are in judge_ways*.py: FIRST and SECOND were at hand while the rules were
made, THIRD was written afterwards. Prints one JSON line, or the table of docs/judges.md.
"""

import argparse
import json
import random
import time
from collections import defaultdict

from judge_ways import FIRST, asked
from judge_ways_later import SECOND, THIRD

from gtalign_jax.data import sources
from gtalign_jax.fields import Table
from gtalign_jax.rewards import tasks
from gtalign_jax.rewards.tasks.base import Example
from gtalign_jax.sections import DataConfig

WAYS = {"first": FIRST, "second": SECOND, "third": THIRD}


def question_of(record, response):
  example = Example(
    record.id,
    record.data_source,
    asked(record),
    response,
    record.ground_truth,
    {},
    "corrected",
    "row",
  )
  return tasks.find(record.data_source, Table())(example).question()


def measure(records, ways, seed):
  """(rows of the table, seconds a verdict); rows: way -> [asked, correct, without verdict]."""
  rng = random.Random(seed)
  table, seconds, wrong = defaultdict(lambda: [0, 0, 0]), [], defaultdict(list)
  for record in records:
    if not record.ground_truth.strip():
      continue
    for way, make in ways.items():
      made = make(record, rng.choice(records), rng)
      if made is None:
        continue
      question = question_of(record, made[0])
      began = time.perf_counter()
      verdict = question.rule(question)
      seconds.append(time.perf_counter() - began)
      cell = table[way]
      cell[0] += 1
      cell[1] += verdict in made[1]
      cell[2] += verdict is None
      if verdict not in made[1]:
        wrong[way].append(
          {"truth": record.ground_truth[:200], "response": made[0][:300], "verdict": verdict}
        )
  return dict(table), seconds, wrong


def markdown(results):
  lines = ["| task | way | asked | judged correctly | no verdict |", "|---|---|---|---|---|"]
  for task, table in results.items():
    for way, (count, correct, none) in table.items():
      lines.append(f"| {task} | {way} | {count} | {correct / count:.1%} | {none} |")
    count, correct, none = (sum(column) for column in zip(*table.values(), strict=True))
    lines.append(f"| **{task}** | **all** | {count} | **{correct / count:.1%}** | {none} |")
  return "\n".join(lines)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data", required=True, help="folder of the released prompts")
  parser.add_argument("--ways", choices=WAYS, default="third")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--markdown", action="store_true", help="print the table of docs/judges.md")
  parser.add_argument("--show", help="print what was judged wrongly in this way")
  args = parser.parse_args()
  results, speed = {}, {}
  for task, ways in WAYS[args.ways].items():
    records = sources.load(DataConfig(root=args.data, sources=(task,)), "test")
    table, seconds, wrong = measure(records, ways, args.seed)
    results[task] = table
    ranked = sorted(seconds)
    speed[task] = {
      "median_ms": ranked[len(ranked) // 2] * 1e3,
      "p99_ms": ranked[len(ranked) * 99 // 100] * 1e3,
    }
    for each in wrong.get(args.show, [])[:15]:
      print(json.dumps(each, ensure_ascii=False))
  if args.markdown:
    print(markdown(results))
  print(
    json.dumps(
      {
        "benchmark": "judges",
        "ways": args.ways,
        "accuracy": {
          task: round(sum(c[1] for c in table.values()) / sum(c[0] for c in table.values()), 4)
          for task, table in results.items()
        },
        "asked": {task: sum(c[0] for c in table.values()) for task, table in results.items()},
        "speed": {task: {k: round(v, 3) for k, v in each.items()} for task, each in speed.items()},
      }
    )
  )


if __name__ == "__main__":
  main()
