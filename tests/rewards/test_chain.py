"""The chain parser: round trips, typed failures, the paper's reading, hostile text, token spans."""

import itertools
import json
import re
import time

import numpy as np
import paper_reference
import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import PAYOFF, chain

from gtalign_jax.rewards import chain as chains
from gtalign_jax.rewards import paper_text
from gtalign_jax.types import CELLS

TEXT = st.text(st.characters(blacklist_characters="<", blacklist_categories=())).filter(str.strip)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
FRAGMENTS = st.sampled_from(
  [tag for pair in chains.TAGS for tag in pair]
  + [json.dumps(PAYOFF), "{", "}", "DQ_DA", "\n", " ", "<", ">", "x", "\ud800", "\x00", "'", "“"]
)


RESPONSE = "<response>r</response>"


def error(text):
  parsed = chains.parse(text)
  assert (parsed.error is None) == (parsed.format == 1) == (parsed.payoff is not None)
  return parsed.error


@given(
  TEXT, TEXT, TEXT, st.lists(NUMBER, min_size=12, max_size=12), st.sampled_from(["", " ", "\n\n"])
)
@settings(max_examples=60)
def test_round_trip(thinking, analyze, response, numbers, gap):
  table = {
    cell: {"LLM": numbers[2 * i], "user": numbers[2 * i + 1]} for i, cell in enumerate(CELLS)
  }
  text = chain(thinking, json.dumps(table), analyze, response)
  text = gap + text.replace("><", ">" + gap + "<") + gap
  for mode in ("strict", "paper"):
    read = chains.parse(text, mode)
    assert read.error is None
    assert (read.thinking, read.analyze, read.response) == (
      thinking.strip(),
      analyze.strip(),
      response.strip(),
    )
    np.testing.assert_array_equal(read.payoff.ravel(), numbers)
    assert read.payoff.dtype == np.float64
    assert read.payoff.shape == (2, 3, 2)
  assert chains.parse(text).format == 1


@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=25).map("".join)))
@settings(max_examples=300)
def test_any_text_is_read_without_an_exception(text):
  for mode in ("strict", "paper"):
    read = chains.parse(text, mode)
    assert read.error in (None, *chains.ERRORS)
    assert (read.payoff is None) == (read.error is not None)


@given(st.lists(FRAGMENTS, max_size=25).map("".join))
@settings(max_examples=300)
def test_the_linear_format_scan_finds_what_the_pattern_finds(text):
  pattern = re.match(paper_reference.PATTERN, text, re.DOTALL | re.MULTILINE)
  assert paper_text.has_format(text) == (pattern is not None)


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("", "missing_block"),
    ("Paris.", "missing_block"),
    (chain().replace("<analyze>", "").replace("</analyze>", ""), "missing_block"),
    (chain().replace("</analyze>", ""), "missing_block"),
    (chain(thinking=" \n"), "missing_block"),
    (chain(response=""), "missing_block"),
    (chain(response="a") + "<response>b</response>", "repeated_block"),
    (chain(thinking="so <response> comes last"), "repeated_block"),
    (chain(response="x</response>"), "repeated_block"),
    (chain(response="r")[-len(RESPONSE) :] + chain(response="r")[: -len(RESPONSE)], "block_order"),
    ("</thinking>a<thinking>" + chain().split("</thinking>")[1], "block_order"),
    ("Sure! " + chain(), "stray_text"),
    (chain() + "\nDone.", "stray_text"),
    (chain().replace("<payoff>", "and <payoff>"), "stray_text"),
    (chain()[:-11], "truncated"),
    (chain()[:-3], "truncated"),
    (chain()[:40], "truncated"),
    (chain()[: chain().index("<analyze>") + 4], "truncated"),
    ("<thi", "truncated"),
  ],
)  # fmt: skip
def test_structure_failures(text, reason):
  assert error(text) == reason


def test_a_nested_block_is_out_of_order():
  nested = chain().replace("</thinking>", "").replace("</payoff>", "</payoff></thinking>")
  assert error(nested) == "block_order"


