"""Real runs of `gtalign train` in processes of their own, shared by the tests that kill and resume them."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

TRAIN = Path(__file__).parent / "train"
TINY = TRAIN / "tiny_config.py"
SHORT = TRAIN / "short_config.py"
TALK = TRAIN / "talk_config.py"
# metrics that depend on the clock, or on what an earlier start left in a cache
CLOCK = (
  "step_time", "timing_s/", "perf/", "judge/latency_", "judge/cache_hit_frac", "user/latency_",
  "user/cache_hit_frac",
)  # fmt: skip


def command(workdir, *overrides, config=TINY, name="train"):
  run = [sys.executable, "-m", "gtalign_jax", name, str(config)]
  return [*run, f"workdir={workdir}", *overrides]


def environment(devices=1, **changes):
  """That of the tests (tests/conftest.py), with so many virtual devices."""
  flags = re.sub(r"(device_count)=\d+", rf"\1={devices}", os.environ["XLA_FLAGS"])
  return os.environ | {"XLA_FLAGS": flags} | changes


def attempt(workdir, *overrides, devices=1, config=TINY, **changes):
  """Runs the job to its end, whatever that is."""
  return subprocess.run(
    command(workdir, *overrides, config=config),
    env=environment(devices, **changes),
    capture_output=True,
    text=True,
    timeout=300,
  )


def finish(workdir, *overrides, **options):
  """Runs the job to its good end."""
  done = attempt(workdir, *overrides, **options)
  assert done.returncode == 0, done.stderr[-3000:]
  return done


COMMANDS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from gtalign_jax.cli.main import main
from shared_programs import shared
with shared():
  for line in sys.stdin:
    print("exit", main(json.loads(line)), flush=True)
"""


@contextlib.contextmanager
def one_process(log, **changes):
  """A process that runs one command after the other, and compiles what they share once.

  Yields a function of a command line that returns a CompletedProcess. log: the file that stderr
  goes to. changes: to the environment.
  """
  with log.open("wb") as errors:
    child = subprocess.Popen(
      [sys.executable, "-c", COMMANDS, str(TRAIN.parent)],
      env=environment(**changes),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=errors,
      text=True,
    )

  def run(*argv):
    before = log.stat().st_size
    child.stdin.write(json.dumps(argv) + "\n")
    child.stdin.flush()
    said = [""]
    while not said[-1].startswith("exit "):
      said.append(child.stdout.readline())
      assert said[-1], log.read_text()[-3000:]
    stderr = log.read_bytes()[before:].decode()
    return subprocess.CompletedProcess(argv, int(said[-1].split()[1]), "".join(said), stderr)

  yield run
  child.stdin.close()
  assert child.wait(timeout=60) == 0


def lines(workdir):
  path = workdir / "metrics.jsonl"
  return path.read_text().splitlines() if path.exists() else []


def metrics(workdir):
  """Rows of metrics.jsonl without what depends on the clock."""
  rows = [json.loads(line) for line in lines(workdir)]
  return [{k: v for k, v in row.items() if not k.startswith(CLOCK)} for row in rows]


def has(workdir, phase, step):
  """Whether a step is in metrics.jsonl."""
  return any(f'"phase": "{phase}", "step": {step},' in line for line in lines(workdir))
