"""Writes losses.json: float64 reference values of losses, gradients and advantages.

    python tests/golden/make_losses.py

Plain loops over rows and tokens, written from the formulas (docs/algorithms.md) and from nothing in
the package. A loss takes the log-probabilities twice: `lp`, which the gradient follows, and `held`,
the same numbers where the formula stops the gradient. Gradients are central differences over `lp`.
"""

import itertools
import json
import math
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("losses.json")
KINDS = ("grpo", "gspo", "cispo")
AGGREGATIONS = (
  "token-mean",
  "seq-mean-token-mean",
  "seq-mean-token-sum",
  "seq-mean-token-sum-norm",
)
ESTIMATORS = ("k1", "k2", "k3", "k1+", "k2+", "k3+")
BUDGET = 9  # T_max; more than the width of the arrays


def clamp(x, low, high):
  return min(max(x, low), high)


def inputs():
  """A batch with clipped tokens on both sides, one log-ratio beyond 20, and an empty row."""
  rng = np.random.default_rng(20251)
  lp = np.log(rng.uniform(0.02, 0.98, (5, 6)))
  old = lp + rng.normal(0, 0.25, lp.shape)
  old[0, 1] = lp[0, 1] - 23.0
  old[1, 2] = lp[1, 2] + 22.5
  mask = np.ones(lp.shape, int)
  mask[1, 4:], mask[2], mask[3, 1:], mask[4, 2] = 0, 0, 0, 0
  return {
    "logp": lp,
    "old_logp": old,
    "ref_logp": lp + rng.normal(0, 0.4, lp.shape),
    "sampler_logp": old + rng.normal(0, 0.3, lp.shape),
    "advantage": np.array([0.8, -1.3, 2.0, -0.6, 0.45]),
    "mask": mask,
  }


def kl_term(estimator, lp, held, ref):
  def value(kind, x):
    delta = x - ref
    return {"k1": delta, "k2": delta**2 / 2, "k3": math.exp(-delta) + delta - 1}[kind]

  if estimator.endswith("+"):
    return value(estimator[:2], held) + value("k2", lp) - value("k2", held)
  return value(estimator, lp)


def combine(per_token, mask, aggregation):
  """One number from {(row, time): loss}."""
  rows = [[per_token[b, t] for t in range(mask.shape[1]) if mask[b, t]] for b in range(len(mask))]
  tokens = sum(map(len, rows))
  filled = [row for row in rows if row]
  if not filled:
    return 0.0
  if aggregation == "token-mean":
    return sum(map(sum, rows)) / tokens
  if aggregation == "seq-mean-token-mean":
    return sum(sum(row) / len(row) for row in filled) / len(filled)
  if aggregation == "seq-mean-token-sum":
    return sum(map(sum, filled)) / len(filled)
  return sum(map(sum, rows)) / (len(mask) * BUDGET)


def weights(x, level, mode, bounds):
  """Mismatch weight of every token."""
  out = np.ones(x["mask"].shape)
  for b in range(len(out)):
    logs = [x["old_logp"][b, t] - x["sampler_logp"][b, t] for t in range(out.shape[1])]
    whole = sum(log for t, log in enumerate(logs) if x["mask"][b, t])
    for t, log in enumerate(logs):
      w = math.exp(clamp(whole if level == "sequence" else log, -20, 20))
      inside = bounds[0] <= w <= bounds[1]
      out[b, t] = clamp(w, *bounds) if mode == "truncate" else w * inside
  return out


