"""Import takes no more host memory than the parameters it leaves there plus a part of one tensor."""

import json
import subprocess
import sys
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
import test_gguf
from safetensors.numpy import save_file

from gtalign_jax.models import hf_config, weights

SIZES = {
  "vocab_size": 16384, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
  "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64,
}  # fmt: skip
# Prints, in bytes: peak of the resident set while loading, above what was there before; what stays on the
# host (all devices are this CPU); the largest tensor of the file and the largest array of the tree.
PROGRAM = """
import json, math, re, sys
from pathlib import Path
import jax
from gtalign_jax.models import hf, hf_config, weights
from gtalign_jax.models.gguf import GGUF
from gtalign_jax.models.variants import TINY
sys.path.insert(0, {tests!r})
import model_cases

def rss(key):
  return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

path = Path({path!r})
arch = hf_config.read({config!r}, "large")
mesh = jax.make_mesh((1, 8, 1), ("data", "fsdp", "tensor")) if {split} else None
source = model_cases.Memory(model_cases.state_dict(TINY))
weights.assemble(TINY, source, "float32", mesh)  # what the machinery itself takes
source = GGUF(path) if path.is_file() else hf.Safetensors(path)
weights.check(arch, source, "large")
before = rss("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
params = jax.block_until_ready(weights.assemble(arch, source, "float32", mesh))
sizes = [leaf.nbytes for leaf in jax.tree.leaves(params)]
tensor = {width} * max(map(math.prod, source.shapes.values()))
peak = rss("VmHWM") - before
print(json.dumps(dict(peak=peak, local=sum(sizes), array=max(sizes), tensor=tensor)))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """One model as bf16 safetensors and as Q8_0 GGUF: (path, bytes a value)."""
  folder = tmp_path_factory.mktemp("large")
  config = test_gguf.SIZES | SIZES | {"model_type": "llama"}
  tensors = {
    name: np.full(leaf.stored_shape, 0.5, ml_dtypes.bfloat16)
    for leaf in weights.leaves(hf_config.read(config, "large"))
    for name in leaf.names
  }
  save_file(tensors, folder / "model.safetensors")
  path = folder / "model.gguf"
  test_gguf.write(path, "llama", gguf.GGMLQuantizationType.Q8_0, **SIZES)
  return config, {"safetensors": (folder, 2), "gguf": (path, 34 / 32)}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_host_peak(files, kind, split):
  """Local part + 1.3 of the file's largest tensor, on one device and over 8."""
  config, paths = files
  path, width = paths[kind]
  tests = str(Path(__file__).parent.parent)
  program = PROGRAM.format(tests=tests, path=str(path), config=config, split=split, width=width)
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-2000:]
  seen = json.loads(done.stdout.splitlines()[-1])
  print(seen)
  assert seen["local"] > 200e6  # far above what else moves
  assert seen["array"] > 2 * seen["tensor"]  # an array staged whole would not fit
  assert seen["peak"] < seen["local"] + 1.3 * seen["tensor"]
