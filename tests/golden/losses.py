"""The reference of losses and advantages: float64 NumPy, written from the formulas of
docs/algorithms.md and from nothing in the package.

A loss takes the log-probabilities twice: `lp`, which the gradient follows, and `held`, the same
numbers where the formula stops the gradient. Gradients are central differences over `lp`, all
entries at once: `policy` takes any number of copies [..., B, T]. The rest are plain loops.
"""

import itertools
import math
import random

import numpy as np

KINDS = ("grpo", "gspo", "cispo")
AGGREGATIONS = (
  "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm",
)  # fmt: skip
ESTIMATORS = ("k1", "k2", "k3", "k1+", "k2+", "k3+")
ADVANTAGES = ("grpo", "dr_grpo", "rloo", "reinforce_baseline", "gdpo")
BUDGET = 9  # T_max; more than the width of the arrays
STEP = 1e-5  # of central differences

# ---------------------------------------------------------------- the cells


def axes():
  """What can be chosen: the product of these lists is every cell."""
  levels = {"token": (0.8, 1.15), "sequence": (0.8, 1.15), "sequence-geometric": (0.99, 1.02)}
  return {
    "kind": [{"kind": each} for each in KINDS],
    "aggregation": [{"aggregation": each} for each in AGGREGATIONS],
    "clip": [
      {"clip_low": 0.2, "clip_high": 0.2},
      {"clip_low": 0.1, "clip_high": 0.28},
      {"clip_low": 0.1, "clip_high": 0.28, "dual_clip": 3.0},
    ],
    "kl": [{"kl_coef": 0.0}, *({"kl_coef": 0.07, "kl_estimator": each} for each in ESTIMATORS)],
    "mismatch": [
      {"mismatch": "off"},
      *(
        {"mismatch": level, "mismatch_mode": mode, "mismatch_bounds": bounds}
        for (level, bounds), mode in itertools.product(levels.items(), ("truncate", "mask"))
      ),
      {"mismatch": "token"},  # modes and bounds that go without saying
      {"mismatch": "sequence-geometric"},
      {"mismatch": "off", "mismatch_veto": (1e-4, 1e2)},
      {"mismatch": "sequence", "mismatch_veto": (1e-4, 1e2)},
    ],
    "blocks": [{}, {"block_weights": (0.5, 0.0, 1.7, 2.0)}],
  }


def cells():
  """Every combination of every option."""
  for combination in itertools.product(*axes().values()):
    yield {key: value for each in combination for key, value in each.items()}


def covering():
  """Few cells in which every two options meet: for gradients, which are slow to compute."""
  sizes = [range(len(choices)) for choices in axes().values()]
  everything = list(itertools.product(*sizes))
  random.Random(0).shuffle(everything)
  left = {
    (i, a, j, b)
    for (i, one), (j, two) in itertools.combinations(enumerate(sizes), 2)
    for a, b in itertools.product(one, two)
  }
  out = []
  while left:  # of a few combinations the one that brings most new pairs together
    some = (everything.pop() for _ in range(min(40, len(everything))))
    best = max(some, key=lambda each: len(pairs(each) & left))
    left -= pairs(best)
    chosen = [choices[n] for choices, n in zip(axes().values(), best, strict=True)]
    out.append({key: value for each in chosen for key, value in each.items()})
  return out


def pairs(combination):
  return {
    (i, a, j, b) for (i, a), (j, b) in itertools.combinations(enumerate(combination), 2)
  }  # fmt: skip


def name(cell):
  return "-".join(str(each) for each in cell.values())


