"""Constrained decoding of a model that has never seen a chain: does each parse, and what does it cost?

  python benchmarks/constrain.py [--model SPEC] [--chains 500] [--rows 128] [--pairs 3]

Prompts of the sample set. The first pairs of batches are with and without rollout.constrain, in turns; each batch is timed from its first decoded token
to its last, in steps of all its rows, so that rows which end early change nothing. Prints JSON: how many chains parse strictly,
rows x steps a second of both, and the median and range of their ratio over the pairs.
"""

import argparse
import json
import time

import jax
import numpy as np

from gtalign_jax import models
from gtalign_jax.data import prompts, sources
from gtalign_jax.models.vocabulary import spell
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.rewards import chain
from gtalign_jax.rollout import constrain, engine, generate, stop
from gtalign_jax.sections import DataConfig, MeshConfig, RolloutConfig
from gtalign_jax.types import BLOCKS

BUDGETS = dict(zip(BLOCKS, (14, 110, 14, 14)))
TOTAL = sum(BUDGETS.values())
GROUP, BUCKET = 8, 256
CONFIG = RolloutConfig(group_size=GROUP, max_new_tokens=TOTAL, segment=TOTAL)


def made(policy, mesh, prefix, budgets, count):
  """An engine of `count` prompts. No rows end before the budget, unless their chain does."""
  alone, vocab = sharding.replicated(mesh), policy.config.vocab_size
  sampling = generate.sampling_of(CONFIG, policy.config, (), policy.eos_ids[0], "float32")
  table = distributed.to_device(stop.stop_table(policy.tokenizer, (), vocab), alone)
  return engine.Engine(
    sampling, table, policy.tokenizer, count, (BUCKET,), Executables(mesh), prefix,
    constraint=constrain.constraint(policy.tokenizer, vocab, budgets, alone),
  )  # fmt: skip


def batch(each, params, ids, number):
  """(state at the end, seconds, steps) of one batch; number: of its draws."""
  mesh, P = each.programs.mesh, each.slots
  key, step, enough = jax.device_put(
    (jax.random.key(0), np.int32(number), np.int32(P)), sharding.replicated(mesh)
  )
  size = (P, BUCKET, each.cache_slots(0, False))
  given = engine.to_device(mesh, ids, range(P), P, (BUCKET,), constraint=each.constraint)
  inputs = generate.DecodeInputs(params, None, each.stop_table, key, step, each.grammar)
  context, state = each.programs[f"{each.prefix}prefill", *size](inputs, given)
  inputs = inputs._replace(layers=each.programs[f"{each.prefix}layers"](params))
  jax.block_until_ready((context, state, inputs))
  began = time.perf_counter()
  state = each.programs[f"{each.prefix}decode", *size](inputs, context, state, enough)
  jax.block_until_ready(state)
  return state, time.perf_counter() - began, int(state.clock) - 1


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
  parser.add_argument("--chains", type=int, default=500)
  parser.add_argument("--rows", type=int, default=128)
  parser.add_argument("--pairs", type=int, default=3)
  args = parser.parse_args()
  mesh = meshes.make(MeshConfig(), jax.devices()[:1])
  policy = models.load(args.model, mesh=mesh)
  data = DataConfig()
  ids = prompts.encode(sources.load(data, "train"), policy.tokenizer, data).ids
  P = args.rows // GROUP
  both = [made(policy, mesh, *each, P) for each in (("free_", {}), ("bound_", BUDGETS))]
  errors, rates = [], []
  with jax.set_mesh(mesh):
    for each in both:
      each.programs.compile([engine.table(each, policy.params, BUCKET, False)])
    for number in range(-(-args.chains // (P * GROUP))):
      some = [ids[(number * P + i) % len(ids)] for i in range(P)]
      pair = []
      for each in both if number < args.pairs else both[1:]:
        state, seconds, steps = batch(each, policy.params, some, number)
        pair.append(P * GROUP * steps / seconds)
      rates += [pair] * (number < args.pairs)
      rollout = jax.device_get(state.rollout)
      for tokens, mask in zip(rollout.tokens_BC, rollout.mask_BC):
        errors.append(chain.parse(spell(policy.tokenizer, tokens[mask])).error)
  errors = errors[: args.chains]
  ratios = [bound / free for free, bound in rates]
  result = {
    "chains": len(errors),
    "strict": errors.count(None),
    "errors": sorted({each for each in errors if each}),
    "budgets": BUDGETS,
    "rows": P * GROUP,
    "classes": int(both[1].grammar.next_SC.shape[1]),
    "states": int(both[1].grammar.next_SC.shape[0]),
    "free_tokens_per_s": float(np.median([free for free, _ in rates])),
    "bound_tokens_per_s": float(np.median([bound for _, bound in rates])),
    "ratio": float(np.median(ratios)),
    "ratios": [min(ratios), max(ratios)],
  }
  print(json.dumps(result))


if __name__ == "__main__":
  main()
