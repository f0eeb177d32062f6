"""Who answers back, behind one interface: `connect(config, folder) -> User`."""

from __future__ import annotations

from pathlib import Path

from gtalign_jax.endpoint import there
from gtalign_jax.endpoint_sections import UserConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.users.base import User
from gtalign_jax.users.policy import PolicyUser, Speak
from gtalign_jax.users.recorded import RecordedUser
from gtalign_jax.users.rule import RuleUser


def connect(config: UserConfig, folder: Path | None = None, speak: Speak | None = None) -> User:
  """The user that a config names; writes nothing before its first reply.

  folder: holds the cache of replies where the config names none (None: no cache then). speak: asks
  the model of kind policy. Raises BadInput where something that the kind needs cannot be used.
  """
  if config.kind == "http":
    from gtalign_jax.parallel import distributed
    from gtalign_jax.users.http import HttpUser  # deferred: httpx2 and jax take long

    return HttpUser(config, distributed.own_file(config.cache_file(folder)))
  if config.kind == "policy":
    if speak is None:
      raise BadInput(
        "conversation.user.kind='policy' needs a model in this process; serve the model and take "
        "http, or call users.connect(config, speak=…) from Python"
      )
    return PolicyUser(config, speak)
  return RecordedUser(config.log) if config.kind == "recorded" else RuleUser()


def check(config: UserConfig) -> None:
  """Raises BadInput or RunFailure where the user is not there (endpoint/there.py)."""
  there.check(config, lambda: connect(config))
