"""Where results go: what is refused before any work, and what is followed, filled or kept."""

import errno
import os
import socket
import stat
import subprocess
import sys

import pytest

from gtalign_jax import files, finished, jsonl
from gtalign_jax.errors import BadInput, RunFailure

ROWS = [{"a": 1}]


def names(folder):
  return sorted(each.name for each in folder.iterdir())


def refused(path, expected, **more):
  with pytest.raises(BadInput, match=expected):
    files.check_output(path, **more)


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path):
  (tmp_path / "file").write_text("kept")
  (tmp_path / "loop").symlink_to("loop")
  (tmp_path / "away").symlink_to(tmp_path / "none" / "x")
  refused("", "is empty")
  refused("gs://bucket/out.jsonl", "is no local path; mount the bucket")
  refused("-", "name a file, or /dev/stdout")
  refused(tmp_path, "it is a folder")
  refused(tmp_path / "none" / "x.jsonl", "there is no such folder")
  refused(tmp_path / "away", "there is no such folder")
  refused(tmp_path / "file" / "x.jsonl", "Not a directory")
  refused(tmp_path / ("x" * 300), "File name too long")
  refused(tmp_path / "a\0b", "null")
  with socket.socket(socket.AF_UNIX) as server:
    server.bind(str(tmp_path / "s"))
    refused(tmp_path / "s", "a disk or a socket")
  files.check_output(tmp_path / "new.jsonl")
  files.check_output(tmp_path / "file")
  assert names(tmp_path) == ["away", "file", "loop", "s"]
  assert (tmp_path / "file").read_text() == "kept"


def test_an_input_is_no_output(tmp_path):
  (tmp_path / "in").write_text("x")
  (tmp_path / "link").symlink_to("in")
  os.link(tmp_path / "in", tmp_path / "hard")
  for name in ("in", "link", "hard"):
    refused(tmp_path / name, "is read as well", inputs=[tmp_path / "in"])
  files.check_output(tmp_path / "out", inputs=[tmp_path / "in", tmp_path / "absent", ""])


def test_a_full_disk_is_a_failure(tmp_path, monkeypatch):
  full = OSError(errno.ENOSPC, "No space left on device")
  assert isinstance(files.unwritable("x", full), RunFailure)
  with pytest.raises(RunFailure, match="/dev/full: cannot be written"):
    jsonl.write("/dev/full", ROWS)


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
  (tmp_path / "data").mkdir()
  target, link = tmp_path / "data" / "real.jsonl", tmp_path / "link.jsonl"
  link.symlink_to("data/real.jsonl")  # to nothing yet
  files.check_output(link)
  for row in ({"a": 1}, {"a": 2}):
    jsonl.write(link, [row])
    assert link.is_symlink() and jsonl.read(target) == [(1, row)]
  assert names(tmp_path) == ["data", "link.jsonl"] and names(target.parent) == ["real.jsonl"]


def test_a_file_that_is_mounted_is_filled(tmp_path, monkeypatch):
  """`docker run -v file:file`: such a file has no place in its folder, so a rename fails."""
  path = tmp_path / "out.jsonl"
  path.write_text("old")

  def busy(*_):
    raise OSError(errno.EBUSY, "Device or resource busy")

  monkeypatch.setattr(os, "replace", busy)
  jsonl.write(path, ROWS)
  assert jsonl.read(path) == [(1, ROWS[0])] and names(tmp_path) == ["out.jsonl"]


def test_streams(tmp_path, monkeypatch):
  os.mkfifo(tmp_path / "pipe")
  for path in (tmp_path / "pipe", "/dev/stdout", "/dev/null", "/dev/fd/1", "/dev/../dev/stderr"):
    assert files.is_stream(path)
    files.check_output(path)
    refused(path, "a pipe or device", streams=False)
  for path in (tmp_path, tmp_path / "new", "/dev/shm/new"):
    assert files.is_stream(path) == (path == tmp_path)
  monkeypatch.setattr(sys, "stdout", None)
  assert not files.is_stdout("/dev/stdout")


@pytest.mark.parametrize("to_file", [False, True])
def test_rows_stand_alone_on_stdout(tmp_path, to_file):
  """/dev/stdout is a link; it neither becomes a file nor gets the line for people among the rows."""
  (tmp_path / "in.jsonl").write_text('{"id": 1, "source": "s", "score": 2}\n')
  command = [sys.executable, "-m", "gtalign_jax", "normalize", str(tmp_path / "in.jsonl")]
  command += ["/dev/stdout", "--method", "none"]
  with open(tmp_path / "out", "w+") as out:
    done = subprocess.run(
      command, stdout=out if to_file else subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out.seek(0)
    rows = out.read() if to_file else done.stdout
  assert rows == '{"id": 1, "source": "s", "score": 2, "normalized": 2.0}\n'
  assert done.stderr.startswith("1 rows of 1 sources") and os.path.islink("/dev/stdout")


def test_folders(tmp_path):
  (tmp_path / "file").write_text("x")
  (tmp_path / "full").mkdir()
  (tmp_path / "full" / "x").write_text("x")
  (tmp_path / "empty").mkdir()
  (tmp_path / "nowhere").symlink_to("none/at/all")
  (tmp_path / "there").symlink_to("empty")
  for path, expected in (
    ("", "is empty"),
    ("s3://bucket/out", "is no local path"),
    (tmp_path / "file", "is no folder"),
    (tmp_path / "file" / "x", "is no folder"),
    (tmp_path / "nowhere", "a link to .*none/at/all, which is not there"),
    (tmp_path / "a\0b", "null"),
  ):
    with pytest.raises(BadInput, match=expected):
      files.check_folder(path, "--out")
  with pytest.raises(BadInput, match=r"--out .* not empty"):
    files.check_folder(tmp_path / "full", "--out", empty=True)
  for name in ("empty", "there", "new", "new/deep"):
    files.check_folder(tmp_path / name, "--out", empty=True)
  files.check_folder(tmp_path / "full", "--out")
  assert names(tmp_path) == ["empty", "file", "full", "nowhere", "there"]


def test_whose_a_finished_file_is(tmp_path):
  out = tmp_path / "out.jsonl"
  finished.check_free(out, False)
  assert not finished.is_done(out, "job", False)
  out.touch()  # as mktemp leaves it
  finished.check_free(out, False)
  assert not finished.is_done(out, "job", False)
  out.write_text("rows\n")
  for call in (
    lambda: finished.check_free(out, False),
    lambda: finished.is_done(out, "job", False),
  ):
    with pytest.raises(BadInput, match="--overwrite"):
      call()
  finished.sign(out, "job")
  finished.check_free(out, False)
  assert finished.is_done(out, "job", False) and not finished.is_done(out, "job", True)
  with pytest.raises(BadInput, match="--overwrite"):
    finished.is_done(out, "another job", False)
  out.write_text("rows, edited by hand\n")
  with pytest.raises(BadInput, match="--overwrite"):
    finished.is_done(out, "job", False)
  assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(
    (tmp_path / "out.jsonl.job").stat().st_mode
  )
