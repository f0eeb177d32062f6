"""Ours against Hugging Face `generate` and TRL on the same work, in turns (docs/performance.md).

  python benchmarks/peers/compare.py --model DIR --peer-python PEER_ENV/bin/python [--peers hf trl] [--rounds 2]

DIR: a Hugging Face directory (`gtalign export`). The peers live in an environment of their own with
torch, transformers and trl. Prints one JSON line: every figure, and the ratio of each round.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = {"hf": ("hf_generate.py", "rollout_s"), "trl": ("trl_step.py", "step_s")}
# what TRL users set on CPU: large blocks are kept instead of being mapped anew
ALLOCATOR = {
  "MALLOC_MMAP_MAX_": "0",
  "MALLOC_TRIM_THRESHOLD_": "100000000000",
  "MALLOC_TOP_PAD_": "268435456",
}


def last_line(command, **environment):
  done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
  if done.returncode:
    sys.exit(f"{command[1]} failed:\n{done.stderr[-2000:]}")
  return json.loads(done.stdout.strip().splitlines()[-1])


def ours(args):
  flags = ["--model", args.model, "--json", "--remat", "dots", "--repeats", "1"]
  return last_line([sys.executable, "-m", "gtalign_jax", "bench", *flags])


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", required=True)
  parser.add_argument("--peer-python", required=True)
  parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
  parser.add_argument("--rounds", type=int, default=2)
  parser.add_argument("--peer-dtype", default="float32")
  parser.add_argument("--allocator", action="store_true", help="the peers' usual malloc settings")
  args = parser.parse_args()
  rounds = []
  for _ in range(args.rounds):
    us = ours(args)
    work = json.dumps(us["work"] | {"repeats": 1, "dtype": args.peer_dtype})
    found = {"gtalign": {k: us[k] for k in ("rollout_s", "update_s", "step_s", "peak_rss_mib")}}
    for peer in args.peers:
      script, figure = PEERS[peer]
      settings = ALLOCATOR if args.allocator else {}
      found[peer] = last_line([args.peer_python, str(HERE / script), args.model, work], **settings)
      found[peer]["ratio"] = min(found[peer][figure]) / us[figure]
      print(json.dumps(found), file=sys.stderr, flush=True)  # nothing is lost if a later peer fails
    rounds.append(found)
  print(json.dumps({"work": us["work"], "peer_dtype": args.peer_dtype, "rounds": rounds}))


main()
