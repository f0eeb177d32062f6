"""Seconds of rollout and update against G, prompt length and completion length (docs/performance.md).

  python benchmarks/scaling.py --model DIR [--prompts 2] [--out docs/images/scaling.png]

One parameter moves at a time from G=8, 256 prompt tokens, 128 new ones. Prints one JSON line.
"""

import argparse
import json
import subprocess
import sys

BASE = {"group-size": 8, "prompt-tokens": 256, "new-tokens": 128}
SWEEPS = {
  "group-size": (2, 4, 8, 16),
  "prompt-tokens": (128, 256, 512, 1024),
  "new-tokens": (64, 128, 256, 512),
}


def measure(model, prompts, work):
  flags = [f"--{name}={value}" for name, value in work.items()]
  command = [
    sys.executable,
    "-m",
    "gtalign_jax",
    "bench",
    "--model",
    model,
    "--json",
    "--repeats=1",
  ]
  done = subprocess.run(
    [*command, f"--prompts={prompts}", "--remat=dots", *flags],
    check=True,
    capture_output=True,
    text=True,
  )
  found = json.loads(done.stdout.strip().splitlines()[-1])
  return {name: found[name] for name in ("rollout_s", "update_s", "step_s")}


def plot(points, path):
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  figure, panels = plt.subplots(1, len(SWEEPS), figsize=(12, 3.6))
  for panel, name in zip(panels, SWEEPS):
    for part in ("step_s", "rollout_s", "update_s"):
      panel.plot(SWEEPS[name], [each[part] for each in points[name]], "o-", label=part[:-2])
    linear = [points[name][0]["step_s"] * x / SWEEPS[name][0] for x in SWEEPS[name]]
    panel.plot(SWEEPS[name], linear, ":", color="grey", label="proportional")
    panel.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds", xticks=SWEEPS[name])
    panel.set_xticklabels(SWEEPS[name])
    panel.minorticks_off()
  panels[0].legend()
  figure.tight_layout()
  figure.savefig(path, dpi=110)


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", required=True)
  parser.add_argument("--prompts", type=int, default=2)
  parser.add_argument("--out", default="docs/images/scaling.png")
  args = parser.parse_args()
  points, known = {}, {}
  for name, values in SWEEPS.items():
    points[name] = []
    for value in values:
      work = BASE | {name: value}
      key = tuple(work.items())
      known[key] = known.get(key) or measure(args.model, args.prompts, work)
      points[name].append(known[key])
      print(name, value, known[key], file=sys.stderr, flush=True)
  plot(points, args.out)
  print(json.dumps({"prompts": args.prompts, "base": BASE, "sweeps": SWEEPS, "seconds": points}))


main()
