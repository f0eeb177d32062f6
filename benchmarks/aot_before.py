"""What each saving of rollout and update is worth on a TPU slice: memory with it and without it.

  python benchmarks/aot_before.py [VARIANT …]        (names below; default: all)

Qwen2.5-3B on v5e:4x4 as in aot.py, without KL. Needs libtpu, no TPU. One JSON line a variant; a minute or
two each on 2 cores.
"""

import dataclasses
import functools
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from gtalign_jax.algorithms import update
from gtalign_jax.config import load
from gtalign_jax.models import architecture
from gtalign_jax.ops.logprobs import token_logprobs
from gtalign_jax.parallel import topology
from gtalign_jax.train import plan

CONFIGS = Path(__file__).parent.parent / "configs"


def alone(config):
  """Every sample with its own copy of the prompt: as many prompts as there were samples, G = 1."""
  G = config.rollout.group_size
  rollout = dataclasses.replace(config.rollout, prompts_at_once=config.rollout.prompts_at_once * G)
  object.__setattr__(rollout, "group_size", 1)  # no run may have that; here it is the comparison
  grpo = dataclasses.replace(
    config.grpo,
    prompts_per_step=config.grpo.prompts_per_step * G,
    micro_prompts=config.grpo.micro_prompts * G,
  )
  return dataclasses.replace(config, rollout=rollout, grpo=grpo)


# name -> (part of the run, its program, overrides, change of the config)
VARIANTS = {
  "rollout": ("rollout", "decode", [], None),
  "rollout, a copy of the prompt for each sample": ("rollout", "decode", [], alone),
  "rollout, all prompts at once": ("rollout", "decode", ["rollout.prompts_at_once=0"], None),
  "update": ("update", "accumulate", [], None),
  "update, a copy of the prompt for each sample": ("update", "accumulate", [], alone),
  "update, logits of the whole vocabulary at once": ("update", "accumulate", [], None),
  "update, nothing recomputed": ("update", "accumulate", ["policy.remat=none"], None),
  "update, all prompts in one slice": ("update", "accumulate", ["grpo.micro_prompts=0"], None),
}


def main(names):
  arch = architecture.read("", str(CONFIGS / "arch" / "qwen2.5-3b.json"))
  slices = topology.describe("v5e:4x4")
  for name in names or VARIANTS:
    part, program, overrides, change = VARIANTS[name]
    config = load(CONFIGS / "qwen3b_v5e16.py", ["grpo.kl_coef=0", *overrides])
    config = change(config) if change else config
    whole = {"block": arch.vocab_size} if "vocabulary" in name else {}
    update.token_logprobs = functools.partial(token_logprobs, **whole)
    found = plan.plan(config, arch, slices, (part,))["programs"][program]
    print(json.dumps({"benchmark": "aot_before", "variant": name} | found), flush=True)


if __name__ == "__main__":
  main(sys.argv[1:])
