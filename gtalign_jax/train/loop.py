"""The main job: evaluate the start, warm up, evaluate, GRPO, evaluate, report.

A run is restartable at any point: the same command resumes at the last committed step and ends with
the metrics of an uninterrupted run. `DONE` marks the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import jax

from gtalign_jax.config import Config
from gtalign_jax.evaluate import report
from gtalign_jax.files import replace
from gtalign_jax.models import export
from gtalign_jax.parallel import distributed
from gtalign_jax.train import checkpoint, grpo, preflight, sft, state
from gtalign_jax.train.run import Run

log = logging.getLogger(__name__)


def _finish(run: Run, trainable, model: bool) -> None:
  """Writes the report, the policy where it is the product of the run, and the mark of the end."""
  run.clock.save()
  params = None
  if model:  # every process holds a part of it; not as decoding reads it, which may be rounded
    whole = state.merged(run.held, trainable, run.config.policy)
    params = jax.tree.map(distributed.to_host, whole)
  if not run.main:
    return
  run.writer.sync()
  if model:
    held = run.held
    folder = run.workdir / "model"
    export.save(held.arch, params, held.tokenizer, folder, eos_ids=held.eos_ids)
  else:
    log.info("report: %s", report.write(run.workdir))
  replace(run.workdir / "DONE", "")


@contextlib.contextmanager
def _opened(config: Config, scored: bool = True) -> Iterator[Run]:
  """The run's resources, once nothing speaks against it; nothing is written before."""
  main = distributed.is_main()
  with (
    distributed.Interrupts() as interrupts,
    preflight.claimed(config, main) as workdir,
    Run(config, workdir, interrupts) as run,
  ):
    sets = {config.data.train_split: run.train_set, config.data.eval_split: run.test_set}
    records = {split: each.records for split, each in sets.items()}
    preflight.check(config, records, sets, run.held.trainable, main, scored)
    preflight.claim(config, main)
    yield run


def train(config: Config) -> Path | None:
  """Runs the main job of `config`. Does nothing where it is DONE.

  Returns the work directory; None on every process but the main one.
  """
  workdir = Path(config.workdir)
  if preflight.is_done(workdir):
    log.info("%s is DONE; nothing to do", workdir)
    return workdir
  distributed.initialize()
  with _opened(config) as run:
    trainable = run.held.trainable
    run.writer.resume(_committed(workdir))
    run.evaluate_once("base", trainable)
    if config.sft.steps:
      trainable = sft.train(run, trainable)
      run.evaluate_once("sft", trainable)
    if config.grpo.steps:
      trainable = grpo.train(run, trainable)
    _finish(run, trainable, model=False)
    return workdir if run.main else None


def warm_start(config: Config) -> Path | None:
  """Runs the supervised phase alone; `<workdir>/model` then holds the policy, for `model=`.

  Returns as `train` does.
  """
  config = dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, steps=0))
  workdir = Path(config.workdir)
  if preflight.is_done(workdir):
    log.info("%s is DONE; nothing to do", workdir)
    return workdir
  distributed.initialize()
  with _opened(config, scored=False) as run:
    run.writer.resume(_committed(workdir))
    trainable = sft.train(run, run.held.trainable)
    _finish(run, trainable, model=True)
    return workdir if run.main else None


def _committed(workdir: Path) -> dict[str, int]:
  """Newest complete step of each phase."""
  phases = ("sft", "grpo")
  return {phase: checkpoint.newest(workdir / "checkpoints" / phase) or 0 for phase in phases}
