"""JSON lines: what is read, what is refused, and that files appear whole or not at all."""

import json
import math
import os
import stat

import pytest

from gtalign_jax import files, jsonl, progress
from gtalign_jax.errors import BadInput, first_line


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


def test_a_file_is_replaced_whole_or_left_as_it_is(tmp_path):
  place = tmp_path / "folder" / "a.txt"
  files.replace(place, "old \ud800")
  assert place.read_text() == "old \\ud800"  # a lone surrogate, as JSON reads it back
  with pytest.raises(ZeroDivisionError), files.replacing(place) as file:
    file.write("new")
    raise ZeroDivisionError
  assert place.read_text() == "old \\ud800" and os.listdir(place.parent) == ["a.txt"]
  with pytest.raises(OSError), files.replacing(tmp_path / "none" / "b.txt"):
    pass
  assert not (tmp_path / "none").exists()


def test_the_first_line_of_an_error():
  assert first_line(ValueError("\none\ntwo")) == "one"
  assert first_line(KeyError()) == "KeyError"


def test_durations_are_said_as_people_say_them():
  said = [progress.clock(seconds) for seconds in (0.4, 59.4, 61, 3599, 7500)]
  assert said == ["0 s", "59 s", "1 min 01 s", "59 min 59 s", "2 h 05 min"]