def inputs():
  """A batch with clipped tokens on both sides, one log-ratio beyond 20, and an empty row.

  The sampler is far away at one token of row 4 and near everywhere in row 1. A token of block -1
  lies outside of all.
  """
  rng = np.random.default_rng(20251)
  lp = np.log(rng.uniform(0.02, 0.98, (5, 6)))
  old = lp + rng.normal(0, 0.25, lp.shape)
  old[0, 1] = lp[0, 1] - 23.0
  old[1, 2] = lp[1, 2] + 22.5
  mask = np.ones(lp.shape, int)
  mask[1, 4:], mask[2], mask[3, 1:], mask[4, 2] = 0, 0, 0, 0
  ref, sampler = lp + rng.normal(0, 0.4, lp.shape), old + rng.normal(0, 0.3, lp.shape)
  sampler[1] = old[1] + [0.004, -0.008, 0.006, -0.012, 0, 0]
  sampler[4, 3] = old[4, 3] + 10.0  # a weight below 1e-4
  return {
    "logp": lp,
    "old_logp": old,
    "ref_logp": ref,
    "sampler_logp": sampler,
    "entropy": rng.uniform(0.1, 3.0, lp.shape),
    "block": np.array(
      [[-1, 0, 0, 1, 2, 3], [0, 1, 2, 3, 0, 0], [0] * 6, [3] * 6, [0, 0, 1, 2, 3, -1]]
    ),
    "advantage": np.array([0.8, -1.3, 2.0, -0.6, 0.45]),
    "mask": mask,
  }


# ---------------------------------------------------------------- the loss


def held_to(delta):
  return np.minimum(np.maximum(delta, -20.0), 20.0)


def kl_term(estimator, lp, held, ref):
  def value(kind, x):
    delta = x - ref
    return {"k1": delta, "k2": delta**2 / 2, "k3": np.exp(-delta) + delta - 1}[kind]

  if estimator.endswith("+"):
    return value(estimator[:2], held) + value("k2", lp) - value("k2", held)
  return value(estimator, lp)


def combine(per_token, mask, aggregation):
  """One number from losses [..., B, T]."""
  rows = (per_token * mask).sum(-1)
  length = mask.sum(-1)
  if not length.any():
    return rows.sum(-1)
  if aggregation == "token-mean":
    return rows.sum(-1) / length.sum()
  if aggregation == "seq-mean-token-sum-norm":
    return rows.sum(-1) / (len(mask) * BUDGET)
  filled = length > 0
  if aggregation == "seq-mean-token-mean":
    return (rows[..., filled] / length[filled]).mean(-1)
  return rows[..., filled].mean(-1)


def mismatch_weights(x, cell):
  """Mismatch weight of every token."""
  out = np.ones(x["mask"].shape)
  level = cell["mismatch"]
  mode, (low, high) = ("mask", (0.99, 1.01)) if "geometric" in level else ("truncate", (0, 2))
  mode, (low, high) = cell.get("mismatch_mode", mode), cell.get("mismatch_bounds", (low, high))
  for b in range(len(out)):
    here = [t for t in range(out.shape[1]) if x["mask"][b, t]]
    away = {t: x["old_logp"][b, t] - x["sampler_logp"][b, t] for t in here}
    for t in here:
      if level == "off":
        continue
      exponent = {"token": away[t], "sequence": sum(away.values())}.get(level)
      exponent = sum(away.values()) / len(here) if exponent is None else exponent
      w = math.exp(min(max(exponent, -20), 20))
      out[b, t] = min(max(w, low), high) if mode == "truncate" else w * (low <= w <= high)
    if "mismatch_veto" in cell:
      least, most = cell["mismatch_veto"]
      if any(not least <= math.exp(each) <= most for each in away.values()):
        out[b] = 0.0
  return out


