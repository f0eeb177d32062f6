"""Settings shared by all tests: CPU, 8 virtual devices, one compilation cache for all workers."""

import collections
import os
import sys
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
XLA_FLAGS = {
  "xla_force_host_platform_device_count": 8,
  # much of the tests' time is LLVM at work on programs that run once: 151 -> 96 s for `pytest -n 2
  # tests/rollout/test_generate.py tests/algorithms/test_update.py` without a cache
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": "true",
}
if metadata.version("jaxlib").startswith("0.10."):  # an unknown flag would end the process
  # the older way to the machine code of fusions: 6.3 -> 1.7 s of CPU for the programs of one engine
  XLA_FLAGS["xla_cpu_use_fusion_emitters"] = "false"
for name, value in XLA_FLAGS.items():
  if name not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{name}={value}".strip()
CACHE = Path(__file__).parent.parent / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
# small programs too: a tiny run is some hundred of them, and most are the same in the next run
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# and byte code: see launch/env.sh
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never wait for a hub
# nor does any fail for the time that a loaded machine takes
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items):
  """Slow files first: a file stays on one worker, and a long one must not be the last to start."""
  slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
  items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="module")
def shared_programs():
  """Runs of this file compile equal programs once: `pytest.mark.usefixtures("shared_programs")`."""
  from shared_programs import shared  # imports jax, which reads what is set above

  with shared():
    yield


@pytest.fixture(scope="module")
def one_device():
  """A mesh of one of the tests' eight devices: programs for all of them compile for a minute."""
  import jax

  from gtalign_jax.parallel import mesh

  make = mesh.make
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(mesh, "make", lambda config: make(config, jax.devices()[:1]))
    yield
