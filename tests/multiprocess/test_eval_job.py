"""`gtalign eval` in two processes: the rows of one, written and told by the main one."""

import json
import sys

import processes
import pytest

from gtalign_jax.cli.main import main


@pytest.mark.slow
def test_two_processes_write_the_rows_of_one(tmp_path):
  data = tmp_path / "in.jsonl"
  rows = [
    {"id": f"p{n}", "data_source": "math-hard", "ground_truth": "1",
     "prompt": [{"role": "user", "content": f"{n}?"}]} for n in range(3)
  ]  # fmt: skip
  data.write_text("".join(json.dumps(row) + "\n" for row in rows))
  flags = ["eval", "--model", "random:tiny", "--data", str(data), "--max-new-tokens", "6",
           "--group-size", "2"]  # fmt: skip
  together, alone = tmp_path / "two.jsonl", tmp_path / "one.jsonl"
  command = [sys.executable, "-m", "gtalign_jax", *flags, str(together), "mesh.data=2"]
  first, second = processes.outcome(processes.start(command))
  assert (first[0], second[0]) == (0, 0), (first[2][-2000:], second[2][-2000:])
  assert "6 completions in" in first[1] and "completions" not in second[1]
  assert main([*flags, str(alone), "mesh.data=2", "mesh.fsdp=-1"]) == 0
  assert together.read_text() == alone.read_text()
  again = processes.outcome(processes.start([*command, "--temperature", "0"]))
  assert [code for code, *_ in again] == [2, 2]  # another job, for all of them
  assert sum("is there already" in said for *_, said in again) == 1
