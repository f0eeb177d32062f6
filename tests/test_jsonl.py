"""JSON lines: what is read, what is refused, and that files appear whole or not at all."""

import json
import math
import os
import stat

import pytest

from gtalign_jax import files, jsonl, progress
from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.rewards import chain


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


def nested(depth, opening="[", closing="]"):
  return '{"a": ' + opening * depth + "1" + closing * depth + "}"


def test_depth_has_a_limit_at_the_border_so_that_every_row_can_be_written_again(tmp_path):
  path = tmp_path / "in.jsonl"
  for text in (nested(99), nested(49, '{"b": [', "]}"), json.dumps({"a": "[{" * 5000})):
    path.write_text(text + "\n")
    ((_, row),) = jsonl.read(path)
    jsonl.write(tmp_path / "out.jsonl", [row])
    assert jsonl.read(tmp_path / "out.jsonl") == [(1, row)]
  for text in (nested(100), nested(900), nested(100_000), nested(50, '{"b": [', "]}")):
    path.write_text("{}\n" + text + "\n")
    with pytest.raises(BadInput) as caught:
      jsonl.read(path)
    assert str(caught.value).startswith(f"{path}:2: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "payoff",
  ["[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900, '{"DQ_DA": ' + "9" * 5000 + "}",
   "-" * 15_000 + "1", "(" * 15_000 + ")" * 15_000, "not " * 4000 + "1", "{'a':" * 300 + "1" + "}" * 300,
   "1+" * 9000 + "1", '"' + "\\u" * 5000, "a" + ".a" * 8000, "9**9**9", "'a'*10**9"],
)  # fmt: skip
def test_what_a_model_writes_for_json_is_never_more_than_unparsed(payoff):
  text = (
    f"<thinking>t</thinking><payoff>{payoff}</payoff><analyze>a</analyze><response>r</response>"
  )
  for mode in ("strict", "paper"):
    assert chain.parse(text, mode).error in ("payoff_syntax", "payoff_keys", "payoff_value")
