"""What the ids of a model mean: which have a token, which end a turn, how they are spelled."""

import functools
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.types import BLOCKS, CELLS

_TAGS = [tag for block in BLOCKS for tag in (f"<{block}>", f"</{block}>")]
# what a tokenizer must spell for a chain to be read: tags, keys in upper and lower case, numbers
_CHAIN = "".join(_TAGS) + '{"' + '": {"LLM": 0.5, "user": -12.0}, "'.join(CELLS) + '"}'


def eos_ids(named: Sequence[tuple[str, Any]], tokenizer, where: str) -> tuple[int, ...]:
  """Every id that ends a turn: the first value of `named`, (where it stands, value), that has one.

  Raises BadInput where there is none, or one is no id of a token.
  """
  tokens = tokenizer.get_vocab().values()
  for place, value in named:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    # by type: True is an int to isinstance, and token 1
    if any(type(each) is not int or each not in tokens for each in ids):
      raise BadInput(
        f"model {where}: eos_token_id={repr(value)[:60]} of {place} must be ids of tokens; correct "
        "it there"
      )
    if ids and tokenizer.eos_token_id is None:  # a warm start must be able to write one
      tokenizer.eos_token = tokenizer.convert_ids_to_tokens(min(ids))
    if ids:
      return tuple(sorted(set(ids)))
  raise BadInput(
    f"model {where}: nothing says which token ends a turn ({', '.join(p for p, _ in named)}); "
    "set eos_token_id in generation_config.json"
  )


def blank(tokenizer, vocab_size: int, where: str) -> tuple[tuple[int, int], ...]:
  """Runs [first, end) of the model's ids that no token spells.

  Raises BadInput where the tokenizer has ids that the model has no row for.
  """
  # heads are padded to a size that splits well: Qwen2.5 has 151,936 rows for 151,665 tokens
  tokens = {index: token for token, index in tokenizer.get_vocab().items()}
  largest = max(tokens, default=-1)
  if largest >= vocab_size:
    raise BadInput(
      f"model {where}: token {tokens[largest][:60]!r} has id {largest}, but the model has rows for "
      f"ids below vocab_size={vocab_size}; use the tokenizer of these weights, or add rows"
    )
  ends = [-1, *sorted(tokens), vocab_size]
  return tuple((a + 1, b) for a, b in itertools.pairwise(ends) if a + 1 < b)


def check_chain(tokenizer, where: str) -> None:
  """Raises BadInput where tags and payoffs do not survive encoding and decoding."""
  found = spell(tokenizer, tokenizer.encode(_CHAIN, add_special_tokens=False)).strip()
  if found != _CHAIN:
    same = next((i for i, (a, b) in enumerate(zip(found, _CHAIN)) if a != b), len(found))
    raise BadInput(
      f"model {where}: its tokenizer cannot spell a chain: {_CHAIN[same : same + 24]!r} comes back "
      f"as {found[same : same + 24]!r}; use a model whose tokenizer keeps tags, case and numbers"
    )


@functools.lru_cache(maxsize=8)  # asked for every row
def control_ids(tokenizer) -> frozenset[int]:
  """Ids of special tokens; tags of the chain that were added as such are text, and left out."""
  added = tokenizer.added_tokens_decoder.items()
  return frozenset(i for i, token in added if token.special and token.content not in _TAGS)


def body(ids: Iterable[int], ends: Collection[int]) -> list[int]:
  """`ids` without the last one where it is one of `ends`."""
  kept = [int(each) for each in ids]
  return kept[:-1] if kept and kept[-1] in ends else kept


def spell(tokenizer, ids: Iterable[int], ends: Collection[int] = ()) -> str:
  """The text of `body(ids, ends)`, special tokens spelled out."""
  # one inside a completion is a fault that must be seen, and tags may have been added as special
  exact = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
  return tokenizer.decode(body(ids, ends), **exact)
