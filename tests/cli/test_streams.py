"""The world around a command: encodings, closed and full streams, jax's variables, signals, bugs."""

import json
import os
import signal
import subprocess
import sys

import pytest

from gtalign_jax.cli import crash
from gtalign_jax.cli import main as cli

ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ROW = {"id": "é", "user_reward": 1, "llm_reward": 1, "source": "é", "score": 1}


def start(*argv, env=None, **more):
  """A real process of the command."""
  return subprocess.run(
    [sys.executable, "-m", "gtalign_jax", *map(str, argv)],
    env=os.environ | (env or {}), capture_output="stdout" not in more, **more,
  )  # fmt: skip


@pytest.mark.parametrize("env", [ASCII, C_LOCALE, {"PYTHONIOENCODING": "latin-1"}])
def test_any_text_goes_to_any_terminal(tmp_path, env):
  path = tmp_path / "é\u4e2d.jsonl"
  path.write_text(json.dumps(ROW) + "\n")
  assert b"COMMAND \\u2026" in start("--help", env=env).stdout
  done = start("compare", path, path, env=env)  # the name of the file heads the table
  assert (done.returncode, done.stderr) == (0, b"") and b"\\u" in done.stdout
  done = start("compare", path, tmp_path / "\u4e2d", env=env)
  assert done.returncode == 2 and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", ["gtalign --help", "gtalign config", "gtalign score --help"])
def test_a_reader_that_leaves(command):
  shell = f"set -o pipefail; {sys.executable} -m gtalign_jax {command[8:]} | true"
  done = subprocess.run(["bash", "-c", shell], capture_output=True)
  assert done.stderr == b"" and done.returncode in (0, 1)


def test_closed_and_full_streams(tmp_path):
  shell = f"{sys.executable} -m gtalign_jax config"
  for ending, code in ((">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), (">/dev/full", 1)):
    done = subprocess.run(["bash", "-c", f"{shell} {ending}"], capture_output=True, text=True)
    assert done.returncode == code, ending
    assert done.stderr == ("" if not code else "gtalign: No space left on device\n")


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("JAX_PLATFORMS", "cuda"),
    ("JAX_NUM_CPU_DEVICES", "many"),
    ("JAX_DEFAULT_MATMUL_PRECISION", "best"),
  ],
)
def test_a_variable_of_jax_is_named(tmp_path, name, value):
  given = ["bench", "--model=random:tiny", "--prompts=1", "--group-size=2", "--repeats=1"]
  done = start(*given, "--prompt-tokens=8", "--new-tokens=2", env={name: value}, text=True)
  assert done.returncode == 2
  lines = done.stderr.splitlines()
  assert f"gtalign: {name}={value!r}: " in lines[-1] and len(lines) <= 3, done.stderr


def test_help_and_mistakes_are_told_without_jax():
  code = (
    "import sys\nfrom gtalign_jax.cli.main import COMMANDS, main\n"
    "for name in COMMANDS:\n"
    "  for more in ['--help'], ['--nonsense'], []:\n"
    "    try: main([name, *more])\n"
    "    except SystemExit: pass\n"
    "heavy = {'jax', 'flax', 'orbax', 'transformers', 'datasets', 'openai', 'matplotlib'}\n"
    "print(file=sys.stderr)\nsys.exit(' '.join(heavy & set(sys.modules)))"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "")


def test_interrupted(tmp_path):
  os.mkfifo(tmp_path / "in.jsonl")  # a reader that waits for ever
  argv = ["normalize", str(tmp_path / "in.jsonl"), str(tmp_path / "o"), "--method=none"]
  process = subprocess.Popen(
    # a shell's background job, as CI may run these tests in, is born deaf to SIGINT
    [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gtalign_jax.cli.main import main; print(); main({argv!r})"],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
  )  # fmt: skip
  process.stdout.readline()
  with open(tmp_path / "in.jsonl", "w"):  # opened by now, and read from
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
  assert error == "gtalign: interrupted; run the same command again to resume\n"


def test_a_bug_is_one_line_and_keeps_its_traceback(monkeypatch, tmp_path, capsys):
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  monkeypatch.setattr("tempfile.tempdir", None)

  def broken(name):
    raise KeyError("no\nsuch thing")

  monkeypatch.setattr(cli, "command", broken)
  assert cli.main(["score"]) == 1
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and error.startswith("gtalign: internal error, please report it")
  (kept,) = tmp_path.iterdir()
  assert str(kept) in error and "in broken" in kept.read_text()
  monkeypatch.setenv(crash.DEBUG, "1")
  assert cli.main(["score"]) == 1
  assert "in broken" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_gone(tmp_path, monkeypatch, capsys):
  (tmp_path / "c.py").write_text(
    "from gtalign_jax.config import Config\ndef config(): return Config()\n"
  )
  (tmp_path / "gone").mkdir()
  monkeypatch.chdir(tmp_path / "gone")
  (tmp_path / "gone").rmdir()
  assert cli.main(["config", str(tmp_path / "c.py")]) == 2
  assert capsys.readouterr().err.startswith("gtalign: the current folder is not there any more")


@pytest.mark.parametrize(
  ("error", "expected"),
  [
    (OSError(28, "No space left on device", "/x"), "/x: No space left on device"),
    (MemoryError(), "out of memory"),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "out of memory"),
  ],
)
def test_the_machine_fails(error, expected):
  code, text = crash.explain(error)
  assert code == 1 and text.startswith(expected)
