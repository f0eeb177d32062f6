"""The main job: evaluate the start, warm up, evaluate, GRPO, evaluate, report.

A run is restartable at any point: the same command resumes at the last committed step and ends with
the metrics of an uninterrupted run. `DONE` marks the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax

from gtalign_jax import report
from gtalign_jax.config import Config
from gtalign_jax.files import replace
from gtalign_jax.models import export
from gtalign_jax.parallel import distributed, mesh
from gtalign_jax.progress import progress
from gtalign_jax.report import card
from gtalign_jax.train import checkpoint, grpo, preflight, services, setup, sft, state
from gtalign_jax.train.clock import Clock
from gtalign_jax.train.evaluation import evaluate_once, is_evaluated
from gtalign_jax.train.services import Services
from gtalign_jax.train.setup import Setup
from gtalign_jax.types import TrainState

log = logging.getLogger(__name__)


def train(config: Config) -> Path | None:
  """Runs the main job of `config`. Does nothing where it is DONE; with more steps it goes on.

  Returns the work directory; None on every process but the main one.
  """
  if preflight.is_finished(config):
    return Path(config.workdir)
  with _opened(config) as (run, tools, policy):
    phase = _announced(config)
    next(phase)
    evaluate_once(run, tools, "base", policy.params)
    if config.sft.steps:
      next(phase)
      wanted = _is_wanted(run, tools)
      if wanted:
        policy = sft.train(run, tools, policy)
      next(phase)
      if wanted:
        evaluate_once(run, tools, "sft", policy.params)
    if config.grpo.steps:
      next(phase)
      policy = grpo.train(run, tools, policy)
    tools.clock.save()
    if not tools.main:
      return None
    tools.writer.sync()
    log.info("report: %s", report.write(tools.workdir))
    replace(tools.workdir / "DONE", "")
    return tools.workdir


def _announced(config: Config) -> Iterator[None]:
  """Says at each `next` which phase of `train` begins, and how many there are."""
  phases = ["evaluation of the base policy"]
  if config.sft.steps:
    phases += [f"warm start, {config.sft.steps} updates", "evaluation of the SFT policy"]
  if config.grpo.steps:
    phases.append(f"GRPO, {config.grpo.steps} steps and their evaluations")
  for number, name in enumerate(phases, start=1):
    log.info("phase %d of %d: %s", number, len(phases), name)
    yield


def _is_wanted(run: Setup, tools: Services) -> bool:
  """Whether the end of the warm start is still needed: GRPO's checkpoints hold what it led to."""
  begun = distributed.from_main(checkpoint.committed(tools.workdir)["grpo"]) > 0
  return not begun or run.config.has_reference or not is_evaluated(run, tools, "sft")


def warm_start(config: Config) -> Path | None:
  """Runs the supervised phase alone; `<workdir>/model` then holds the policy, for `model=`.

  Returns as `train` does.
  """
  config = dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, steps=0))
  if preflight.is_finished(config):
    return Path(config.workdir)
  with _opened(config, scored=False) as (run, tools, policy):
    policy = sft.train(run, tools, policy)
    tools.clock.save()
    # every process holds a part of it; not as decoding reads it, which may be rounded
    params = jax.tree.map(distributed.to_host, state.merged(run, policy.params))
    if not tools.main:
      return None
    tools.writer.sync()
    folder = tools.workdir / "model"
    # of an earlier end of this run; export refuses a folder that is not empty
    shutil.rmtree(folder, ignore_errors=True)
    words = card.text(report.load(tools.workdir), card.Policy("sft", config.sft.steps))
    export.save(run.arch, params, run.tokenizer, folder, eos_ids=run.eos_ids, card=words)
    replace(tools.workdir / "DONE", "")
    return tools.workdir


@contextlib.contextmanager
def _opened(config: Config, scored: bool = True) -> Iterator[tuple[Setup, Services, TrainState]]:
  """Setup, services and the policy to begin with, once nothing speaks against the run.

  Nothing is written before that; the metrics then continue at the last checkpoint.
  """
  distributed.initialize()
  main = distributed.is_main()
  with (
    distributed.Interrupts() as interrupts,
    distributed.blaming(),
    preflight.claimed(config) as workdir,
  ):
    clock = Clock(workdir, main)
    try:
      with clock.phase("load"), progress("loading prompts and model"):
        records = setup.records(config)
        preflight.check(config, records, scored)
        read = preflight.check_contents(config, records)
        run, policy = setup.load(config, mesh.make(config.mesh), records)
        preflight.check_disk(config, policy.params)
    except BaseException:
      clock.stop()
      raise
    preflight.claim(config, read)
    if main:
      checkpoint.keep_frame(workdir, run.arch, run.tokenizer, run.eos_ids)
    with clock, services.opened(config, run, clock, interrupts) as tools:
      tools.writer.resume(checkpoint.position(workdir, config.sft.steps))
      yield run, tools, policy