def policy(x, cell, lp, held):
  mask, old = x["mask"], x["old_logp"]
  low, high = 1 - cell["clip_low"], 1 + cell["clip_high"]
  w = np.ones(mask.shape)
  if cell["mismatch"] != "off":
    w = weights(x, cell["mismatch"], cell["mismatch_mode"], cell["mismatch_bounds"])
  per_token = {}
  for b in range(len(mask)):
    A = x["advantage"][b]
    here = [t for t in range(mask.shape[1]) if mask[b, t]]
    mean = sum(clamp(held[b, t] - old[b, t], -20, 20) for t in here) / max(len(here), 1)
    for t in here:
      if cell["kind"] == "gspo":
        r = math.exp(lp[b, t] - held[b, t] + mean)
      else:
        r = math.exp(clamp(lp[b, t] - old[b, t], -20, 20))
      if cell["kind"] == "cispo":
        frozen = math.exp(clamp(held[b, t] - old[b, t], -20, 20))
        loss = -clamp(frozen, low, high) * A * lp[b, t]
      else:
        loss = max(-r * A, -clamp(r, low, high) * A)
        if cell["dual_clip"] is not None and A < 0:
          loss = min(loss, -cell["dual_clip"] * A)
      loss *= w[b, t]
      if cell["kl_coef"]:
        k = kl_term(cell["kl_estimator"], lp[b, t], held[b, t], x["ref_logp"][b, t])
        loss += cell["kl_coef"] * k
      per_token[b, t] = loss
  return combine(per_token, mask, cell["aggregation"])


def gradient(function, lp):
  out = np.zeros_like(lp)
  for index in np.ndindex(lp.shape):
    step = np.zeros_like(lp)
    step[index] = 1e-5
    out[index] = (function(lp + step) - function(lp - step)) / 2e-5
  return out


def cells():
  """Every kind x aggregation with each KL estimator, each mismatch, dual clip, uneven clip."""
  base = {
    "clip_low": 0.2, "clip_high": 0.2, "dual_clip": None, "kl_coef": 0.0, "kl_estimator": "k3",
    "mismatch": "off", "mismatch_mode": "truncate", "mismatch_bounds": [0.0, 2.0],
  }  # fmt: skip
  changes = [{}, {"clip_low": 0.1, "clip_high": 0.28}, {"dual_clip": 3.0}]
  changes += [{"kl_coef": 0.07, "kl_estimator": e} for e in ESTIMATORS]
  changes += [
    {"mismatch": level, "mismatch_mode": mode, "mismatch_bounds": [0.8, 1.15]}
    for level, mode in itertools.product(("token", "sequence"), ("truncate", "mask"))
  ]
  changes.append({"dual_clip": 3.0, "kl_coef": 0.1, "mismatch": "token"})
  for kind, aggregation, change in itertools.product(KINDS, AGGREGATIONS, changes):
    yield {"kind": kind, "aggregation": aggregation} | base | change


def policy_cells():
  x = inputs()
  lp = x["logp"]
  return [
    cell | {
      "loss": policy(x, cell, lp, lp),
      "gradient": gradient(lambda moved, cell=cell: policy(x, cell, moved, lp), lp).round(9),
    }
    for cell in cells()
  ]  # fmt: skip


def value_cells():
  rng = np.random.default_rng(7)
  x = inputs()
  value, old, returns = (rng.normal(0, s, x["mask"].shape) for s in (1.0, 1.0, 2.0))
  out = []
  for aggregation in AGGREGATIONS:
    per_token = {}
    for b, t in np.ndindex(x["mask"].shape):
      near = clamp(value[b, t], old[b, t] - 0.5, old[b, t] + 0.5)
      per_token[b, t] = max((value[b, t] - returns[b, t]) ** 2, (near - returns[b, t]) ** 2) / 2
    loss = combine(per_token, x["mask"], aggregation)
    out.append({"aggregation": aggregation, "loss": loss})
  return {"value": value, "old_value": old, "return": returns, "cells": out}


def mean_std(values):
  mean = math.fsum(values) / len(values)
  if len(values) < 2:
    return mean, 0.0
  return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def whitened(values, keep):
  kept = [v for v, k in zip(values.ravel(), keep.ravel()) if k]
  if not kept:
    return np.zeros_like(values)
  mean, std = mean_std(kept)
  return np.where(keep, (values - mean) / (std + 1e-8), 0.0)


