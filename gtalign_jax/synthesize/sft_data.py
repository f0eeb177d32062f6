"""Supervision for the warm start: token ids of prompts and of the chains that answer them."""

from __future__ import annotations

import logging
from bisect import bisect_left
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
from gtalign_jax.models.vocabulary import spell
from gtalign_jax.rewards import chain
from gtalign_jax.rollout.edit import STOP
from gtalign_jax.sections import DataConfig, SFTConfig
from gtalign_jax.synthesize import counterfactual, labels, requests
from gtalign_jax.types import GAME, has_payoff

log = logging.getLogger(__name__)
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

  Chains come from the file `sft.data`, else from the labels of `encoded`, and of its requests with
  the other type (requests.py). Completions end with the
  tokenizer's EOS, or where sampling does not end at that, with the first of `eos_ids`. config: of
  the run, for the form of the chains, for those whose payoffs follow from it (concierge), and for
  second turns (labels.later) where conversations have them. The last pairs, a share
  `sft.counterfactual` of all, continue other payoffs (counterfactual.py), which belong to their
  prompt. Left out: pairs over `sft.max_tokens`, and rows whose prompt is over
  `data.max_prompt_tokens`. Raises BadInput on a malformed file.
  """
  later: list[tuple[Record, labels.Later]] = []
  form = config.chain.form if config else GAME
  if sft_config.data:
    encoded, texts = _from_file(Path(sft_config.data), tokenizer, data_config, form)
  else:
    encoded = _of_both_types(encoded, tokenizer, data_config, seed, form)
    texts = [labels.chain(record, seed, config) for record in encoded.records]  # those that fit
    if config and config.conversation.turns > 1:
      tried = ((record, labels.later(record, seed, config)) for record in encoded.records)
      later = [(record, found) for record, found in tried if found]
  whole = len(texts) + len(later)
  share, edited = _share(sft_config, form, texts), []
  if share:  # of all pairs, `whole` of which are others
    count = max(round(whole * share / (1 - share)), 1)
    edited = counterfactual.chains(encoded.records, texts, count, seed)
  asked = [*encoded.ids, *_contexts(later, tokenizer, data_config, form)]
  asked += [encoded.ids[each.of] for each in edited]
  texts += [each.chain for _, each in later] + [each.text for each in edited]
  end = tokenizer.eos_token_id
  end = end if end in eos_ids or not eos_ids else eos_ids[0]
  # labels and questions are quoted in chains: a control token in them is text there as well
  ids = prompts.text_ids(texts, tokenizer)
  found = list(zip(asked, (np.asarray([*each, end], np.int32) for each in ids), strict=True))
  found[whole:] = [_after_payoffs(pair, tokenizer) for pair in found[whole:]]
  pairs = [pair for pair in found if sum(map(len, pair)) <= sft_config.max_tokens]
  # prompts of the training set that were too long were counted when it was encoded
  too_long = encoded.left_out if sft_config.data else 0
  return pairs, len(found) - len(pairs) + too_long


def _share(sft_config: SFTConfig, form: str, texts: Sequence[str]) -> float:
  """`sft.counterfactual`; 0 where it was not asked for and no chain can be edited.

  Raises BadInput where it was.
  """
  share = sft_config.counterfactual
  if not share or not has_payoff(form):
    return 0.0
  try:
    counterfactual.usable(texts)
  except BadInput as error:
    if share != SFTConfig().counterfactual:
      raise
    log.warning("the warm start has no chains of other payoffs: %s", error)
    return 0.0
  return share


def _of_both_types(
  encoded: prompts.Encoded, tokenizer: Any, data_config: DataConfig, seed: int, form: str
) -> prompts.Encoded:
  """The prompts, and behind them those of the same labels with the other type, where they fit."""
  found = [other for record in encoded.records if (other := requests.other(record, seed))]
  if not found or data_config.template == "released":  # whose instructions are in the request
    return encoded
  # one that fits goes with them: of prompts that are all too long, there would be an error
  more = prompts.encode([encoded.records[0], *found], tokenizer, data_config, form=form)
  records, ids = [*encoded.records, *more.records[1:]], [*encoded.ids, *more.ids[1:]]
  return encoded._replace(records=records, ids=ids)


def _after_payoffs(pair: Pair, tokenizer: Any) -> Pair:
  """The pair with the chain up to `</payoff>` moved from what is learned to what is read.

  Up to the token that completes it, as when a policy goes on from edited payoffs (rollout/edit.py).
  """
  prompt, ids = pair
  ends = range(len(ids) + 1)
  at = bisect_left(ends, True, key=lambda end: STOP in spell(tokenizer, ids[:end]))
  return np.concatenate([prompt, ids[:at]]), ids[at:]


def _contexts(
  later: Sequence[tuple[Record, labels.Later]],
  tokenizer: Any,
  data_config: DataConfig,
  form: str,
) -> list[np.ndarray]:
  """What the policy reads before each later turn."""
  records, said = [record for record, _ in later], [found.said for _, found in later]
  return prompts.continued(records, said, tokenizer, data_config, form)


def check(sft_config: SFTConfig, form: str = GAME) -> None:
  """Raises BadInput where `sft.data` cannot be read, or has nothing for `sft.counterfactual`."""
  _share(sft_config, form, [text for _, text in rows(sft_config.data)])


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
  path: Path, tokenizer: Any, data_config: DataConfig, form: str
) -> tuple[prompts.Encoded, list[str]]:
  """Prompts in the run's own template, with the chain, in `form`, of each prompt that fits."""
  found = rows(path)
  # the position as id, because a file may hold several chains of one prompt
  numbered = [record._replace(id=str(index)) for index, (record, _) in enumerate(found)]
  encoded = prompts.encode(numbered, tokenizer, data_config, form=form)
  texts = (found[int(record.id)][1] for record in encoded.records)
  return encoded, [chain.in_form(text, form) for text in texts]
