"""The section of conversations: how many turns, and who answers back (see sections.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

from gtalign_jax.endpoint_sections import UserConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import ascending, at_least, placed, settle

MOST_TURNS = 16  # rows of each turn draw numbers of their own: rollout/collect.py


@dataclass(frozen=True, kw_only=True)
class ConversationConfig:
  """Exchanges of several turns; every assistant turn is a row that is trained on."""

  turns: int = 1  # K: assistant turns at most; 1 = one answer, no user replies
  # prompt, responses and replies that a later turn reads; a longer one ends the conversation
  max_context_tokens: int = 512
  # padded lengths of what later turns read, tokens; () = max_context_tokens alone
  context_buckets: tuple[int, ...] = placed(())
  # later turns decoded together; others take the places that end; 0 = a quarter of the rows
  rows_at_once: int = placed(0)
  user: UserConfig = field(default_factory=UserConfig)

  def __post_init__(self):
    settle("conversation", self)
    at_least("conversation", self, 1, "turns", "max_context_tokens")
    at_least("conversation", self, 0, "rows_at_once")
    if self.turns > MOST_TURNS:
      raise BadInput(f"conversation.turns={self.turns}: must be at most {MOST_TURNS}")
    ascending("conversation", self, "context_buckets")
    if self.context_buckets and self.context_buckets[-1] < self.max_context_tokens:
      raise BadInput(
        f"conversation.max_context_tokens={self.max_context_tokens} is more than the largest of "
        f"conversation.context_buckets={self.context_buckets}; add a bucket or lower the limit"
      )

  @property
  def buckets(self) -> tuple[int, ...]:
    """Padded lengths of the contexts of later turns, tokens."""
    return self.context_buckets or (self.max_context_tokens,)