def by_group(kind, reward, valid):
  out = np.zeros(reward.shape)
  for p in range(len(reward)):
    here = [g for g in range(reward.shape[1]) if valid[p, g]]
    if len(here) < 2:
      continue
    values = [float(reward[p, g]) for g in here]
    if len(set(values)) == 1:
      continue
    mean, std = mean_std(values)
    factor = {"grpo": 1 / (std + 1e-6), "rloo": len(here) / (len(here) - 1)}.get(kind, 1.0)
    for g, v in zip(here, values):
      out[p, g] = (v - mean) * factor
  return out


def advantages(kind, reward, valid):
  if kind == "gdpo":
    weight = (0.5, 0.5)
    scaled = sum(w * by_group("grpo", reward[..., c], valid) for c, w in enumerate(weight))
    out = whitened(scaled, valid)
  else:
    out = by_group(kind, reward, valid)
    if kind == "reinforce_baseline":
      out = whitened(out, valid)
  few = valid.sum(1, keepdims=True) < 2
  return np.where(valid & ~few, out, 0.0)


def advantage_cases():
  rng = np.random.default_rng(11)
  mixed = rng.normal(0.5, 0.2, (4, 5))
  mixed[1] = 0.7  # all equal
  mixed[2, 1:] = np.nan  # one valid
  mixed[3, [0, 3]] = np.nan
  cases = {
    "plain": rng.normal(0, 1, (3, 4)),
    "mixed": mixed,
    "group_of_one": rng.normal(0, 1, (3, 1)),
    "all_equal": np.full((2, 6), 0.3),
    "all_invalid": np.full((2, 3), np.nan),
  }
  out = {}
  for name, reward in cases.items():
    valid = np.isfinite(reward)
    second = np.where(valid, rng.normal(0, 2, reward.shape), np.nan)
    pair = np.stack([reward, reward if name == "all_equal" else second], -1)
    out[name] = {"reward": reward, "pair": pair, "valid": valid.astype(int)}
    for kind in ("grpo", "dr_grpo", "rloo", "reinforce_baseline", "gdpo"):
      out[name][kind] = advantages(kind, pair if kind == "gdpo" else reward, valid)
  return out


def gae_cases():
  rng = np.random.default_rng(5)
  reward, value = rng.normal(0, 1, (2, 4, 6))
  mask = np.array([[1] * 6, [1] * 3 + [0] * 3, [0] * 6, [1, 1, 0, 1, 1, 0]])
  out = {"reward": reward, "value": value, "mask": mask, "cells": []}
  for gamma, lam in ((1.0, 1.0), (0.97, 0.9)):
    advantage = np.zeros(mask.shape)
    for b in range(len(mask)):
      following, value_after = 0.0, 0.0
      for t in reversed([t for t in range(mask.shape[1]) if mask[b, t]]):
        delta = reward[b, t] + gamma * value_after - value[b, t]
        advantage[b, t] = delta + gamma * lam * following
        following, value_after = advantage[b, t], value[b, t]
    cell = {"gamma": gamma, "lam": lam, "advantage": advantage, "return": advantage + value * mask}
    out["cells"].append(cell | {"whitened": whitened(advantage, mask == 1)})
  return out


def plain(x):
  """JSON-ready."""
  if isinstance(x, dict):
    return {key: plain(value) for key, value in x.items()}
  if isinstance(x, list):
    return [plain(value) for value in x]
  return x.tolist() if isinstance(x, np.ndarray) else x


def make():
  golden = {
    "inputs": inputs(),
    "max_tokens": BUDGET,
    "policy": policy_cells(),
    "value": value_cells(),
    "advantages": advantage_cases(),
    "gae": gae_cases(),
  }
  return plain(golden)


if __name__ == "__main__":
  golden = make()
  lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
  FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
