"""The border of rows: JSON-ready values and fit texts, the same from every kind of file."""

import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gtalign_jax.data import sources, tfds_builder
from gtalign_jax.data.plain import MAX_DEPTH, plain
from gtalign_jax.data.records import fingerprint, from_row
from gtalign_jax.errors import BadInput
from gtalign_jax.sections import DataConfig

ASK = [{"role": "user", "content": "How high is it?"}]
ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))
Color = enum.IntEnum("Color", "RED GREEN")


@pytest.mark.parametrize(
  ("value", "expected"),
  [
    (dt.datetime(2025, 3, 1, 12), "2025-03-01T12:00:00"),
    (dt.datetime(2025, 3, 1, 12, tzinfo=ZONE), "2025-03-01T12:00:00+05:30"),
    (dt.date(1, 1, 1), "0001-01-01"),
    (dt.time(23, 59, 1, 5), "23:59:01.000005"),
    (dt.timedelta(days=-1, seconds=3), "-1 day, 0:00:03"),
    (pd.Timestamp(1), "1970-01-01T00:00:00.000000001"),
    (pd.Timedelta("3s"), "0 days 00:00:03"),
    (pd.NaT, None),
    (pd.NA, None),
    (np.datetime64("NaT"), None),
    (np.datetime64("2025-03-01T12:00", "ns"), "2025-03-01T12:00:00.000000000"),
    (np.array(["2025-03-01"], "datetime64[ns]"), ["2025-03-01T00:00:00.000000000"]),
    (decimal.Decimal("1.50"), "1.50"),
    (decimal.Decimal("sNaN"), None),
    (float("nan"), None),
    (np.float32("nan"), None),
    (float("-inf"), "-inf"),
    (np.float16(0.5), 0.5),
    (np.int8(-3), -3),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    (np.array(7), 7),
    (np.array([[1, 2], [3, 4]], np.uint64), [[1, 2], [3, 4]]),
    (np.array([None, "x", 1.5], object), [None, "x", 1.5]),
    (2**200, 2**200),
    (Color.GREEN, 2),
    (b"caf\xc3\xa9", "café"),
    (b"\x89PNG\xff", "\\x89PNG\\xff"),
    (bytearray(b"x"), "x"),
    ({"b", "a"}, ["a", "b"]),
    (frozenset({2}), [2]),
    ((1, (2,)), [1, [2]]),
    ({1: {None: dt.date(2025, 3, 1)}}, {"1": {"None": "2025-03-01"}}),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.PurePosixPath("/a"), "/a"),
    ("a\ud83d\0b", "a\ufffd\ufffdb"),
    ({"\udfff": 1}, {"\ufffd": 1}),
    ("😀\u2028\ue000", "😀\u2028\ue000"),
    (1 + 2j, "(1+2j)"),
  ],
)  # fmt: skip
def test_values(value, expected):
  found = plain({"value": value})["value"]
  assert found == expected and type(found) is type(expected)
  assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"k": x}])
def test_depth_is_bounded(wrap):
  value = 1
  for _ in range(MAX_DEPTH + 2):
    value = wrap(value)
  with pytest.raises(BadInput, match=r"^f:7: the row is nested more than 100 levels deep"):
    from_row({"data_source": "m", "prompt": ASK, "extra_info": {"x": value}}, "f:7", "i")


EXTRA = {
  "day": dt.date(2025, 3, 1),
  "at": dt.datetime(2025, 3, 1, 12, tzinfo=dt.UTC),
  "clock": dt.time(1, 2),
  "took": dt.timedelta(seconds=3),
  "price": decimal.Decimal("1.50"),
  "blob": b"\x89PNG\x00\xff",
  "score": float("nan"),
  "nested": [{"a": [None, {"b": b"x"}]}],
  "none": None,
}  # fmt: skip


def odd_table():
  """Four rows: odd kinds in extra_info, a map, dictionary-encoded texts, columns of no use."""
  rows = [
    {"data_source": "m", "prompt": ASK, "ground_truth": float(n), "extra_info": EXTRA}
    for n in range(4)
  ]
  table = pa.Table.from_pylist(rows)
  table = table.set_column(0, "data_source", table["data_source"].dictionary_encode())
  names = pa.array([[("k", 1)]] * 4, pa.map_(pa.string(), pa.int64()))
  extra = table["extra_info"].combine_chunks()
  more = pa.StructArray.from_arrays(
    [*extra.flatten(), names], [*(f.name for f in extra.type), "names"]
  )
  table = table.set_column(3, "extra_info", more)
  table = table.append_column("picture", pa.array([{"bytes": b"broken", "path": None}] * 4))
  # what a later version of `datasets` may write
  told = {
    "info": {"features": {"prompt": {"_type": "Conversation"}, "picture": {"_type": "Image"}}}
  }
  return table.replace_schema_metadata({"huggingface": json.dumps(told)})


