"""Thousands of odd command lines: each ends with 0, 1 or 2 and one clear line, never a traceback.

In one process, because most end before anything is loaded; the same seeds every time. What makes a
command compute for long (a model that loads) is left out: those runs have tests of their own.
"""

import hashlib
import json
import os
import random
import re
import time

import pytest

from gtalign_jax import config as configs
from gtalign_jax.cli import main as cli

CHAIN = (
  "<thinking>t DQ</thinking><payoff>{}</payoff><analyze>DQ_DA</analyze><response>yes</response>"
)
SCORE = {"id": "a", "data_source": "math-hard", "completion": CHAIN, "judge_score": 1}
PROMPT = {"data_source": "math-hard", "prompt": [{"role": "user", "content": "1+1?"}]}
ROWS = {
  "scores": [SCORE, SCORE | {"id": 2, "judge_score": None}],
  "prompts": [PROMPT | {"ground_truth": "2"}],
  "scored": [{"id": "a", "user_reward": 0.5, "llm_reward": 1, "data_source": "s", "score": 0.1}],
}
CONFIG = "from gtalign_jax.config import *\ndef config(): return Config()\n"
BROKEN_CONFIGS = {
  "syntax": "def config(:\n",
  "raises": CONFIG + "1 / 0\n",
  "exits": "import sys\nsys.exit(3)\n",
  "wrong": "def config(): return {'seed': 1}\n",
  "none": "",
  "typo": "from gtalign_jax.config import *\ndef config(): return Config(sed=1)\n",
  "loops": "def config(): return config()\n",
  "null": "\0\0",
}
NUMBERS = ["0", "1", "2", "-1", "nan", "inf", "-inf", "1e999", "1e-320", "2147483648", "1,5", "x",
  "9223372036854775807", "9223372036854775808", "0.5", "''", "1_0", "0x10", "\u0661", "+3", "true",
  "None", "1" + "0" * 40]  # fmt: skip
TEXTS = ["", " ", "x", "\udcff", "é\n", "-", "--", "=", "a=b", "None", "{}", "()", "'", "[", "%s",
  "x" * 5000, "9" * 5000, "../..", "~", "~nobody", "$HOME", "*", "[a]", "a::b", "\x1b[2J"]  # fmt: skip
# none of them is asked: they are no addresses of an endpoint, or refuse at once
URLS = ["", "http://", "ftp://x/v1", "x", "http://[", "http://127.0.0.1:99999/v1", "http://a b/v1",
  "http://\udcff/v1", "localhost:1", "http://user:p@/v1", "file:///etc/passwd"]  # fmt: skip
VALUES = [
  *NUMBERS,
  *TEXTS,
  "[1,2]",
  "(1,)",
  "{'a': 1}",
  "{'a': {}}",
  "{[]: 1}",
  "1" * 5000,
  "(" * 300,
]
# how many invocations of each command, by what one costs
COUNTS = {
  "config": 500, "score": 300, "normalize": 300, "compare": 250, "generate": 200, "eval": 200,
  "synthesize": 80, "steer": 120, "export": 80, "bench": 80, "plan": 60, "train": 60, "sft": 40,
  "prepare": 40, "show": 80, "serve": 60,
}  # fmt: skip


def text(rows):
  return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
  """name -> things that an argument may name; all of them in the current folder."""
  home = tmp_path_factory.mktemp("fuzz")
  before = os.getcwd()
  os.chdir(home)

  def write(name, data):
    (home / name).write_bytes(data.encode() if isinstance(data, str) else data)

  for name, rows in ROWS.items():
    write(f"{name}.jsonl", text(rows))
    write(f"{name}_cut.jsonl", text(rows)[:-9])
  write("garbage.jsonl", bytes(range(256)) * 9)
  write("empty.jsonl", "")
  write("blank.jsonl", "\n \n")
  write("list.jsonl", "[]\n3\n")
  write("deep.jsonl", "[" * 100_000)
  write("odd.jsonl", '{"id": {}, "data_source": 3, "prompt": 7, "user_reward": [], "score": "x"}\n')
  write(
    "huge.jsonl", '{"id": 1, "score": 1' + "0" * 500 + ', "source": "s", "user_reward": 1e999}\n'
  )
  os.symlink("nowhere/x", "dangling.jsonl")
  os.symlink("loop.jsonl", "loop.jsonl")
  os.mkdir("folder.jsonl")
  names = sorted(os.listdir())
  odd = [
    "missing.jsonl",
    "scores.jsonl/below",
    "/proc/self/mem",
    "/dev/null",
    "",
    "x" * 300,
    "\udcff",
  ]
  for name, content in BROKEN_CONFIGS.items():
    write(f"{name}.py", content)
  write("good.py", CONFIG)
  found = {
    "rows": [*names, *odd],
    "configs": [*(f"{name}.py" for name in BROKEN_CONFIGS), "folder.jsonl", "garbage.jsonl", *odd],
    "outputs": ["out.jsonl", "a=b.jsonl", "folder.jsonl", "dangling.jsonl", "loop.jsonl", "/dev/full",
      "no/such/out.jsonl", "good.py/x", "/dev/null", "", "x" * 300, "\udcff.jsonl", ".", "/proc/x"],
    "models": models(home),
  }  # fmt: skip
  digest = {name: hashlib.sha256((home / name).read_bytes()).hexdigest() for name in names
    if (home / name).is_file()}  # fmt: skip
  yield found
  os.chdir(before)
  for name, each in digest.items():
    assert hashlib.sha256((home / name).read_bytes()).hexdigest() == each, f"{name} was written to"
  assert not [name for name in os.listdir(home) if name.startswith(".")], "temporary files are left"


