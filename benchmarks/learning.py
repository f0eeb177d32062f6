"""What the chain buys, what the welfare buys: a grid of runs (form x reward x turns x seed) as one job.

  python benchmarks/learning.py ROOT --grid concierge|released|smoke [--minutes N] [--forms game,none --rewards linear …] [key=value …]

Every form of the chain has one warm start, from which all of its runs begin; every run has the same budget; every policy answers the
same held-out prompts with the same seeds, under one reward, so that U, L and W compare whatever it was trained on. The same command
goes on after any stop, kill or failure; what failed is tried again. After each policy ROOT/table.md, report.html and plots/ are made
anew by `gtalign compare` from ROOT/rows/ alone: they are valid at any time. `--minutes N` stops in time for a lease; runs train
adapters, so that ROOT is small without its folders `model/`, which are made again from the checkpoints where they are missing
(carry it with `--exclude model`). key=value changes every run. Prints a line of JSON: jobs done, failed, left.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from gtalign_jax import config as configs
from gtalign_jax import files
from gtalign_jax.cli.evaluate import READ

REWARDS = {
  "cobb_douglas": (), "user": ("rewards.variant=user",), "llm": ("rewards.variant=llm",),
  "linear": ("rewards.variant=linear",), "calibrated": ("rewards.llm_calibration=0.1",),
  "paper": ("rewards.mode=paper",), "intervened": ("rollout.intervene=0.25",),
}  # fmt: skip
LORA = (
  "policy.lora_rank=16",
  "policy.lora_alpha=32.0",
)  # rates and rank of configs/lora.py: usual, not tuned
BUDGET = (
  "grpo.steps=24",
  "grpo.prompts_per_step=8",
  "rollout.group_size=8",
  "optim.lr=1e-3",
  "checkpoint.every=2",
  "checkpoint.keep=1",
)
HELD_OUT = ("eval.prompts=64", "eval.group_size=4")
STOPPED = "out of time"
GRACE = 120  # seconds that a command gets to save itself at the end of a lease


class Cell(NamedTuple):
  form: str
  reward: str
  turns: int
  seed: int

  @property
  def name(self):
    return f"{self.form}-{self.reward}-t{self.turns}-s{self.seed}"


class Grid(NamedTuple):
  """config: of all runs. cells: in the order of their worth, for a grid that is stopped early.

  data: overrides of every command; sft, train, held_out: of warm starts, of runs, of evaluations.
  intervene: of runs whose reward is `intervened`. edits: whether evaluations measure what edits of
  the matrix do.
  """

  config: str
  cells: tuple[Cell, ...]
  data: tuple[str, ...] = ()
  sft: tuple[str, ...] = (*LORA, "sft.optim.lr=2e-3")
  train: tuple[str, ...] = (*LORA, *BUDGET)
  held_out: tuple[str, ...] = HELD_OUT
  intervene: tuple[str, ...] = ()
  edits: bool = True


def cells(turns):
  """The questions of the table, the main ones first; a second seed of three of them at the end."""
  asked = [
    ("game", "cobb_douglas"),
    ("none", "cobb_douglas"),
    ("game", "linear"),
    ("think", "cobb_douglas"),
    ("game", "paper"),
  ]
  asked += [("game", reward) for reward in ("calibrated", "intervened", "user", "llm")]
  again = [("game", "cobb_douglas"), ("none", "cobb_douglas"), ("game", "linear")]
  return tuple(
    Cell(*each, turns, seed) for seed, part in enumerate((asked, again)) for each in part
  )


GRIDS = {
  "concierge": Grid("configs/concierge.py", cells(2), intervene=("rollout.prompt_buckets=(224,400,512)",)),
  "released": Grid(
    "configs/quickstart.py", cells(1), ("data.root=$GTALIGN_DATA",), intervene=("rollout.prompt_buckets=(256,568)",)
  ),
  "smoke": Grid(
    "configs/smoke.py", (Cell("game", "cobb_douglas", 1, 0), Cell("game", "linear", 1, 0)),
    sft=("policy.lora_rank=2", "sft.steps=1"), train=("policy.lora_rank=2", "grpo.steps=1"),
    held_out=("eval.prompts=4", "eval.group_size=2"), edits=False,
  ),
}  # fmt: skip


class Job(NamedTuple):
  """steps: (arguments of gtalign, what is there once they are done). A job is done with its last one.

  needs: names of jobs that come first. temporary: a folder that goes once the job is done.
  """

  name: str
  steps: tuple[tuple[tuple[str, ...], Path], ...]
  needs: tuple[str, ...] = ()
  temporary: Path | None = None

  @property
  def done(self):
    return self.steps[-1][1].exists()


def jobs(root, grid, extra=()):
  """All jobs of the grid, each after those that it needs; a form's warm start once."""
  found = {}
  for cell in grid.cells:
    for job in of_cell(root, grid, cell, extra):
      found.setdefault(job.name, job)
  return list(found.values())


