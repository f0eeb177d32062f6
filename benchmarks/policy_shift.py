"""What an update did to a policy (docs/results.md, what the learning rate does).

  python benchmarks/policy_shift.py BEFORE AFTER [--run runs/quickstart]      BEFORE, AFTER: from gtalign export

Prints JSON: mean negative log-likelihood (nats a token, f32) of the synthesised chains of 64 held-out sample prompts under both
policies, with their paired difference and its standard error over tokens; how far the weights moved (root mean square; for the
embedding the median over its rows); with --run, the median root of Adam's second moments in that run's newest GRPO checkpoint, bias-corrected.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

from gtalign_jax import config as configs
from gtalign_jax import models
from gtalign_jax.data import prompts, sources
from gtalign_jax.synthesize import sft_data

WIDTH = 640  # tokens of a prompt and its chain, padded, so that one program serves all


def chains(model):
  config = configs.load("configs/quickstart.py", [])
  encoded = prompts.encode(sources.load(config.data, "test"), model.tokenizer, config.data)
  found, _ = sft_data.examples(
    encoded, model.tokenizer, config.sft, seed=config.seed, data_config=config.data
  )
  return found[:64]


def nll(model, pairs):
  """Of every chain token, in order."""
  out = []
  for prompt, chain in pairs:
    ids = np.concatenate([prompt, chain])
    logits_TV = model.logits(np.pad(ids, (0, WIDTH - len(ids)))[None])[0]
    start, end = len(prompt), len(ids)
    each = optax.softmax_cross_entropy_with_integer_labels(
      logits_TV[start - 1 : end - 1], ids[start:end]
    )
    out.append(np.asarray(each, np.float64))
  return np.concatenate(out)


def moved(before, after):
  def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))

  change = jax.tree.map(lambda a, b: np.asarray(b, np.float64) - np.asarray(a), before, after)
  table = change["embed"]["table"]
  rows_V = np.sqrt(np.mean(np.square(table), axis=1))
  layers = {name: rms(next(iter(leaf.values()))) for name, leaf in change["layers"].items()}
  return {"embedding, median row": float(np.median(rows_V)), **layers}


def gradients(run):
  b2 = configs.load("configs/quickstart.py", []).optim.b2
  newest = max(run.glob("checkpoints/grpo/[0-9]*"), key=lambda path: int(path.name))
  state = ocp.StandardCheckpointer().restore((newest / "state").resolve())
  leaves = jax.tree_util.tree_leaves_with_path(state["opt_state"])
  out = {}
  for path, leaf in leaves:
    name = jax.tree_util.keystr(path)
    if "['nu']" in name:
      root = np.sqrt(np.asarray(leaf, np.float64) / (1 - b2 ** int(newest.name)))
      out[name.split("['nu']")[1]] = float(np.median(root))
  return out


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("before")
  parser.add_argument("after")
  parser.add_argument("--run", type=Path)
  options = parser.parse_args()
  before, after = models.load(options.before), models.load(options.after)
  pairs = chains(before)
  old, new = nll(before, pairs), nll(after, pairs)
  change = new - old
  report = {
    "tokens": len(old),
    "nll": [old.mean(), new.mean()],
    "change": [change.mean(), change.std() / len(change) ** 0.5],
    "moved": moved(before.params, after.params),
  }
  if options.run:
    report["gradients"] = gradients(options.run)
  print(json.dumps(report, indent=1))


main()
