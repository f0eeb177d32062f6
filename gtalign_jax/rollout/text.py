"""What completions say: ids to the columns of `gtalign generate`, without a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gtalign_jax.models import vocabulary
from gtalign_jax.rewards import chain, features
from gtalign_jax.rollout.talk import Row
from gtalign_jax.types import GAME, Rollout


def written(
  tokenizer: Any,
  prompt_tokens: int,
  rollout: Rollout,
  eos_ids: Sequence[int],
  head: Sequence[int] = (),
  form: str = GAME,
) -> list[Row]:
  """What rows of `gtalign generate` say of the completions of one prompt.

  rollout: its G rows, on the host. head: ids that they all begin with. control_tokens counts
  special tokens other than the EOS that ends a row: text does not tell `<|im_start|>` from its
  spelling, and other readers of the ids see a turn begin there.
  """
  control = vocabulary.control_ids(tokenizer)
  rows = []
  for sampled, stopped in rows_of(rollout):
    ids = [*head, *sampled]
    completion = vocabulary.spell(tokenizer, ids, eos_ids)
    row = {
      "completion": completion,
      "finish_reason": "stop" if stopped else "length",
      "prompt_tokens": prompt_tokens,
      "completion_tokens": len(ids),
      "control_tokens": sum(int(each) in control for each in vocabulary.body(ids, eos_ids)),
      # before a row is scored: a price per token reads it
      "response_tokens": response_tokens(tokenizer, completion, form, not stopped),
    }
    rows.append(row)
  return rows


def uncounted(completion: str, form: str = GAME, finish_reason: str = "stop") -> Row:
  """What `written` says, of a text that nobody has tokenised."""
  response = _response(completion, form, finish_reason == "length")
  return {
    "completion": completion,
    "finish_reason": finish_reason,
    "prompt_tokens": 0,
    "completion_tokens": features.words(completion),
    "control_tokens": 0,
    "response_tokens": features.words(response),
  }


def response_tokens(tokenizer: Any, completion: str, form: str = GAME, cut: bool = False) -> int:
  """Tokens of the response block, which is all that a user reads; 0 without one.

  Of the text, not as sampled: a price per token then pays for no odd spelling of it.
  """
  response = _response(completion, form, cut)
  return len(tokenizer.encode(response, add_special_tokens=False)) if response else 0


def _response(completion: str, form: str, cut: bool) -> str:
  return chain.contents(completion, chain.blocks(completion, form=form, cut=cut).spans[-1]) or ""


def rows_of(rollout: Rollout) -> Iterator[tuple[np.ndarray, bool]]:
  """(token ids, whether the row stopped by itself) of each row."""
  for tokens_C, mask_C, stopped in zip(
    rollout.tokens_BC, rollout.mask_BC, rollout.stopped_B, strict=True
  ):
    yield tokens_C[mask_C.astype(bool)], bool(stopped)
