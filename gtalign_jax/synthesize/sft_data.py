"""Supervision for the warm start: token ids of prompts and of the chains that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gtalign_jax import files, jsonl
from gtalign_jax.config import Config
from gtalign_jax.data import prompts
from gtalign_jax.data.plain import plain
from gtalign_jax.data.records import Record, from_row
from gtalign_jax.errors import BadInput
from gtalign_jax.sections import DataConfig, SFTConfig
from gtalign_jax.synthesize import labels

Pair = tuple[np.ndarray, np.ndarray]


def examples(
  encoded: prompts.Encoded,
  tokenizer: Any,
  sft_config: SFTConfig,
  *,
  seed: int,
  data_config: DataConfig,
  eos_ids: Sequence[int] = (),
  config: Config | None = None,
) -> tuple[list[Pair], int]:
  """((prompt_ids, completion_ids) pairs, count left out).

  Chains come from the file `sft.data`, else from the labels of `encoded`. Completions end with the
  tokenizer's EOS, or where sampling does not end at that, with the first of `eos_ids`. config: of
  the run, for chains whose payoffs follow from it (concierge), and for second turns (labels.later)
  where conversations have them. Left out:
  pairs over `sft.max_tokens`, and rows whose prompt is over `data.max_prompt_tokens`. Raises
  BadInput on a malformed file.
  """
  later: list[tuple[Record, labels.Later]] = []
  if sft_config.data:
    encoded, texts = _from_file(Path(sft_config.data), tokenizer, data_config)
  else:
    texts = [labels.chain(record, seed, config) for record in encoded.records]  # those that fit
    if config and config.conversation.turns > 1:
      tried = ((record, labels.later(record, seed, config)) for record in encoded.records)
      later = [(record, found) for record, found in tried if found]
  asked = [*encoded.ids, *_contexts(later, tokenizer, data_config)]
  texts = [*texts, *(found.chain for _, found in later)]
  end = tokenizer.eos_token_id
  end = end if end in eos_ids or not eos_ids else eos_ids[0]
  # labels and questions are quoted in chains: a control token in them is text there as well
  ids = prompts.text_ids(texts, tokenizer)
  completions = [np.asarray([*each, end], np.int32) for each in ids]
  pairs = [
    (prompt, completion)
    for prompt, completion in zip(asked, completions, strict=True)
    if len(prompt) + len(completion) <= sft_config.max_tokens
  ]
  # prompts of the training set that were too long were counted when it was encoded
  too_long = encoded.left_out if sft_config.data else 0
  return pairs, len(completions) - len(pairs) + too_long


def _contexts(
  later: Sequence[tuple[Record, labels.Later]], tokenizer: Any, data_config: DataConfig
) -> list[np.ndarray]:
  """What the policy reads before each later turn."""
  records = [record for record, _ in later]
  return prompts.continued(records, [found.said for _, found in later], tokenizer, data_config)


def rows(path: str | Path) -> list[tuple[Record, str]]:
  """(record, chain) of each line of `gtalign synthesize`.

  Raises BadInput where there is none, and, naming the line, where one is malformed.
  """
  path, found = files.named(path), []
  for number, row in jsonl.read(path):
    where = f"{path}:{number}"
    completion = row.get("completion")
    if not isinstance(completion, str) or not completion:
      raise BadInput(
        f"{where}: completion must be a non-empty text; write it by gtalign synthesize"
      )
    found.append((from_row(row, where, f"{path}/{number}"), plain(completion)))
  if not found:
    raise BadInput(f"sft.data={str(path)!r} holds no chains")
  return found


def _from_file(
  path: Path, tokenizer: Any, data_config: DataConfig
) -> tuple[prompts.Encoded, list[str]]:
  """Prompts in the run's own template, with the chain of each prompt that fits."""
  found = rows(path)
  # the position as id, because a file may hold several chains of one prompt
  numbered = [record._replace(id=str(index)) for index, (record, _) in enumerate(found)]
  encoded = prompts.encode(numbered, tokenizer, data_config)
  return encoded, [found[int(record.id)][1] for record in encoded.records]