def models(home):
  """Model folders and files none of which loads."""
  import numpy as np
  from safetensors.numpy import save

  tensors = save({"model.embed_tokens.weight": np.zeros((8, 4), np.float32)})
  config = {"model_type": "llama", "hidden_size": 4, "vocab_size": 8, "num_hidden_layers": 1}
  folders = {
    "empty": {},
    "cut_config": {"config.json": json.dumps(config)[:-7]},
    "list_config": {"config.json": "[]"},
    "odd_config": {"config.json": json.dumps(config | {"hidden_size": "x"})},
    "huge_config": {"config.json": json.dumps(config | {"num_hidden_layers": 10**9})},
    "other_family": {"config.json": json.dumps(config | {"model_type": 3})},
    "no_weights": {"config.json": json.dumps(config)},
    "cut_weights": {"config.json": json.dumps(config), "model.safetensors": tensors[:-40]},
    "garbage": {"config.json": json.dumps(config), "model.safetensors": b"\xff" * 99},
    "bad_index": {"config.json": json.dumps(config), "model.safetensors.index.json": "{"},
    "binary": {"config.json": bytes(range(256))},
  }
  for name, files in folders.items():
    (home / name).mkdir()
    for file, data in files.items():
      (home / name / file).write_bytes(data.encode() if isinstance(data, str) else data)
  (home / "cut.gguf").write_bytes(b"GGUF\x03\0\0\0\x05")
  (home / "noise.gguf").write_bytes(bytes(range(256)))
  (home / "folder.gguf").mkdir()
  return [*folders, "cut.gguf", "noise.gguf", "folder.gguf", "missing.gguf", "no/such-model", "", ".",
    "random:", "random:huge", "good.py", "dangling.jsonl", "/proc/self/mem", "\udcff", "x" * 300]  # fmt: skip


def override(rng, section=""):
  """One key=value, true to a key (of the section, mostly) or not."""
  known = [key for key in configs.keys(configs.Config()) if key.startswith(section)]
  key = rng.choice([*known, "grpo.kind", "beta", "polcy.dtype", "", "x.y.z", "rewards"])
  return rng.choice(["", "", "", "--"]) + f"{key}={rng.choice(VALUES)}"


def flag_value(action, rng, pools):
  if action.choices is not None and rng.random() < 0.7:
    return str(rng.choice(sorted(action.choices)))
  if action.type in (int, float):
    return rng.choice(NUMBERS)
  return rng.choice(rng.choice([TEXTS, pools["rows"], pools["models"], pools["outputs"]]))


def flags(parser, rng, pools, skip):
  """Some of the command's flags with odd values, now and then one that it has not."""
  out = []
  for action in parser._actions:
    if action.option_strings and action.dest not in skip and rng.random() < 0.25:
      out.append(action.option_strings[-1])
      if action.nargs != 0:
        out.append(flag_value(action, rng, pools))
  if rng.random() < 0.1:
    out.append(rng.choice(["--nonsense", "--seed", "-x", "--json=1", "--grpo.steps", "--help-me"]))
  return out


