"""Constrained decoding (`rollout.constrain`): every chain parses, and ends within its budgets.

The byte automaton of chains (chain_bytes.py) is run over the bytes of every token beforehand. Most
tokens do the same as many others in every state, so tables are of states x classes of tokens.
Budgets are the latest token by which each block must be closed; which tokens leave time enough is
in the tables as well, so that a row's own count is all that the device looks at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.errors import BadInput
from gtalign_jax.models.vocabulary import control_ids
from gtalign_jax.ops.grammar import END
from gtalign_jax.parallel import distributed
from gtalign_jax.rollout.chain_bytes import DEAD, Chains, chains
from gtalign_jax.rollout.edit import STOP
from gtalign_jax.rollout.stop import token_bytes
from gtalign_jax.types import Grammar

ALWAYS = 2**30  # a `latest` that no count reaches
CLASSES = 128  # of a vocabulary that is not known, in plans: SmolLM2 has 108
TAIL = 16  # tokens at the end of a prompt that can hold a closing tag, if each is a byte


class Constraint(NamedTuple):
  """grammar: on the devices. The rest is the host's: automaton, budgets, bytes of each token."""

  grammar: Grammar
  chains: Chains
  budgets: Mapping[str, int]
  bytes_V: Sequence[bytes]

  @property
  def total(self) -> int:
    """Tokens of a whole chain."""
    return sum(self.budgets.values())

  def begin(self, ids: Sequence[np.ndarray]) -> np.ndarray:
    """int32 state in which the completions of each prompt begin.

    A prompt that ends with the token that completes `</payoff>` is a chain that goes on from there,
    with what else that token held.
    """
    return np.asarray([self._begin(each) for each in ids], np.int32)

  def _begin(self, ids: np.ndarray) -> int:
    pieces = [self.bytes_V[each] for each in ids[-TAIL:]]
    text = b"".join(pieces)
    end = text.rfind(STOP.encode()) + len(STOP)
    if "payoff" not in self.budgets or end < len(STOP) or len(text) - end >= len(pieces[-1]):
      return self.chains.entry[0]
    resumed = self.chains.entry[list(self.budgets).index("payoff") + 1]
    # white space that another sampler wrote behind the tag is no part of the automaton
    return self.chains.after(text[end:], resumed) or resumed


def constraint(
  tokenizer: Any, vocab: int, budgets: Mapping[str, int], place: Any
) -> Constraint | None:
  """The constraint of a model; None where there are no budgets.

  budgets: most tokens of each block, in their order; what one leaves over is the next one's.
  place: sharding of the tables. Raises BadInput where the model needs more tokens for a chain.
  """
  if not budgets:
    return None
  bytes_V, made = token_bytes(tokenizer, vocab), chains(tuple(budgets))
  class_V, next_SC = classes(made.goto_SB, bytes_V, control_ids(tokenizer))
  _check(made, next_SC, budgets)
  ends = np.cumsum(list(budgets.values()))
  grammar = Grammar(class_V, next_SC, _latest(made, next_SC, ends))
  placed = distributed.to_device(grammar, Grammar(place, place, place))
  return Constraint(placed, made, budgets, bytes_V)


def classes(
  goto_SB: np.ndarray, bytes_V: Sequence[bytes], never: Collection[int]
) -> tuple[np.ndarray, np.ndarray]:
  """(class of each token, state after a token of each class [S, C]), both int32.

  never: ids that lead nowhere, as do those without bytes.
  """
  # Tokens as elements of the automaton's transition monoid, of which there are few hundred: a
  # token costs a look-up for each of its bytes, and not one for each of its bytes and states.
  column_SK, kind_B = np.unique(goto_SB, axis=1, return_inverse=True)
  kind_B = kind_B.reshape(-1)
  effects = [np.full(len(goto_SB), DEAD, np.int32), np.arange(len(goto_SB), dtype=np.int32)]
  numbers = {each.tobytes(): number for number, each in enumerate(effects)}
  products: dict[tuple[int, int], int] = {}
  number_V = np.zeros(len(bytes_V), np.int32)
  for token, piece in enumerate(bytes_V):
    if token in never or not piece:
      continue
    number = 1
    for kind in kind_B[list(piece)].tolist():
      if (number, kind) not in products:
        effect = column_SK[effects[number], kind].astype(np.int32)
        products[number, kind] = numbers.setdefault(effect.tobytes(), len(effects))
        if products[number, kind] == len(effects):
          effects.append(effect)
      number = products[number, kind]
    number_V[token] = number
  used, class_V = np.unique(number_V, return_inverse=True)
  next_SC = np.stack([effects[number] for number in used], axis=1)
  next_SC[END] = END  # rows that have ended, and padding
  return class_V.reshape(-1).astype(np.int32), next_SC


def _latest(made: Chains, next_SC: np.ndarray, ends: np.ndarray) -> np.ndarray:
  """Grammar.latest_SC; ends: count of tokens by which each block is closed."""
  last_S = np.full(len(next_SC), -1)  # the largest count with which a state can still end in time
  last_S[END] = ends[-1]
  latest_SC = np.full(next_SC.shape, -1, np.int32)
  for block in reversed(range(len(ends))):
    latest_SC[made.block_S == block] = _settle(last_S, next_SC, made.block_S == block, ends[block])
  latest_SC[next_SC == DEAD] = -1
  latest_SC[END] = ALWAYS
  return latest_SC


def _settle(last_S: np.ndarray, next_SC: np.ndarray, chosen_S: np.ndarray, end: int) -> np.ndarray:
  """Rows `chosen_S` of `latest`: puts their own counts into `last_S`, which holds those after."""
  while True:  # each pass knows of paths that are longer by a token
    latest_SC = np.minimum(last_S[next_SC[chosen_S]], end) - 1
    new_S = np.maximum(latest_SC.max(1), -1)
    if (new_S == last_S[chosen_S]).all():
      return latest_SC
    last_S[chosen_S] = new_S


def _check(made: Chains, next_SC: np.ndarray, budgets: Mapping[str, int]) -> None:
  """Raises BadInput where a block does not fit its budget and what earlier ones leave over."""
  needs = []
  for block, after in enumerate(made.entry[1:]):
    last_S = np.full(len(next_SC), -1)
    last_S[after] = ALWAYS
    _settle(last_S, next_SC, made.block_S == block, ALWAYS)
    needs.append(int(ALWAYS - last_S[made.entry[block]]))
  given = tuple(budgets.values())
  spare = np.cumsum(given) - np.cumsum(needs)
  if (spare < 0).any():
    least = ", ".join(f"{name} {need}" for name, need in zip(budgets, needs, strict=True))
    late = list(budgets)[int(np.argmax(spare < 0))]
    raise BadInput(
      f"rollout.constrain={given}: {late} cannot be closed in time; with this model's tokens the "
      f"blocks take at least {least}: raise the budgets, and rollout.max_new_tokens where they "
      "need it"
    )


def abstract(vocab: int, budgets: Mapping[str, int], place: Any) -> Constraint | None:
  """`constraint` as shapes, of a tokenizer that is not there."""
  if not budgets:
    return None
  made = chains(tuple(budgets))
  table = jax.ShapeDtypeStruct((len(made.goto_SB), CLASSES), np.int32, sharding=place)
  class_V = jax.ShapeDtypeStruct((vocab,), np.int32, sharding=place)
  return Constraint(Grammar(class_V, table, table), made, budgets, ())