def of_cell(root, grid, cell, extra):
  """Warm start, the policies before GRPO, and the run."""
  kind, form = f"{cell.form}-t{cell.turns}", (f"chain.form={cell.form}",) * (cell.form != "game")
  common = (*map(os.path.expandvars, grid.data), *form, f"conversation.turns={cell.turns}")
  warm, run = root / "warm" / kind, root / "runs" / cell.name
  start, model = warm / "model", run / "model"

  def command(name, workdir, *overrides):
    overrides = (*common, *overrides, f"workdir={workdir}", *extra)
    return (name, grid.config, *overrides), workdir / "DONE"

  def evaluation(name, policy):
    out, edits = (
      root / "rows" / f"{name}.jsonl",
      ("--intervene",) * (grid.edits and cell.form == "game"),
    )
    # every policy is measured alike, under the reward of the config
    more = [each for each in extra if each.startswith(READ)]
    model = f"model={policy}"
    asked = ("eval", grid.config, str(out), *common, *grid.held_out, *more, model, *edits)
    return asked, out

  def export(workdir, out, *flags):
    return ("export", "--checkpoint", str(workdir), "--out", str(out), *flags), out / "config.json"

  edited = grid.intervene if cell.reward == "intervened" else ()
  learned = command(
    "train", run, f"model={start}", "sft.steps=0", *grid.train, "eval.every=0", "eval.prompts=4",
    "eval.group_size=1", *REWARDS[cell.reward], *edited, f"seed={cell.seed}",
  )  # fmt: skip
  base, needs = configs.load(grid.config, list(extra)).model, (f"warm-{kind}",)
  return (
    Job(needs[0], (command("sft", warm, *grid.sft), export(warm, start, "--step", "sft"))),
    Job(f"base-{kind}", (evaluation(f"base-{kind}", base),)),
    Job(f"sft-{kind}", (evaluation(f"sft-{kind}", start),), needs),
    Job(cell.name, (learned, export(run, model), evaluation(cell.name, model)), needs, model),
  )


def launch(arguments, log, seconds=None):
  """Runs `gtalign arguments`; its exit code, None where it ran out of time. seconds: None for ever."""
  with log.open("ab") as file:
    child = subprocess.Popen(
      [sys.executable, "-m", "gtalign_jax", *arguments], stdout=file, stderr=file
    )
    try:
      return child.wait(seconds)
    except subprocess.TimeoutExpired:
      return None
    finally:
      if child.poll() is None:  # of an interrupt, too: it saves itself, and goes on next time
        child.terminate()
        try:
          child.wait(GRACE)
        except subprocess.TimeoutExpired:
          child.kill()


def work(root, wanted, state, deadline, run=launch):
  """Does the jobs in order; a failure ends what needs it and nothing else.

  state: what to tell of each job. The table is made after each policy, and at the end.
  """
  for job in wanted:
    told = state.setdefault(job.name, {"minutes": 0.0})
    lost = [need for need in job.needs if state[need]["state"] != "done"]
    if lost:
      told |= {"state": "waiting", "why": f"needs {', '.join(lost)}"}
      continue
    began, new = time.monotonic(), not job.done
    told |= {"state": "done", "why": ""}
    if new and (why := _fault(job, root / "logs" / f"{job.name}.log", deadline, run)):
      told |= {"state": "stopped" if why == STOPPED else "failed", "why": why}
    told["minutes"] += (time.monotonic() - began) / 60
    if job.done and job.temporary:
      shutil.rmtree(job.temporary, ignore_errors=True)
    if new and job.done:
      write(root, wanted, state, run)
  write(root, wanted, state, run)


