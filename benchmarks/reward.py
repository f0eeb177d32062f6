"""Throughput of scoring on one core: parse + features + reward of realistic chains of 300 words.

  python benchmarks/reward.py [--rows 4000] [--repeats 9] [--mode corrected] [--profile]

Rows bring their verdicts (no judge) and are of tasks without BLEU. Prints one JSON line:
completions per second of CPU time and of wall time (medians), and where the time goes.
"""

import argparse
import cProfile
import json
import os
import pstats
import random
import statistics
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
  os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402

from gtalign_jax.reward_section import RewardConfig  # noqa: E402
from gtalign_jax.rewards import chain, features, judges, score  # noqa: E402
from gtalign_jax.types import CELLS  # noqa: E402

WORDS = """the user asks for an answer that depends on what is meant by this question so a direct reply
may miss the point while asking first costs a turn of time and effort yet makes the final answer much
more likely to help because it removes doubt about year place person or version which matters here"""
SOURCES = ("math-hard", "minerva", "ambig_qa", "abg-coqa", "wildguard", "advbench")


def prose(rng, count):
  """Sentences of `count` words in all."""
  words = rng.choices(WORDS.split(), k=count)
  for at in range(11, count, 12):
    words[at] += "."
  return " ".join(words).capitalize()


def one_chain(rng, words=300):
  """A chain of about `words` words, 8 in 10 of them read strictly; the payoff counts 30."""
  cells = {
    cell: {"LLM": round(rng.uniform(-5, 5), 1), "user": round(rng.uniform(-5, 5), 1)}
    for cell in CELLS
  }
  rest = words - 30 - 8
  thinking = prose(rng, rest // 4) + f" The question is {rng.choice(['DQ', 'VQ'])} here."
  analyze = prose(rng, rest // 4) + f" So I choose {rng.choice(CELLS)}."
  response = prose(rng, rest // 2) + rng.choice(["", " Which year do you mean?"])
  text = (
    f"<thinking>{thinking}</thinking>\n<payoff>{json.dumps(cells)}</payoff>\n"
    f"<analyze>{analyze}</analyze>\n<response>{response}</response>"
  )
  fate = rng.random()
  return text[: int(len(text) * 0.9)] if fate < 0.1 else text + "\nok" if fate < 0.2 else text


def make_rows(count, seed=0):
  """Rows of `gtalign score` with verdicts."""
  rng = random.Random(seed)
  return [
    {
      "id": str(n),
      "data_source": SOURCES[n % len(SOURCES)],
      "completion": one_chain(rng),
      "ground_truth": rng.choice(["harmful", "unharmful"]),
      "extra_info": {"single_turn_prompt": "What is meant?"},
      "judge_score": rng.choice([0, 1]),
    }
    for n in range(count)
  ]


def timed(work, repeats):
  """Median (CPU seconds, wall seconds) of a call."""
  cpu, wall = [], []
  for _ in range(repeats):
    cpu_start, wall_start = time.process_time(), time.perf_counter()
    work()
    cpu.append(time.process_time() - cpu_start)
    wall.append(time.perf_counter() - wall_start)
  return statistics.median(cpu), statistics.median(wall)


def stages(rows, config, repeats):
  """Microseconds of CPU a completion of the two text stages, by themselves."""
  texts = [row["completion"] for row in rows]
  reading = "paper" if config.mode == "paper" else "strict"
  parsed = [chain.parse(text, reading) for text in texts]

  def read_features():
    for text, each in zip(texts, parsed, strict=True):
      features.words(text)
      features.words(each.response or "")
      features.user_type(each.thinking or "")
      features.carried_out(features.named_cell(each.analyze or ""), each.response or "", 15, 5)

  parse_s, _ = timed(lambda: [chain.blocks(text, reading) for text in texts], repeats)
  features_s, _ = timed(read_features, repeats)
  return {"parse": parse_s / len(rows) * 1e6, "features": features_s / len(rows) * 1e6}


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rows", type=int, default=4000)
  parser.add_argument("--repeats", type=int, default=9)
  parser.add_argument("--mode", choices=("corrected", "paper"), default="corrected")
  parser.add_argument(
    "--profile", action="store_true", help="print where the time goes, by function"
  )
  args = parser.parse_args()
  config = RewardConfig(mode=args.mode)
  judge = judges.make(config.judge)
  rows = make_rows(args.rows)
  score.score_rows(rows[:64], config, judge)
  if args.profile:
    with cProfile.Profile() as profile:
      score.score_rows(rows, config, judge)
    pstats.Stats(profile).sort_stats("tottime").print_stats(22)
  cpu, wall = timed(lambda: score.score_rows(rows, config, judge), args.repeats)
  micros = {"all": cpu / args.rows * 1e6} | stages(rows, config, args.repeats)
  micros["rest"] = micros["all"] - micros["parse"] - micros["features"]
  print(
    json.dumps(
      {
        "benchmark": "reward",
        "completions_per_cpu_s": round(args.rows / cpu),
        "completions_per_wall_s": round(args.rows / wall),
        "us_per_completion": {name: round(value, 1) for name, value in micros.items()},
        "words": statistics.mean(len(row["completion"].split()) for row in rows),
        "mode": args.mode,
        "rows": args.rows,
        "repeats": args.repeats,
        "numpy": np.__version__,
      }
    )
  )


if __name__ == "__main__":
  main()
