"""Judges behind one interface: `make(config, folder) -> Judge`."""

from __future__ import annotations

from pathlib import Path

from gtalign_jax.endpoint import there
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.rewards.judges.base import Judge


def make(config: JudgeConfig, folder: Path | None = None) -> Judge:
  """The judge that a config names; writes nothing before its first verdict.

  folder: holds the cache of verdicts where the config names none (None: no cache then).
  """
  if config.kind == "http":
    from gtalign_jax.parallel import distributed
    from gtalign_jax.rewards.judges.http import HttpJudge  # deferred: httpx2 and jax take long

    return HttpJudge(config, distributed.own_file(config.cache_file(folder)))
  if config.kind == "recorded":
    from gtalign_jax.rewards.judges.recorded import RecordedJudge

    return RecordedJudge(config.log)
  from gtalign_jax.rewards.judges.rule import RuleJudge

  return RuleJudge()


def beside(output: Path) -> Path | None:
  """The folder for the verdicts behind an output file; None where it is no file (a pipe)."""
  return None if output.exists() and not output.is_file() else output.parent


def check(config: JudgeConfig) -> None:
  """Raises BadInput or RunFailure where the judge is not there (endpoint/there.py)."""
  there.check(config, lambda: make(config))
