"""Words, named cells, user types and questions."""
# ruff: noqa: RUF001 (full-width marks are the point)

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtalign_jax.rewards import features as f


@pytest.mark.parametrize(
  ("text", "count"),
  [
    ("", 0),
    (" a  b\n", 2),
    ("你好世界", 4),
    ("你好，世界。", 4),
    ("请给我 3 apples", 5),
    ("ひらがなカタカナ", 8),
    ("한국어 문장", 2),  # written with spaces
    ("naïve café", 2),
    ("GPT模型x", 4),
    ("𠀀𠀁", 2),
  ],
)
def test_words(text, count):
  assert f.words(text) == count


@given(st.text(st.characters(max_codepoint=0x2FF)))
@settings(max_examples=100)
def test_without_cjk_words_are_split_by_white_space(text):
  assert f.words(text) == len(text.split())


@pytest.mark.parametrize(
  ("text", "cell"),
  [
    ("", -1),
    ("DQ_DA", 0),
    ("first VQ_AQ, but DQ_CQ wins", 1),
    ("**VQ_CQ**.", 4),
    ("_VQ_CQ_", 4),
    ("选择VQ_DA因为", 3),
    ("DQ_AQ then DQ_DAX or xVQ_DA", 2),
    ("dq_da", -1),
    ("DQ DA", -1),
  ],
)
def test_named_cell(text, cell):
  assert f.named_cell(text) == cell


@pytest.mark.parametrize(
  ("text", "stated"),
  [
    ("", []),
    (
      "Sums: DQ_DA +6.6, DQ_CQ -5.0, DQ_AQ \u22120.3. The largest is DQ_DA.",
      [(0, 6.6), (1, -5.0), (2, -0.3)],
    ),
    ("DQ_DA 7.1 dominates its row. So it is DQ_DA.", [(0, 7.1)]),
    ("VQ_CQ: 3.1 + 3.5 = 6.6; then VQ_AQ (2.5+1.0=3.5)", [(4, 6.6), (5, 3.5)]),
    ("VQ_DA sums to 2, VQ_CQ to 12.\nVQ_AQ\n3.0", [(3, 2.0), (4, 12.0)]),
    ("DQ_DA is best. 3 words, as in xDQ_DA 4 or DQ_DAX 5.", []),
  ],
)
def test_stated_sums(text, stated):
  assert f.stated_sums(text) == stated


@pytest.mark.parametrize(
  ("text", "kind"),
  [
    ("", -1),
    ("DQ", 0),
    ("maybe DQ, no: VQ.", 1),
    ("VQ_DA and DQ_CQ", -1),
    ("It is DQ (see VQ_CQ).", 0),
    ("是VQ的", 1),
    ("FAQ DQX xVQ", -1),
  ],
)
def test_user_type(text, kind):
  assert f.user_type(text) == kind


@pytest.mark.parametrize(
  ("text", "questions", "outside"),
  [
    ("", 0, 0),
    ("Paris.", 0, 1),
    ("Which one?", 1, 0),
    ("Which one？", 1, 0),
    ("Really?! Yes.", 1, 1),
    ('"Which?" he asked.', 1, 2),
    ("(Do you mean 2019 or 2020?)", 1, 0),
    ("**Which year?** Then I answer.", 1, 3),
    ("See http://a.b/?q=1 for 3.5 more.", 0, 5),
    ("Is it a? Or b?", 2, 0),
    ("Tell me:\n- the year\n- the place?", 1, 5),
    ("Answer without a stop\nWant more?", 1, 4),
    ("是吗？好的。", 1, 2),
    ("What??? ok", 1, 1),
    ("x?y", 0, 1),
  ],
)
def test_asking(text, questions, outside):
  assert f.asking(text) == (questions, outside)


@pytest.mark.parametrize(
  ("cell", "response", "done"),
  [
    (-1, "Paris.", 0),
    (0, "Paris.", 1),
    (3, "Paris. More?", 0),
    (1, "Which year do you mean?", 1),
    (1, "Paris.", 0),
    (4, "Which year? And which place?", 0),
    (1, "word " * 15 + ". Which?", 0),
    (1, "word " * 14 + "word. Which?", 1),
    (2, "It is Paris, of course. Want more?", 1),
    (5, "Paris. More?", 0),
    (2, "It is Paris, of course.", 0),
  ],
)
def test_carried_out(cell, response, done):
  assert f.carried_out(cell, response, 15, 5) == done


@pytest.mark.parametrize(
  "response, cell, did",
  [
    ("It is 42.", -1, 0),
    ("It is 42.", 1, 0),
    ("", 0, 0),
    ("Which year?", -1, 1),
    ("Which year?", 0, 1),
    ("Why? Which year?", 1, -1),  # two questions are no action
    ("One two three four five. Which year?", -1, 1),  # CQ and AQ alike: CQ unless AQ is named
    ("One two three four five. Which year?", 5, 2),
    ("One two three four five. Which year?", 4, 1),
    ("One two three four five. Which year?", 0, 1),
    ("word " * 16 + "end. Which year?", 1, 2),
  ],
)
def test_what_a_response_does(response, cell, did):
  assert f.action(response, cell, 15, 5) == did
  assert f.action("One two three. Which year?", cell, 2, 5) == -1  # between the two limits
  for each in range(6):
    assert f.carried_out(each, response, 15, 5) in (0.0, 1.0)


def test_brief_chars_needs_both_blocks():
  assert f.brief_chars("abc", "de") == 5
  for pair in ((None, "a"), ("a", None), ("", "a"), ("a", "")):
    assert f.brief_chars(*pair) != f.brief_chars(*pair)  # NaN


@pytest.mark.parametrize(
  "text",
  ["." * 10**6 + "x?", "?)" * 500_000, "?" + ")" * 10**6, "\n " * 500_000 + "?", "Q_" * 500_000,
   "!.?" * 333_333 + "a?", "xDQ_DAx" * 150_000, "DQ_DA 1 = " * 100_000, "？。" * 500_000, "中?" * 300_000],
)  # fmt: skip
def test_long_texts_take_linear_time(text):
  began = time.process_time()
  f.asking(text)
  f.named_cell(text)
  f.stated_sums(text)
  f.user_type(text)
  f.words(text)
  assert time.process_time() - began < 3.0  # a quadratic scan takes minutes