def policy(x, cell, lp, held):
  """The loss at `lp` [..., B, T]."""
  mask, old, A = x["mask"], x["old_logp"], x["advantage"][:, None]
  low, high = 1 - cell["clip_low"], 1 + cell["clip_high"]
  ratio = np.exp(held_to(lp - old))
  if cell["kind"] == "gspo":
    mean = (held_to(held - old) * mask).sum(-1, keepdims=True)
    mean = mean / np.maximum(mask.sum(-1, keepdims=True), 1)
    ratio = np.exp(lp - held + mean)
  if cell["kind"] == "cispo":
    weight = np.exp(held_to(held - old)).clip(low, high)
    loss = -weight * A * lp
  else:
    loss = np.maximum(-ratio * A, -ratio.clip(low, high) * A)
    if "dual_clip" in cell:
      loss = np.where(A < 0, np.minimum(loss, -cell["dual_clip"] * A), loss)
  loss = loss * mismatch_weights(x, cell)
  if cell["kl_coef"]:
    loss = loss + cell["kl_coef"] * kl_term(cell["kl_estimator"], lp, held, x["ref_logp"])
  if "block_weights" in cell:
    by_block = dict(enumerate(cell["block_weights"])) | {-1: 1.0}
    loss = loss * np.vectorize(by_block.get)(x["block"])
  return combine(loss, mask, cell["aggregation"])


def differences(function, at):
  """The gradient of a function of [..., B, T] at one point."""
  steps = STEP * np.eye(at.size).reshape(at.size, *at.shape)
  return ((function(at + steps) - function(at - steps)) / (2 * STEP)).reshape(at.shape)


def policy_gradient(x, cell):
  return differences(lambda moved: policy(x, cell, moved, x["logp"]), x["logp"])


def value_inputs():
  rng = np.random.default_rng(7)
  return [rng.normal(0, s, inputs()["mask"].shape) for s in (1.0, 1.0, 2.0)]


def value(values, old, returns, mask, aggregation, clip=0.5):
  near = np.minimum(np.maximum(values, old - clip), old + clip)
  return combine(np.maximum((values - returns) ** 2, (near - returns) ** 2) / 2, mask, aggregation)


# ---------------------------------------------------------------- advantages


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
    values = [float(reward[p, g]) for g in here]
    if len(set(values)) < 2:
      continue
    mean, std = mean_std(values)
    factor = {"grpo": 1 / (std + 1e-6), "rloo": len(here) / (len(here) - 1)}.get(kind, 1.0)
    for g, v in zip(here, values):
      out[p, g] = (v - mean) * factor
  return out


def advantages(kind, reward, valid, weight=(0.5, 0.5)):
  if kind == "gdpo":
    scaled = sum(w * by_group("grpo", reward[..., c], valid) for c, w in enumerate(weight))
    out = whitened(scaled, valid)
  else:
    out = by_group(kind, reward, valid)
    if kind == "reinforce_baseline":
      out = whitened(out, valid)
  few = valid.sum(1, keepdims=True) < 2
  return np.where(valid & ~few, out, 0.0)


def reward_cases():
  """name -> (reward_PG, pair_PGC), NaN where a row has no verdict."""
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
  for each, reward in cases.items():
    second = np.where(np.isfinite(reward), rng.normal(0, 2, reward.shape), np.nan)
    out[each] = reward, np.stack([reward, reward if each == "all_equal" else second], -1)
  return out


def overlong(length, budget, buffer):
  excess = length - (budget - buffer)
  return min(-excess / buffer, 0.0)


GAE_MASKS = {
  "ragged": [[1] * 6, [1] * 3 + [0] * 3, [0] * 6, [1, 1, 0, 1, 1, 0]],
  "one_token": [[1, 0, 0, 0, 0, 0]] + [[0] * 6] * 3,
  "all_invalid": [[0] * 6] * 4,
}


def gae(reward, value, mask, gamma, lam):
  """(advantage, return, advantage whitened)."""
  advantage = np.zeros(mask.shape)
  for b in range(len(mask)):
    following, value_after = 0.0, 0.0
    for t in reversed([t for t in range(mask.shape[1]) if mask[b, t]]):
      delta = reward[b, t] + gamma * value_after - value[b, t]
      advantage[b, t] = delta + gamma * lam * following
      following, value_after = advantage[b, t], value[b, t]
  return advantage, advantage + value * mask, whitened(advantage, mask == 1)
