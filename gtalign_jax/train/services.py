"""The active half of a run: what holds files, connections and compiled programs until closed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gtalign_jax import config as configs
from gtalign_jax.config import Config
from gtalign_jax.parallel import distributed
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.rollout.engine import Engine
from gtalign_jax.rollout.talk import Environment, environment
from gtalign_jax.train import metrics
from gtalign_jax.train.clock import Clock
from gtalign_jax.train.setup import Setup, evaluation_engine


class Services(NamedTuple):
  """Passed to the phases, which use each where its name stands.

  main: whether this process writes. evaluator: samples evaluations; its programs are compiled once.
  """

  main: bool
  workdir: Path
  environment: Environment
  writer: metrics.Writer
  clock: Clock
  interrupts: distributed.Interrupts
  programs: Executables
  evaluator: Engine


def public(config: Config) -> dict[str, Any]:
  """The config as W&B may see it: without the judge's address, which may hold a key."""
  private = (".base_url", ".api_key_env")
  return {k: v for k, v in configs.flat(configs.as_dict(config)).items() if not k.endswith(private)}


@contextlib.contextmanager
def opened(
  config: Config, setup: Setup, clock: Clock, interrupts: distributed.Interrupts
) -> Iterator[Services]:
  """The services of a run; all are closed at the end, whatever ends it."""
  workdir, main = Path(config.workdir), distributed.is_main()
  programs = Executables(setup.mesh)
  evaluator = evaluation_engine(setup, programs)
  with contextlib.ExitStack() as stack:
    met = stack.enter_context(
      environment(config.rewards, config.conversation, config.data, workdir, form=config.chain.form)
    )
    writer = metrics.Writer(
      workdir, config.log, main=main, settings=public(config), watch=config.watch
    )
    stack.enter_context(writer)
    yield Services(main, workdir, met, writer, clock, interrupts, programs, evaluator)