def _fault(job, log, deadline, run):
  """Runs what is left of a job; why it ended before its end, "" where it did not."""
  for arguments, there in job.steps:
    if there.exists():
      continue
    left = None if deadline is None else deadline - time.monotonic()
    code = None if left is not None and left <= 0 else run(arguments, log, left)
    if code in (None, 130):  # 130: interrupted from outside, which says nothing of the run
      return STOPPED
    if code:
      return last(log)
  return ""


def last(log):
  """The line that says why a command failed."""
  lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
  told = [line for line in lines if line.startswith("gtalign: ")]
  return (told or lines or ["no word"])[-1][:300]


def write(root, wanted, state, run):
  """table.md, report.html and plots/ of the rows that are there, and the state of all jobs."""
  files.replace(root / "state.json", json.dumps(state, indent=1))
  rows = [
    str(path) for job in wanted if (path := job.steps[-1][1]).suffix == ".jsonl" and path.exists()
  ]
  head, table = "# The grid so far\n", root / "table.md"
  if len(rows) > 1:
    out = (
      "--markdown",
      str(root / "compared.md"),
      "--html",
      str(root / "report.html"),
      "--runs",
      str(root / "runs"),
    )
    code = run(
      ("compare", *rows, *out, "--plots", str(root / "plots")), root / "logs" / "compare.log"
    )
    head = (
      (root / "compared.md").read_text()
      if code == 0
      else f"# No table: {last(root / 'logs' / 'compare.log')}\n"
    )
  lines = [
    "",
    "## Jobs",
    "",
    "| job | state | updates | minutes | why |",
    "| --- | --- | ---: | ---: | --- |",
  ]
  for job in wanted:
    told = state.get(job.name, {"state": "waiting", "minutes": 0.0})
    why = told.get("why", "").replace("|", "\\|")
    lines.append(
      f"| {job.name} | {told.get('state', 'running')} | {updates(root / 'runs' / job.name)} | {told['minutes']:.1f} | {why} |"
    )
  files.replace(table, head + "\n".join(lines) + "\n")


def updates(run):
  path = run / "metrics.jsonl"
  return path.read_text().count('"phase": "grpo"') if path.exists() else ""


def chosen(grid, args):
  """The grid with the product of what was named in the place of its cells."""
  given = {key: getattr(args, key) for key in ("forms", "rewards", "turns", "seeds")}
  if not any(given.values()):
    return grid
  known = {key: list(dict.fromkeys(each)) for key, each in zip(given, zip(*grid.cells))}
  axes = [given[key].split(",") if given[key] else known[key] for key in given]
  product = itertools.product(*axes)
  return grid._replace(cells=tuple(Cell(f, r, int(t), int(s)) for f, r, t, s in product))


def main(argv=None, run=launch):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("root", type=Path)
  parser.add_argument("overrides", nargs="*", metavar="key=value")
  parser.add_argument("--grid", choices=GRIDS, default="concierge")
  parser.add_argument("--config", help="in the place of the grid's own")
  parser.add_argument("--minutes", type=float, help="stop in time for the end of a lease")
  for name in ("forms", "rewards", "turns", "seeds"):
    parser.add_argument(f"--{name}", help="of a product of your own, separated by commas")
  args = parser.parse_intermixed_args(argv)
  began = time.monotonic()
  grid = chosen(GRIDS[args.grid], args)
  grid = grid._replace(config=args.config or grid.config)
  for reward in {cell.reward for cell in grid.cells} - set(REWARDS):
    parser.error(f"--rewards {reward} is not one of {', '.join(REWARDS)}")
  for folder in ("logs", "rows"):
    (args.root / folder).mkdir(parents=True, exist_ok=True)
  wanted = jobs(args.root, grid, tuple(args.overrides))
  # of an earlier start: minutes add up
  path = args.root / "state.json"
  state = json.loads(path.read_text()) if path.exists() else {}
  # what is left is for the command to save itself, which compiling holds up, and for the table
  left = None if args.minutes is None else 60 * args.minutes
  deadline = None if left is None else began + left - min(GRACE + 60, 0.3 * left)
  signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a child is told as well
  try:
    work(args.root, wanted, state, deadline, run)
  except KeyboardInterrupt:
    sys.exit("stopped; the same command goes on")
  count = [state[job.name]["state"] for job in wanted]
  print(
    json.dumps(
      {
        "done": count.count("done"),
        "failed": count.count("failed"),
        "left": len(count) - count.count("done"),
      }
    )
  )
  return 0


if __name__ == "__main__":
  sys.exit(main())
