"""Any model at hand plays the user: a policy of this package, or a fine-tuned user model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gtalign_jax.endpoint_sections import UserConfig
from gtalign_jax.errors import RunFailure
from gtalign_jax.users import role
from gtalign_jax.users.base import Reaction, Talk, User

Chat = list[dict[str, str]]
Speak = Callable[[list[Chat]], Sequence[str]]  # chats -> the model's text for each


class PolicyUser(User):
  """speak: how the model is asked; a chat is one user message that holds the whole part."""

  def __init__(self, config: UserConfig, speak: Speak):
    self._config, self._speak = config, speak

  def replies(self, talks: Sequence[Talk]) -> list[Reaction]:
    """See User. Raises RunFailure where the model does not answer each chat."""
    prompts = [role.prompt(talk, self._config) for talk in talks]
    texts = self._speak([[{"role": "user", "content": each}] for each in prompts])
    if len(texts) != len(talks):
      raise RunFailure(f"conversation.user: {len(texts)} texts for {len(talks)} chats")
    return [role.reaction(role.line(text), self._config.max_words) for text in texts]
