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
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from gtalign_jax.algorithms import update
from gtalign_jax.config import load
from gtalign_jax.models import architecture
from gtalign_jax.ops.logprobs import BLOCK, token_logprobs
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


class Variant(NamedTuple):
  """part: of the run. program: its name in `plan`. block: vocabulary entries at once, None = as usual."""

  part: str
  program: str
  overrides: tuple[str, ...] = ()
  change: Callable = lambda config: config
  block: int | None = None


VARIANTS = {
  "rollout": Variant("rollout", "decode"),
  "rollout, a copy of the prompt for each sample": Variant("rollout", "decode", change=alone),
  "rollout, all prompts at once": Variant("rollout", "decode", ("rollout.prompts_at_once=0",)),
  "update": Variant("update", "accumulate"),
  "update, a copy of the prompt for each sample": Variant("update", "accumulate", change=alone),
  "update, logits of the whole vocabulary at once": Variant("update", "accumulate", block=1 << 20),
  "update, nothing recomputed": Variant("update", "accumulate", ("policy.remat=none",)),
  "update, all prompts in one slice": Variant("update", "accumulate", ("grpo.micro_prompts=0",)),
}


def main(names):
  arch = architecture.read("", str(CONFIGS / "arch" / "qwen2.5-3b.json"))
  slices = topology.describe("v5e:4x4")
  for name in names or VARIANTS:
    variant = VARIANTS[name]
    config = load(CONFIGS / "qwen3b_v5e16.py", ["grpo.kl_coef=0", *variant.overrides])
    update.token_logprobs = functools.partial(token_logprobs, block=variant.block or BLOCK)
    found = plan.plan(variant.change(config), arch, slices, (variant.part,))
    line = {"benchmark": "aot_before", "variant": name} | found["programs"][variant.program]
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
  main(sys.argv[1:])