def test_files_and_prepared_data_agree(tmp_path):
  (tmp_path / "p" / "m").mkdir(parents=True)
  pq.write_table(odd_table(), tmp_path / "p" / "m" / "train.parquet")
  found = sources.load(DataConfig(root=str(tmp_path / "p")), "train")
  assert [record.ground_truth for record in found] == ["0", "1", "2", "3"]
  assert found[0].extra_info == {
    "day": "2025-03-01", "at": "2025-03-01T12:00:00+00:00", "clock": "01:02:00", "took": "0:00:03",
    "price": "1.50", "blob": "\\x89PNG\ufffd\\xff", "score": None,
    "nested": [{"a": [None, {"b": "x"}]}], "none": None, "names": {"k": 1},
  }  # fmt: skip
  tfds_builder.write({"train": found}, tmp_path / "prepared")
  assert sources.load(DataConfig(root=str(tmp_path / "prepared")), "train") == found
  lines = [json.dumps(record._asdict()) + "\n" for record in found]
  (tmp_path / "x.jsonl").write_text("".join(lines))
  again = sources.read_file(tmp_path / "x.jsonl")
  assert again == found and fingerprint(again) == fingerprint(found)
  assert fingerprint(again[::-1]) != fingerprint(found)


def test_unfit_texts_are_replaced_and_told(tmp_path, caplog):
  row = {"data_source": "m", "prompt": [{"role": "user", "content": "2+2? \ud83d"}]}
  good = {"data_source": "m", "prompt": ASK}
  path = tmp_path / "x.jsonl"
  path.write_text("".join(json.dumps(each) + "\n" for each in (good, row, row | {"id": "a\0"})))
  found = sources.read_file(path)
  assert found[1].messages[0]["content"] == "2+2? \ufffd" and found[2].id == "a\ufffd"
  (said,) = caplog.messages
  assert "in 2 rows" in said and f"the first in {path}:2" in said


@pytest.mark.parametrize(("value", "name"), [(7, "7"), (7.0, "7"), (float("nan"), "i"), ("a", "a")])
def test_ids_of_columns_with_gaps(value, name):
  assert from_row({"data_source": "m", "prompt": ASK, "id": value}, "f:1", "i").id == name


@pytest.mark.parametrize(
  ("content", "text"),
  [
    ([{"type": "text", "text": "a "}, {"type": "text", "text": "b", "image": None}], "a b"),
    ([{"text": "a"}], "a"),
    (["a", "b"], "ab"),
    ("", ""),
  ],
)
def test_contents_in_parts(content, text):
  row = {"data_source": "m", "prompt": [{"role": "user", "content": content}]}
  assert from_row(row, "f:1", "i").messages == [{"role": "user", "content": text}]


@pytest.mark.parametrize(
  ("message", "says"),
  [
    ({"role": "user", "content": None}, r"prompt\[0\]: content=None must be a text"),
    ({"role": "user", "content": 5}, r"prompt\[0\]: content=5 must be a text"),
    ({"role": "user", "content": [{"type": "image", "url": "x"}]}, "'image'.* is not of type text"),
    (
      {"role": "user", "content": [{"type": "image", "text": "x"}]},
      "'image'.* is not of type text",
    ),
    ({"role": "user", "content": [None]}, "part None is not of type text"),
    ({"role": "tool", "content": "x"}, r"prompt\[0\]: role='tool' is not one of system, user"),
    ({"role": ["user"], "content": "x"}, r"role=\['user'\] is not one of"),
    ({"from": "human", "value": "x"}, r"prompt\[0\]: role=None is not one of"),
    ("hello", r"prompt\[0\]='hello' must be an object"),
    ({"role": "assistant", "content": "x"}, "must end with the user's turn"),
  ],
)
def test_chats_that_are_refused_name_file_and_row(message, says):
  with pytest.raises(BadInput, match=says) as caught:
    from_row({"data_source": "m", "prompt": [message]}, "f.jsonl:3", "i")
  assert str(caught.value).startswith("f.jsonl:3: prompt") and "\n" not in str(caught.value)


NAMES = [
  "set[1]", "run?", "a*b", "[v1] set*", "a::b", "a b ü", "#x", "100%", "~nobody-is-called-so", "~",
  "{a,b}", "$HOME", "-dash", "owner/name", "hf:x", "a\\b", "x@y", "**",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_name_is_a_name(tmp_path, monkeypatch, name, suffix):
  """Relative and absolute, as folder and as file; beside others that it would match as a pattern."""
  monkeypatch.chdir(tmp_path)
  for folder, text in ((name, "right"), ("set1", "wrong"), ("runA", "wrong"), ("axb", "wrong")):
    row = {"data_source": "m", "prompt": [{"role": "user", "content": text}]}
    path = tmp_path / folder / "m" / f"train{suffix}"
    path.parent.mkdir(parents=True)
    if suffix == ".parquet":
      pq.write_table(pa.Table.from_pylist([row]), path)
    else:
      path.write_text(json.dumps(row) + "\n")
  for root in (name, str(tmp_path / name), f"{name}/m/train{suffix}"):
    (found,) = sources.load(DataConfig(root=root), "train")
    assert found.messages[0]["content"] == "right"


@pytest.mark.parametrize("root", ["~nobody-is-called-so/x", "x" * 5000, "s3://bucket/a.parquet"])
def test_names_that_are_nothing(root):
  with pytest.raises(BadInput, match=r"^data\.root="):
    sources.load(DataConfig(root=root), "train")


def test_files_without_rows(tmp_path):
  (tmp_path / "m").mkdir()
  pq.write_table(odd_table()[:0], tmp_path / "m" / "train.parquet")
  (tmp_path / "empty.jsonl").write_text("\n")
  for root, name in ((tmp_path, "train.parquet"), (tmp_path / "empty.jsonl", "empty.jsonl")):
    with pytest.raises(BadInput, match=rf"{name}: holds no prompts"):
      sources.load(DataConfig(root=str(root)), "train")
