"""Judges behind one interface: `make(config, workdir) -> Judge`."""

from __future__ import annotations

from pathlib import Path

from gtalign_jax.errors import BadInput
from gtalign_jax.rewards.judges.base import Judge
from gtalign_jax.sections import JudgeConfig


def make(config: JudgeConfig, workdir: str | Path | None = None) -> Judge:
  """The judge that a config names; writes nothing before its first verdict.

  workdir: holds the cache of verdicts (None: no cache file).
  """
  if config.kind == "http":
    from gtalign_jax.rewards.judges.http import HttpJudge  # deferred: openai takes a second to load

    return HttpJudge(config, workdir)
  if config.kind == "recorded":
    from gtalign_jax.rewards.judges.recorded import RecordedJudge

    return RecordedJudge(config.log)
  from gtalign_jax.rewards.judges.rule import RuleJudge

  return RuleJudge()


def check(config: JudgeConfig) -> None:
  """Is the judge there? Cheap: one small request (http), or one look at the log (recorded).

  Raises BadInput, or RunFailure where an endpoint does not answer.
  """
  if config.kind == "http":
    from gtalign_jax.rewards.judges.ping import ping  # deferred: openai

    ping(config)
  if config.kind == "recorded":
    try:
      make(config).close()
    except BadInput as error:
      raise BadInput(f"rewards.judge.log: {error}; name a log of verdicts") from None
