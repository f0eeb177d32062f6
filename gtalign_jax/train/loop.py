"""The main job: evaluate the start, warm up, evaluate, GRPO, evaluate, report.

A run is restartable at any point: the same command resumes at the last committed step and ends with
the metrics of an uninterrupted run. `DONE` marks the end.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
from contextlib import contextmanager
from pathlib import Path

import jax

from gtalign_jax.config import Config
from gtalign_jax.evaluate import report
from gtalign_jax.models import export
from gtalign_jax.parallel import distributed
from gtalign_jax.train import checkpoint, grpo, preflight, sft
from gtalign_jax.train.metrics import replace
from gtalign_jax.train.run import Run

log = logging.getLogger(__name__)


@contextmanager
def _interruptible():
  """SIGTERM (preemption) ends the run as Ctrl-C does: saves under way finish, nothing is damaged."""

  def stop(*_):
    raise KeyboardInterrupt

  previous = signal.signal(signal.SIGTERM, stop)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, previous)


def _finish(run: Run, trainable, model: bool) -> None:
  """Writes the report, the policy where it is the product of the run, and the mark of the end."""
  run.clock.save()
  if not run.main:
    return
  run.writer.sync()
  if model:
    params = run.decode_params(trainable)
    held = run.held
    folder = run.workdir / "model"
    export.save(held.arch, jax.device_get(params), held.tokenizer, folder, eos_ids=held.eos_ids)
  else:
    log.info("report: %s", report.write(run.workdir))
  replace(run.workdir / "DONE", "")


def train(config: Config) -> Path:
  """Runs the main job of `config`; returns the work directory. Does nothing where it is DONE."""
  workdir = Path(config.workdir)
  if preflight.is_done(workdir):
    log.info("%s is DONE; nothing to do", workdir)
    return workdir
  distributed.initialize()
  preflight.open_workdir(config, distributed.is_main())
  with _interruptible(), Run(config, workdir) as run:
    trainable = run.held.trainable
    run.writer.resume(_committed(workdir))
    run.evaluate_once("base", trainable)
    if config.sft.steps:
      trainable = sft.train(run, trainable)
      run.evaluate_once("sft", trainable)
    if config.grpo.steps:
      trainable = grpo.train(run, trainable)
    _finish(run, trainable, model=False)
  return workdir


def warm_start(config: Config) -> Path:
  """Runs the supervised phase alone; `<workdir>/model` then holds the policy, for `model=`."""
  config = dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, steps=0))
  workdir = Path(config.workdir)
  if preflight.is_done(workdir):
    log.info("%s is DONE; nothing to do", workdir)
    return workdir
  distributed.initialize()
  preflight.open_workdir(config, distributed.is_main())
  with _interruptible(), Run(config, workdir) as run:
    run.writer.resume(_committed(workdir))
    trainable = sft.train(run, run.held.trainable)
    _finish(run, trainable, model=True)
  return workdir


def _committed(workdir: Path) -> dict[str, int]:
  """Newest complete step of each phase."""
  phases = ("sft", "grpo")
  return {phase: checkpoint.newest(workdir / "checkpoints" / phase) or 0 for phase in phases}
