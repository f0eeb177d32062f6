"""What a client sees of a completion, however its bytes fall into tokens and pushes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import opening, rest, tenths

from gtalign_jax.rewards import chain
from gtalign_jax.serve.reader import Reader

BYTES = tuple(bytes([byte]) for byte in range(256))
SAID = "Which number do you mean?"
CHAIN = opening(tenths(0)) + rest(1)  # SAID is its response


def content(text, stops=(), cuts=(), **form):
  """The parts of the content of a text in byte tokens that is pushed in pieces."""
  reader, parts = Reader(BYTES, stops, **form), []
  ids = list(text.encode())
  for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
    reader.push(ids[begin:end], [-1.0] * (end - begin))
    parts.append(reader.content())
    if reader.stopped:
      return parts
  return [*parts, reader.content(final=True)]


TEXTS = st.text(st.sampled_from("a é日🎉\ufffd<>/") | st.characters(codec="utf-8"), max_size=30)


@settings(max_examples=60)
@given(TEXTS, st.booleans(), st.data())
def test_streams_say_what_the_whole_says(said, plain, data):
  """No part holds half a character, nor anything that a later part takes back."""
  text = said if plain else CHAIN.replace(SAID, said)
  cuts = sorted(data.draw(st.lists(st.integers(0, len(text.encode())), max_size=6)))
  whole = "".join(content(text))
  assert "".join(content(text, cuts=cuts)) == whole
  if chain.parse(text).error is None:
    assert whole == chain.parse(text).response
  elif plain and not text.lstrip().startswith("<thinking>"):
    assert whole == text


def test_a_response_begins_when_it_opens():
  at = CHAIN.index("<response>") + len("<response>")
  parts = content(CHAIN, cuts=[at, at + 5, len(CHAIN)])
  assert parts == ["", "Which", " number do you mean?", "", ""]


@pytest.mark.parametrize(
  ("text", "seen"),
  [
    ("hello", "hello"),  # no chain: the text, at once
    (CHAIN.replace("</payoff>", ""), CHAIN.replace("</payoff>", "")),
    (CHAIN.replace(SAID, " "), CHAIN.replace(SAID, " ")),  # an empty response
    (CHAIN.replace("</response>", ""), SAID),  # cut off
    (CHAIN.replace("</response>", "</resp"), SAID),
    (CHAIN.replace("Which", "<thinking>"), "<thinking> number do you mean?"),
    (CHAIN.replace("Which", " \n Which").replace("?", "? \n"), SAID),
  ],
)
def test_what_is_no_chain_is_text(text, seen):
  assert "".join(content(text)) == seen
  assert "".join(content(text, cuts=range(1, len(text.encode())))) == seen


@pytest.mark.parametrize("cuts", [(), range(1, 4), [2]], ids=str)
@pytest.mark.parametrize(
  ("text", "stops", "seen"),
  [
    ("one two", ["tw"], "one "),
    ("one two", ["xx", "two!"], "one two"),
    ("aaab", ["ab", "aab"], "a"),
    ("a日本", ["本"], "a日"),
    ("oneone", ["one"], ""),
    (CHAIN, ["So it", "do"], "Which number"),  # of thinking they say nothing
  ],
)
def test_stop_strings_are_exact_across_tokens(text, stops, seen, cuts):
  assert "".join(content(text, stops, cuts)) == seen


def test_other_forms():
  thought = f"<thinking>{SAID}</thinking><response> yes</response>"
  assert content(thought, cuts=[len(thought) - 11], form="think") == ["yes", "", ""]
  assert "".join(content(thought)) == thought  # in the form game it is none
  assert content("<thinking>x", cuts=[4], form="none") == ["<thi", "nking>x", ""]


def test_tokens_of_the_content():
  reader = Reader((*BYTES, b"Which number", b"n?</response>"), [])
  begun = CHAIN[: CHAIN.index("Which")].encode()
  reader.push([*begun, 256, *b" do you mea", 257], [-1.0] * (len(begun) + 13))
  assert reader.content() == SAID
  assert [token.id for token in reader.entries(final=True)] == [256, *b" do you mea", 257]


def test_a_space_before_the_first_word_is_none_of_the_text():
  reader = Reader((b" Hello", b" you"), [], spaced=True)
  reader.push([0, 1], [0.0, 0.0])
  assert reader.content(final=True) == "Hello you"
