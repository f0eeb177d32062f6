"""Whether whoever answers in the place of a person, a judge or a user, is there: for preflight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gtalign_jax.endpoint_sections import AnswererConfig
from gtalign_jax.errors import BadInput


class Closes(Protocol):
  """What a recorded judge or user is, as far as it matters here."""

  def close(self) -> None: ...


def check(config: AnswererConfig, connect: Callable[[], Closes]) -> None:
  """Cheap: one small request (http), or one look at the log that `connect` reads (recorded).

  Raises BadInput, or RunFailure where an endpoint does not answer.
  """
  if config.kind == "http":
    from gtalign_jax.endpoint import answers  # deferred: httpx2 takes long

    answers.check(config)
  if config.kind == "recorded":
    try:
      connect().close()
    except BadInput as error:
      raise BadInput(f"{config.SECTION}.log: {error}; name a log of {config.ANSWERS}") from None
