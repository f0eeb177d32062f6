"""Stop strings exact at token level: a byte automaton that the decode loop steps once a token.

A stop string may begin in the middle of a token and end in another, so comparing token ids misses
it. The Aho-Corasick automaton of the stop strings is run over the bytes of every vocabulary entry
beforehand; on the device one table look-up a token remains.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np


@functools.lru_cache(maxsize=4)  # asked for every row
def token_bytes(tokenizer: Any, vocab: int) -> tuple[bytes, ...]:
  """The bytes that each token id adds to the text (`vocabulary.spell`), special tokens included.

  tokenizer: a fast tokenizer (byte level, or sentencepiece with byte fallback). vocab: rows of the
  model's head, which may be more than the tokenizer has; the rest add none.
  """
  decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"] or {}
  byte_level = "ByteLevel" in json.dumps(decoder)
  added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
  to_byte = _byte_alphabet()
  out = [b""] * vocab
  for token, index in tokenizer.get_vocab().items():
    if index >= vocab:
      continue
    if index in added:  # spelled as it stands, in no alphabet
      out[index] = added[index].encode("utf-8", "replace")
    elif byte_level and all(char in to_byte for char in token):
      out[index] = bytes(to_byte[char] for char in token)
    elif re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
      out[index] = bytes([int(token[3:5], 16)])
    else:
      out[index] = token.replace("▁", " ").encode("utf-8", "replace")
  return tuple(out)


def _byte_alphabet() -> dict[str, int]:
  """Character -> byte of byte-level BPE (Radford et al. 2019); printable bytes stay."""
  plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
  table = {chr(byte): byte for byte in plain}
  others = [byte for byte in range(256) if byte not in set(plain)]
  return table | {chr(256 + rank): byte for rank, byte in enumerate(others)}


def automaton(stops: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
  """Goto table [states, 256] from state 0, and which states have matched a stop string."""
  children: list[dict[int, int]] = [{}]
  final = [False]
  for stop in stops:
    state = 0
    for byte in stop:
      if byte not in children[state]:
        children[state][byte] = len(children)
        children.append({})
        final.append(False)
      state = children[state][byte]
    final[state] = True
  goto = np.zeros((len(children), 256), np.int32)
  fail = [0] * len(children)
  queue = [0]
  for state in queue:  # breadth first, so the failure state is finished before its users
    for byte in range(256):
      child = children[state].get(byte)
      fallback = goto[fail[state], byte] if state else 0
      goto[state, byte] = fallback if child is None else child
      if child is not None:
        fail[child] = int(fallback)
        final[child] = final[child] or final[fail[child]]
        queue.append(child)
  return goto, np.asarray(final)


def states(stops: Sequence[str]) -> int:
  """Rows of `stop_table`: what has been read of a stop string (nothing, too), and "stopped"."""
  texts = [stop.encode() for stop in stops]
  return len({text[:n] for text in texts for n in range(1, len(text) + 1)}) + 2


def stop_table(tokenizer: Any, stops: Sequence[str], vocab: int) -> np.ndarray:
  """Transition table [states, vocab] int16; the last state is "stopped" and absorbs.

  Start in state 0; a row has stopped when its state is `len(table) - 1`. Without stop strings the
  table has one live state and is never left.
  """
  stops = [stop for stop in stops if stop]
  goto, final = automaton([stop.encode() for stop in stops])
  states = len(goto)
  pieces = token_bytes(tokenizer, vocab)
  width = max(map(len, pieces), default=0)
  bytes_VW = np.full((vocab, width), -1, np.int32)
  for index, piece in enumerate(pieces):
    bytes_VW[index, : len(piece)] = list(piece)
  table = np.full((states + 1, vocab), states, np.int16)
  for start in range(states):
    state_V = np.full(vocab, start, np.int32)
    for byte_V in bytes_VW.T:
      moved_V = goto[np.minimum(state_V, states - 1), byte_V]
      moved_V = np.where(final[moved_V], states, moved_V)
      state_V = np.where((byte_V < 0) | (state_V == states), state_V, moved_V)
    table[start] = state_V
  return table
