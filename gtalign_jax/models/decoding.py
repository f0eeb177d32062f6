"""The door between decoding and its two layouts, chosen once when a run is set up.

"rows" (models/decode.py) is for accelerators and is the oracle; "columns" (models/decode_cpu.py) is
for XLA:CPU. Both modules have the same names: prepare, prompt_cache, empty, grow, place, step,
SLOTS, PROMPT_SLOTS, GROWS.
"""

from types import ModuleType

import jax

from gtalign_jax.models import decode, decode_cpu

LAYOUTS = {"rows": decode, "columns": decode_cpu}


def native() -> str:
  """The layout that is fast on this machine."""
  return "columns" if jax.default_backend() == "cpu" else "rows"


def layout(name: str) -> ModuleType:
  """The module that decodes in the layout `name`."""
  return LAYOUTS[name]
