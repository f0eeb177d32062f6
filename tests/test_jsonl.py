"""JSON lines: what is read, what is refused, and that files appear whole or not at all."""

import json
import math
import os
import stat

import pytest

from gtalign_jax import jsonl
from gtalign_jax.errors import BadInput


def test_reads_with_line_numbers_blank_lines_and_bom(tmp_path):
  path = tmp_path / "in"
  path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": "\\u2028"}')
  assert jsonl.read(path) == [(1, {"a": 1}), (4, {"b": "\u2028"})]


def test_written_rows_read_back(tmp_path):
  rows = [{"text": "\ud800 \u0000 \n \u4f60"}, {"x": [1, {"y": math.nan}], "z": math.inf}]
  jsonl.write(tmp_path / "out", rows)
  assert [row for _, row in jsonl.read(tmp_path / "out")] == [
    rows[0], {"x": [1, {"y": None}], "z": None}
  ]  # fmt: skip
  mask = os.umask(0)
  os.umask(mask)
  assert stat.S_IMODE(os.stat(tmp_path / "out").st_mode) == 0o666 & ~mask


def test_a_failure_leaves_the_old_file_alone(tmp_path):
  path = tmp_path / "out"
  path.write_text("old")

  def rows():
    yield {"fine": 1}
    raise KeyError("half-way")

  with pytest.raises(KeyError):
    jsonl.write(path, rows())
  assert path.read_text() == "old"
  assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_writes_into_a_pipe(tmp_path):
  pipe = tmp_path / "pipe"
  os.mkfifo(pipe)
  reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
  jsonl.write(pipe, [{"a": 1}])
  assert json.loads(os.read(reader, 100)) == {"a": 1}
  os.close(reader)
  assert stat.S_ISFIFO(os.stat(pipe).st_mode)


@pytest.mark.parametrize("value, expected", [(3, 3.0), (None, math.nan), (2.5, 2.5)])
def test_number(value, expected):
  assert jsonl.number({"k": value}, "k", "f:1") == pytest.approx(expected, nan_ok=True)
  assert math.isnan(jsonl.number({}, "k", "f:1"))


@pytest.mark.parametrize("value", [True, "1", [1], math.nan, -math.inf, 10**400])
def test_number_refuses(value):
  with pytest.raises(BadInput, match="f:1: k"):
    jsonl.number({"k": value}, "k", "f:1")
