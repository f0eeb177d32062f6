"""A model behind an OpenAI-compatible endpoint plays the user; a failure is no answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gtalign_jax.endpoint.answers import Answers, Wanted
from gtalign_jax.endpoint.stats import Stats
from gtalign_jax.endpoint_sections import UserConfig
from gtalign_jax.users import role
from gtalign_jax.users.base import Reaction, Talk, User


class HttpUser(User):
  """Raises BadInput where the endpoint's address or the cache cannot be used.

  cache: the file of replies; None: they are not kept.
  """

  def __init__(self, config: UserConfig, cache: Path | None):
    self._config, self._stats = config, Stats("user")
    self._answers = Answers[str](config, cache, self._stats)

  def replies(self, talks: Sequence[Talk]) -> list[Reaction]:
    """See User. Equal conversations, as samples of one prompt often are, are asked once."""
    # lines are kept, not reactions: another max_words is no reason to ask again
    wanted = [Wanted("user", role.prompt(talk, self._config), role.line) for talk in talks]
    return [role.reaction(said, self._config.max_words) for said in self._answers.ask(wanted)]

  def statistics(self) -> dict[str, float]:
    """user/latency_p50 and _p95 (seconds a reply), user/cache_hit_frac, since the last call."""
    return self._stats.read()

  def close(self) -> None:
    self._answers.close()
