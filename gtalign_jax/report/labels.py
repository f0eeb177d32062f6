"""How the report names and colours policies and actions, in tables, charts and sample chains."""

from __future__ import annotations

from gtalign_jax.looks import look
from gtalign_jax.types import ACTION_WORDS as ACTION_WORDS
from gtalign_jax.types import POLICIES

NAMES = {"base": "base", "sft": "SFT", "grpo": "GRPO"}
# Legible on white and on near-black, and told apart by readers who see no red or green.
TINTS = ("#8c96a3", "#3b8bd0", "#e07b39", "#8f6fc8", "#3aa38a", "#c4628f")
COLOURS = dict(zip(reversed(POLICIES), TINTS))
TYPE_WORDS = {"DQ": "definite (DQ)", "VQ": "vague (VQ)"}
# how a conversation ended, in the order of the columns of its table
ENDED_WORDS = {
  "answered": "answered", "left": "the user left", "turns": "out of turns",
  "unreadable": "unreadable chain", "invalid": "the user failed",
}  # fmt: skip


def label(policy: str) -> str:
  """How the report writes a policy's name."""
  return NAMES.get(policy, policy)


def colour(policy: str, index: int = 0) -> str:
  """The colour of a policy or run in every chart; `index` picks that of one that has none."""
  return COLOURS.get(policy, look(index).color)
