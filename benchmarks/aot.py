"""Memory of the decode and update programs of Qwen2.5-3B on v5e:4x4, compiled ahead of time.

  python benchmarks/aot.py [CONFIG.py] [key=value …]

Needs libtpu, no TPU (docs/tpu.md). Prints one JSON line; about 5 minutes on 2 cores. Overrides show what a
knob is worth, e.g. policy.remat=dots.
"""

import datetime
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from gtalign_jax.config import load
from gtalign_jax.models import architecture
from gtalign_jax.parallel import topology
from gtalign_jax.train import plan

CONFIGS = Path(__file__).parent.parent / "configs"
TOPOLOGY = "v5e:4x4"


def main(arguments: list[str]) -> None:
  """Compiles every program of the config and prints temporaries, totals and the peak."""
  given = arguments and arguments[0].endswith(".py")
  path = arguments.pop(0) if given else CONFIGS / "qwen3b_v5e16.py"
  arch = architecture.read("", str(CONFIGS / "arch" / "qwen2.5-3b.json"))
  result = plan.plan(load(path, arguments), arch, topology.describe(TOPOLOGY))
  programs = result["programs"]
  line = {
    "benchmark": "aot",
    "date": datetime.date.today().isoformat(),
    "model": "qwen2.5-3b",
    "overrides": arguments,
    "decode_temp_gib": programs["decode"].get("temp_gib"),
    "update_temp_gib": programs["accumulate"].get("temp_gib"),
  }
  print(json.dumps(line | result))


if __name__ == "__main__":
  main(sys.argv[1:])