@pytest.mark.parametrize(
  ("payoff", "reason"),
  [
    ("", "missing_block"),
    ("{", "payoff_syntax"),
    ("[1, 2]", "payoff_syntax"),
    ("3", "payoff_syntax"),
    (str(PAYOFF), "payoff_syntax"),  # a Python literal
    (json.dumps(PAYOFF)[:-1] + ",}", "payoff_syntax"),
    (json.dumps(PAYOFF) + " x", "payoff_syntax"),
    ("[" * 100_000, "payoff_syntax"),
    ("{}", "payoff_keys"),
    (json.dumps({k: v for k, v in PAYOFF.items() if k != "VQ_CQ"}), "payoff_keys"),
    (json.dumps(PAYOFF | {"XQ_DA": {"LLM": 1.0, "user": 1.0}}), "payoff_keys"),
    (json.dumps(PAYOFF).replace('"user"', '"User"', 1), "payoff_keys"),
    (json.dumps(PAYOFF)[:-1] + ', "DQ_DA": {"LLM": 1.0, "user": 1.0}}', "payoff_keys"),
    (json.dumps(PAYOFF).replace('"user": 3.0', '"user": 3.0, "user": 3.0', 1), "payoff_keys"),
    (json.dumps(PAYOFF).replace('"user": 3.0', '"user": 3.0, "\\u0075ser": 3.0', 1), "payoff_keys"),
    (json.dumps(PAYOFF | {"DQ_DA": 3.0}), "payoff_value"),
    (samples.payoff(DQ_DA=(True, 1.0)), "payoff_value"),
    (samples.payoff(DQ_DA=(None, 1.0)), "payoff_value"),
    (samples.payoff(DQ_DA=("4", 1.0)), "payoff_value"),
    (samples.payoff(DQ_DA=([4], 1.0)), "payoff_value"),
    (samples.payoff(DQ_DA=(float("nan"), 1.0)), "payoff_value"),
    (samples.payoff(DQ_DA=(float("-inf"), 1.0)), "payoff_value"),
    (json.dumps(PAYOFF).replace("4.0", "1e999"), "payoff_value"),
    (samples.payoff(DQ_DA=(10**400, 1.0)), "payoff_value"),
    (json.dumps(PAYOFF).replace("4.0", "9" * 100_000), "payoff_value"),
  ],
)
def test_payoff_failures(payoff, reason):
  assert error(chain(payoff=payoff)) == reason


def test_a_failed_payoff_leaves_the_other_blocks():
  read = chains.parse(chain(payoff="{}"))
  assert (read.payoff, read.numbers, read.format) == (None, None, 0)
  assert read.response == "Paris is the capital of France."
  assert read.thinking and read.analyze


def test_of_a_repeated_block_there_is_no_content():
  read = chains.parse(chain() + "<response>other</response>")
  assert read.response is None
  assert read.thinking is not None


def numbers(payoff):
  return chains.parse(chain(payoff=payoff), "paper").numbers


@pytest.mark.parametrize(
  "payoff",
  [
    str(PAYOFF),
    str(PAYOFF).replace("'", "\u2018"),
    json.dumps(PAYOFF).replace('"', "\u201c"),
    str(PAYOFF)[:-1] + ",}",
    str(PAYOFF)[:-1] + "  # a comment\n}",
    json.dumps(PAYOFF).replace("4.0", "+4.0"),
    json.dumps(PAYOFF).replace("4.0", "4."),
    json.dumps(PAYOFF).replace("4.0", "0x4"),
    json.dumps(PAYOFF)[:-1] + ', "DQ_DA": {"LLM": 4.0, "user": 3.0}}',
    json.dumps(PAYOFF).replace("{", '{"DQ_DA": null, ', 1),  # the last one wins
  ],
)
def test_what_the_paper_accepts(payoff):
  assert error(chain(payoff=payoff)) is not None
  assert numbers(payoff) == tuple(x for cell in CELLS for x in PAYOFF[cell].values())


def test_paper_numbers_stay_what_they_are():
  big = 10**300 + 1
  got = numbers(samples.payoff(DQ_DA=(big, True), DQ_CQ=(float("inf"), 2)))
  assert got[:4] == (big, True, float("inf"), 2)
  assert [type(each) for each in got[:4]] == [int, bool, float, int]
  assert np.isnan(numbers(samples.payoff(DQ_DA=(float("nan"), 1.0)))[0])
  read = chains.parse(chain(payoff=samples.payoff(DQ_DA=(10**400, -(10**400)))), "paper")
  assert read.payoff[0, 0].tolist() == [float("inf"), float("-inf")]


@pytest.mark.parametrize(
  "payoff",
  [
    "",
    "{}",
    "{1, 2}",
    "[]",
    str(PAYOFF).replace("4.0", "1+2j"),
    str(PAYOFF).replace("4.0", "b'4'"),
    str(PAYOFF).replace("4.0", "nan"),
    str(PAYOFF).replace("4.0", "{4.0}"),
    str(PAYOFF).replace("4.0", "__import__('os').getpid()"),
    str(PAYOFF).replace("4.0", "2*2"),
    str(PAYOFF).replace("4.0", "'4.0'"),
    str(PAYOFF).replace("4.0", "None"),
    str(PAYOFF).replace("4.0", "9" * 5000),
    str(PAYOFF) + " " * 20_000 + "#",
    str(PAYOFF).replace("DQ_DA", "DQ_DA\x00"),
    str(PAYOFF).replace("DQ_DA", "DQ_DA\ud800"),
    "(" * 9_000 + ")" * 9_000,
    "-" * 19_000 + "1",
    "1" + "+1" * 9_000,
    "{" * 10_000,
    "[" * 100_000 + "]" * 100_000,
    json.dumps(PAYOFF)[:-1],
  ],
)
def test_what_the_paper_refuses(payoff):
  assert numbers(payoff) is None


def test_the_paper_takes_the_first_block_anywhere():
  text = "x<response>decoy</response>" + chain() + "<payoff>{}</payoff>"
  read = chains.parse(text, "paper")
  assert read.response == "decoy"
  assert read.numbers is not None
  assert read.format == 0


