"""The stop automaton against the plain definition: stop where the decoded text first holds a stop."""

import functools
import types

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from gtalign_jax import models
from gtalign_jax.rollout import stop

STOPS = ("</response>", "abab", "é", "b\nb")


@functools.cache
def table(stops=STOPS):
  policy = models.load("random:tiny")
  return stop.stop_table(policy.tokenizer, stops, policy.config.vocab_size)


@functools.cache
def tokenizer():
  return models.load("random:tiny").tokenizer


@settings(max_examples=200)
@given(st.text(alphabet="ab\né</response>", max_size=40))
def test_stops_at_the_token_that_completes_a_stop_in_the_text(text):
  ids = tokenizer().encode(text, add_special_tokens=False)
  pieces = stop.token_bytes(tokenizer(), 512)
  assert b"".join(pieces[token] for token in ids) == text.encode()
  state, ended, wanted = 0, None, None
  for count, token in enumerate(ids, start=1):
    state = table()[state, token]
    raw = b"".join(pieces[each] for each in ids[:count])
    if wanted is None and any(s.encode() in raw for s in STOPS):
      wanted = count
    if ended is None and state == len(table()) - 1:
      ended = count
  assert ended == wanted


def test_multi_byte_tokens_and_special_tokens():
  class Vocabulary:
    added_tokens_decoder = types.MappingProxyType({0: AddedToken("<eos>")})
    pieces = ("<eos>", "</res", "ponse>\\n", "ponse", "Ġx", ">")

    def get_vocab(self):
      return {piece: index for index, piece in enumerate(self.pieces)}

    class backend_tokenizer:
      @staticmethod
      def to_str():
        return '{"decoder": {"type": "ByteLevel"}}'

  made = stop.stop_table(Vocabulary(), ("</response>",), 8)
  assert stop.token_bytes(Vocabulary(), 8)[4] == b" x"
  last = len(made) - 1
  inside = made[0, 1]
  assert made[inside, 2] == last  # the stop ends in the middle of a token
  assert made[inside, 0] == 0  # a special token is text as well, and breaks the string
  assert made[made[inside, 3], 5] == last
  assert made[made[inside, 3], 4] == 0
  assert (made[last] == last).all()


def test_no_stops_never_stops():
  assert table(()).shape[0] == 2 and not np.any(table(())[0])
