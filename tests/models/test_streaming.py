"""Import takes no more host memory than the parameters it leaves there plus a part of one tensor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, re, sys
from pathlib import Path
import jax, ml_dtypes, numpy as np
from safetensors.numpy import save_file
from gtalign_jax.models import hf, hf_config, weights
from gtalign_jax.models.variants import TINY
sys.path.insert(0, {tests!r})
import model_cases

def rss(key):
  return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

config = dict(model_type="llama", vocab_size=16384, hidden_size=512, intermediate_size=2048,
  num_hidden_layers=12, num_attention_heads=8, num_key_value_heads=8, rms_norm_eps=1e-5)
arch = hf_config.read(config, "large")
folder = Path({folder!r})
mesh = jax.make_mesh((1, 8, 1), ("data", "fsdp", "tensor")) if {split} else None
if {write}:
  names = {{}}
  for leaf in weights.leaves(arch):
    for name in leaf.names:
      names[name] = np.full(leaf.stored_shape, 0.5, ml_dtypes.bfloat16)
  save_file(names, folder / "model.safetensors")
  raise SystemExit
source = model_cases.Memory(model_cases.state_dict(TINY))
weights.assemble(TINY, source, "float32", mesh)  # what the machinery itself takes
source = hf.Safetensors(folder)
weights.check(arch, source, "large")
before = rss("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
params = jax.block_until_ready(weights.assemble(arch, source, "float32", mesh))
sizes = [leaf.nbytes for leaf in jax.tree.leaves(params)]
stored = max(2 * int(np.prod(shape)) for shape in source.shapes.values())
print(json.dumps(dict(peak=rss("VmHWM") - before, local=sum(sizes), array=max(sizes), stored=stored)))
"""


def run(folder, **settings):
  program = PROGRAM.format(tests=str(Path(__file__).parent.parent), folder=str(folder), **settings)
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_host_peak(tmp_path):
  """Over 8 devices: local part + 1.3 of the file's largest tensor. On one: + 1.3 of the largest array."""
  run(tmp_path, write=True, split=True)  # in a process of its own, so that its memory is gone
  many = json.loads(run(tmp_path, write=False, split=True).splitlines()[-1])
  one = json.loads(run(tmp_path, write=False, split=False).splitlines()[-1])
  print(many, one)
  assert many["local"] > 200e6  # far above what else moves
  assert many["peak"] < many["local"] + 1.3 * many["stored"]
  assert one["peak"] < one["local"] + 1.3 * one["array"]