@pytest.mark.parametrize(
  ("text", "format"),
  [
    (chain(), 1),
    (chain() + "\nmore", 1),  # $ matches before any line break
    (chain() + " ", 0),
    (" " + chain(), 0),
    (chain() + "x</response>\n", 1),
    (chain().replace("><", ">\u00a0\n<"), 1),
    (chain().replace("></", "> x</"), 1),
    (chain().replace("</thinking><", "</thinking>x<"), 0),
    (chain(analyze="</analyze> <response>"), 1),
    (chain(thinking="</thinking><payoff>"), 0),  # then that is the payoff
    (chain(payoff="{}"), 0),
  ],
)
def test_the_paper_format(text, format):
  assert chains.parse(text, "paper").format == format


LONG = 1_000_000
HOSTILE = {
  "one_block": "<thinking>" + "x" * LONG,
  "open_tags": "<thinking>" * (LONG // 10),
  "close_tags": "</thinking>" * (LONG // 11),
  "joints": "<thinking>" + "</thinking>  " * (LONG // 13),
  "spaces": chain().replace("><", ">" + " " * (LONG // 4) + "<"),
  "white": " " * LONG,
  "angles": "<" * LONG,
  "words": chain(response="word " * (LONG // 5)),
  "payoff_open": chain(payoff="[" * LONG),
  "payoff_quotes": chain(payoff='"' * LONG),
  "payoff_escapes": chain(payoff='"' + "\\" * LONG),
  "payoff_literal": chain(payoff="(" * LONG),
  "payoff_digits": chain(payoff=json.dumps(PAYOFF).replace("4.0", "9" * LONG)),
  "payoff_minus": chain(payoff="-" * LONG),
  "payoff_spaces": chain(payoff=json.dumps(PAYOFF) + " " * LONG),
  "newlines": chain() + "</response>\n" * (LONG // 12),
  "nul": "\x00" * LONG,
  "surrogates": "\ud800" * LONG,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("mode", ["strict", "paper"])
def test_a_megabyte_takes_less_than_50_ms(name, mode):
  times = []
  for _ in range(3):
    began = time.process_time()
    chains.parse(HOSTILE[name], mode)
    times.append(time.process_time() - began)
  assert min(times) < 0.05


PIECES = st.lists(
  st.one_of(
    st.sampled_from([tag for pair in chains.TAGS for tag in pair]),
    st.sampled_from(["é", "中", "🙂", "\u3000", "<", "/thinking>", " ", "a"]),
  ),
  max_size=14,
)


@given(
  st.one_of(PIECES.map("".join), PIECES.map(lambda x: chain(thinking="中é".join(x)))), st.data()
)
@settings(max_examples=60)
def test_token_blocks_are_those_of_the_text(text, data):
  """Whatever tokens a text is cut into, also in the middle of a character, and chain or none."""
  bytes_ = text.encode()
  cuts = sorted(data.draw(st.sets(st.integers(0, len(bytes_)), max_size=20)) | {0, len(bytes_)})
  pieces = [bytes_[a:b] for a, b in itertools.pairwise(cuts)]
  found = chains.token_blocks(pieces)
  assert found.dtype == np.int8 and found.shape == (len(pieces),)
  owner = [-1] * len(bytes_)
  for index, ((opening, closing), span) in enumerate(
    zip(chains.TAGS, chains.blocks(text).spans, strict=True)
  ):
    if span is not None:
      first = len(text[: span[0]].encode()) - len(opening)
      last = len(text[: span[1]].encode()) + len(closing)
      owner[first:last] = [index] * (last - first)
  assert found.tolist() == [owner[at] for at in cuts[:-1]]


def test_token_blocks_of_absent_and_repeated_blocks():
  def of(text):
    return chains.token_blocks([bytes([each]) for each in text.encode()]).tolist()

  assert of("<thinking>a</thinking> b") == [0] * 22 + [-1] * 2
  assert of("<thinking>a</thinking><thinking>") == [-1] * 32
  assert chains.token_blocks([]).shape == (0,)


def test_token_offsets_with_characters_of_several_tokens():
  data = "aé<b>中".encode()
  decode = lambda ids: bytes(ids).decode("utf-8", "replace")  # noqa: E731
  offsets = chains.token_offsets(list(data), decode)
  assert offsets[0] == (0, 1)
  assert offsets[2] == (1, 2)  # the second byte of é completes it
  assert offsets[-1][1] == len("aé<b>中")
  assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
  plain = chains.token_offsets([1, 2, 3], lambda ids: "".join("ab " * i for i in ids))
  assert plain == [(0, 3), (3, 9), (9, 18)]


@given(
  st.lists(st.one_of(NUMBER, st.integers(-(2**52), 2**52), st.booleans()), min_size=12, max_size=12)
)
@settings(max_examples=100)
def test_exact_pay_equals_the_kernel_where_floats_are_enough(given_numbers):
  from gtalign_jax.game import reward

  row = tuple(given_numbers)
  with np.errstate(all="ignore"):
    kernel = reward.pay_score(chains.as_array([row]))[0]
  assert kernel == pytest.approx(paper_text.pay(row), abs=1e-12)