def arguments(command, parser, rng, pools):
  """Random arguments, in which the model never loads and no endpoint is asked."""
  rows, outs, models, files = (pools[k] for k in ("rows", "outputs", "models", "configs"))
  pick = rng.choice
  sane = lambda good, pool: good if rng.random() < 0.6 else pick(pool)  # noqa: E731
  skip = {"help", "teacher", "topology"}
  section = {"score": "rewards.", "prepare": "data."}.get(command, "")
  overrides = [override(rng, section) for _ in range(pick([0, 0, 1, 2]))]
  model = pick(models)
  match command:
    case "score":
      fixed = [sane("scores.jsonl", rows), sane("out.jsonl", outs), *overrides]
      if rng.random() < 0.3:
        fixed += [f"rewards.judge.base_url={pick(URLS)}", "rewards.judge.model=m"]
        fixed += ["--judge", pick(["rule", "http", "recorded", "recorded:" + pick(rows), *TEXTS])]
      skip.add("judge")
    case "normalize":
      fixed = [sane("scored.jsonl", rows), sane("out.jsonl", outs), "--method=zscore"]
    case "compare":
      fixed = [sane("scored.jsonl", rows) for _ in range(pick([1, 2, 2, 3]))]
      fixed.append("--bootstrap=3")
      if rng.random() < 0.3:
        fixed += [pick(["--markdown", "--html"]), sane("told.txt", outs)]
      skip |= {"markdown", "html"}
    case "generate":
      fixed = ["--model", model, "--prompts", sane("prompts.jsonl", rows), sane("out.jsonl", outs)]
      skip |= {"model", "prompts"}
    case "eval":
      fixed = ["--model", model, *overrides, sane("out.jsonl", outs)]
      fixed += [] if rng.random() < 0.5 else [sane("good.py", files)]
      fixed += ["--data", pick(rows)] if rng.random() < 0.5 else []
      skip |= {"model", "data"}
    case "steer":
      fixed, many = ["--model", model, "--pricing", sane("free", rows)], rng.random() < 0.5
      fixed += ["--data", pick(rows), sane("out.jsonl", outs), *overrides] if many else []
      fixed += [] if many else ["--question", sane("why?", TEXTS)]
      skip |= {"model", "pricing", "question", "data"}
    case "bench" | "serve":  # a host would be looked up
      fixed, skip = ["--model", model], skip | {"model", "host"}
    case "export":
      fixed = ["--checkpoint", pick([*models, *rows]), "--out", pick([*outs, "new"])]
      skip |= {"checkpoint", "out"}
    case "show":  # none of them is a run, and so none is served
      fixed = [pick([*models, *rows, *outs]) for _ in range(pick([1, 1, 2]))]
    case "config":
      fixed = [*([sane("good.py", files)] if rng.random() < 0.5 else []), *overrides, override(rng)]
    case "synthesize" if rng.random() < 0.3:
      fixed = [sane("good.py", files), sane("chains", outs), *overrides, "--limit=2"]
      fixed += ["--teacher", pick(URLS), "--model", pick(["m", *TEXTS])]
      skip |= {"model", "limit"}
    case "prepare" | "synthesize":
      fixed = [
        sane("good.py", files),
        sane("prepared", outs),
        f"data.root={pick(rows)}",
        *overrides,
      ]
    case _:  # train, sft, plan: the model comes last, whatever the overrides say
      fixed = [sane("good.py", files), *overrides, f"model={model}", f"workdir={sane('run', outs)}"]
      fixed += [f"data.root={pick(rows)}"] if rng.random() < 0.3 else []
      fixed += ["--topology", sane("cpu:1", TEXTS)] if command == "plan" else []
  given = [*fixed, *flags(parser, rng, pools, skip)]
  if rng.random() < 0.15:  # one too few, or one too many
    given = given[:-1] if rng.random() < 0.5 else [*given, pick(TEXTS)]
  return given


def problem(argv, capsys):
  """What is wrong with how the command ended; "" if nothing is."""
  try:
    code = cli.main(argv)
  except SystemExit as done:  # of --help
    code = done.code
  error = capsys.readouterr().err
  lines = [line for line in error.splitlines() if line.strip()]
  ours = [line for line in lines if line.startswith("gtalign: ")]
  if code not in (0, 1, 2):
    return f"exit code {code}"
  if re.search("Traceback|internal error", error):
    return error[-2000:]
  return "" if len(lines) <= 3 and (code == 0 or len(ours) == 1) else f"{code}: {error[:2000]}"


@pytest.mark.parametrize("command", COUNTS)
def test_odd_command_lines(pools, capsys, command):
  _, parser = cli.command(command)
  began, found = time.monotonic(), []
  for number in range(COUNTS[command]):
    rng = random.Random(f"{command} {number}")
    argv = [command, *arguments(command, parser, rng, pools)]
    wrong = problem(argv, capsys)
    if wrong:
      found.append(f"{argv!r}\n  {wrong}")
  print(f"{command}: {COUNTS[command]} in {time.monotonic() - began:.1f} s")
  assert not found, f"{len(found)} of {COUNTS[command]}:\n" + "\n".join(found[:20])


@pytest.mark.parametrize("argv", [[], ["-h"], ["--version"], ["tarin"], [""], ["\udcff"], ["-x"]])
def test_no_command(capsys, argv):
  code = cli.main(argv)
  assert code == (0 if argv and argv[0] in ("-h", "--version") else 2)
  assert capsys.readouterr().err.count("\n") <= 1


def test_there_are_two_thousand():
  assert sum(COUNTS.values()) >= 2000 and COUNTS.keys() == cli.COMMANDS.keys()
