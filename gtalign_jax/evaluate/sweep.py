"""`gtalign eval --sweep`: every prompt under each weight or price, and whether the policy responds.

FORMULAS section 12. What a prompt says of its reward is its condition (data/conditions.py).
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.data import intents
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.evaluate import flips
from gtalign_jax.evaluate.compare import RESAMPLES
from gtalign_jax.evaluate.interventions import by_source
from gtalign_jax.evaluate.tables import aligned
from gtalign_jax.game import conditions, demand, measures, pricing, resampling, responses, reward
from gtalign_jax.game.conditions import Condition
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.types import ACTIONS

KEY = "sweep"  # of extra_info: {"of": id of the prompt, "alpha" or "price": value}
NAMES = ("price", "alpha")
POLICY = "pay_per_token"  # whose prices `price` scales: the user's is the value
DA = ACTIONS.index("DA")
SHARES = (*ACTIONS, "none")
MEANS = {"user": "user_reward", "llm": "llm_reward", "tokens": "response_tokens"}


class Sweep(NamedTuple):
  """name: one of NAMES. values: rising."""

  name: str
  values: tuple[float, ...]

  def config(self) -> dict[str, Any]:
    """Keys that say of the reward what the prompts will say."""
    if self.name == "alpha":
      return {"data.condition": "alpha", "data.condition_alphas": self.values}
    return {"data.condition": "pricing"}

  def records(self, records: Sequence[Record], seed: int, turns: int) -> list[Record]:
    """Each record under every condition, one after the other; its user means the same in all."""
    told = [conditions.KEY, KEY]
    out = []
    for record in records:
      met = intents.given(record, seed, None, turns)
      for value in self.values:
        more = (self._condition(value).table(), {"of": record.id, self.name: value})
        extra = met.extra_info | dict(zip(told, more))
        out.append(met._replace(id=f"{record.id}@{value:g}", extra_info=extra))
    return out

  def _condition(self, value: float) -> Condition:
    if self.name == "alpha":
      return Condition(alpha=value)
    return Condition(pricing=pricing.at_price(pricing.PRESETS[POLICY], value))

  def whole(self, encoded: Encoded) -> Encoded:
    """The prompts that fit under every condition."""
    of = [record.extra_info[KEY]["of"] for record in encoded.records]
    fits = collections.Counter(of)
    kept = [i for i, each in enumerate(of) if fits[each] == len(self.values)]
    left_out = encoded.left_out + len(of) - len(kept)
    return Encoded([encoded.records[i] for i in kept], [encoded.ids[i] for i in kept], left_out)


class Table(NamedTuple):
  """Means over the samples of P prompts at V values; NaN where none has a verdict.

  share_PVK: of SHARES. mean: name of MEANS -> [P, V]. best_PV: index of the action that is best by
  the closed form, -1 where there is none.
  """

  share_PVK: np.ndarray
  mean: dict[str, np.ndarray]
  best_PV: np.ndarray


def found(
  rows: Sequence[Mapping[str, Any]], sweep: Sweep, rewards: RewardConfig
) -> tuple[dict[str, Any], str]:
  """({"sweep": {"name", "values", "all", "sources"}}, the same for people)."""
  parts = {name: _curve(part, sweep, rewards) for name, part in by_source(rows).items()}
  whole = parts | {"all": _curve(rows, sweep, rewards)}
  text = "\n".join(_lines(name, part, sweep.name) for name, part in whole.items())
  out = {"name": sweep.name, "values": list(sweep.values), "all": whole["all"], "sources": parts}
  return {"sweep": out}, text


def _curve(
  rows: Sequence[Mapping[str, Any]], sweep: Sweep, rewards: RewardConfig
) -> dict[str, Any]:
  """Of one source: n prompts, a point for each value, and whether prompts respond in order.

  monotone: share of prompts whose responses get no longer as the price rises, or whose user gains
  no less as alpha does. moved: share that respond at all. Prompts without verdict under some value
  count nowhere.
  """
  table = _table(rows, sweep, rewards)
  P, V = table.best_PV.shape
  out: dict[str, Any] = {"n": P, "points": []}
  if not P:
    return out
  drawn = {name: [resampling.bootstrap({name: mean_PV[:, v]}, RESAMPLES)[name] for v in range(V)]
           for name, mean_PV in table.mean.items()}  # fmt: skip
  for v, value in enumerate(sweep.values):
    point: dict[str, Any] = {sweep.name: value}
    shares = dict(zip(SHARES, table.share_PVK[:, v].mean(0).tolist()))
    point["actions"] = shares
    point["actions_interval"] = {k: list(measures.wilson(x, P)) for k, x in shares.items()}
    for name, means in drawn.items():
      point |= {name: means[v]["mean"], f"{name}_interval": [means[v]["low"], means[v]["high"]]}
    if (table.best_PV >= 0).all():
      share_A = np.bincount(table.best_PV[:, v], minlength=len(ACTIONS)) / P
      point["closed_form"] = dict(zip(ACTIONS, share_A.tolist()))
    out["points"].append(point)
  rising = sweep.name == "alpha"
  responded_PV = table.mean["user" if rising else "tokens"]
  for name, right_P in {
    "monotone": responses.ordered(responded_PV, rising),
    "moved": np.ptp(responded_PV, axis=1) > responses.TIE,
  }.items():
    out[name] = float(right_P.mean())
    out[f"{name}_interval"] = list(measures.wilson(out[name], P))
  elasticity = demand.elasticity(sweep.values, responded_PV, RESAMPLES)
  return out | elasticity | _flips(table, sweep.values)


def _table(rows: Sequence[Mapping[str, Any]], sweep: Sweep, rewards: RewardConfig) -> Table:
  place: dict[str, int] = {}
  for row in rows:
    place.setdefault(row["extra_info"][KEY]["of"], len(place))
  shape = len(place), len(sweep.values)
  count_PV, share_PVK = np.zeros(shape), np.zeros((*shape, len(SHARES)))
  sums, best_PV = {name: np.zeros(shape) for name in MEANS}, np.full(shape, -1)
  for row in rows:
    swept = row["extra_info"][KEY]
    at = place[swept["of"]], sweep.values.index(swept[sweep.name])
    if row["valid"]:
      count_PV[at] += 1
      share_PVK[(*at, SHARES.index(row["action"] or "none"))] += 1
      for name, column in MEANS.items():
        sums[name][at] += row[column]
    if row.get("true_payoffs"):
      best_PV[at] = _best(row, rewards)
  kept = (count_PV > 0).all(1)
  return Table(
    share_PVK[kept] / count_PV[kept, :, None],
    {name: sum_PV[kept] / count_PV[kept] for name, sum_PV in sums.items()},
    best_PV[kept],
  )


def _best(row: Mapping[str, Any], rewards: RewardConfig) -> int:
  llm_A, user_A = np.array(row["true_payoffs"]).T
  alpha = row.get("alpha", rewards.alpha)
  return int(np.argmax(reward.worth(user_A, llm_A, rewards, rewards.variant, alpha)[1]))


def _flips(table: Table, values: Sequence[float]) -> dict[str, Any]:
  """Where prompts flip from asking to answering, against the closed form; {} where none should.

  n: prompts whose best action becomes DA inside the sweep. within_one: share of them that do so
  themselves (by what most of the samples do), at that value or one beside it. closed_form, policy:
  the mean value at which they do, `policy` over those that do (`flipped` of them).
  """
  best_P = [flips.answers_from(each) for each in (table.best_PV != DA).tolist()]
  asks_PV = (table.share_PVK[:, :, DA] <= 0.5).tolist()
  due = [(best, flips.answers_from(asks)) for best, asks in zip(best_P, asks_PV) if best]
  if not due:
    return {}
  did = [own for _, own in due if own is not None]
  near = sum(own is not None and abs(own - best) <= 1 for best, own in due) / len(due)
  return {
    "flip": {
      "n": len(due),
      "within_one": near,
      "within_one_interval": list(measures.wilson(near, len(due))),
      "closed_form": float(np.mean([values[best] for best, _ in due])),
      "policy": float(np.mean([values[own] for own in did])) if did else None,
      "flipped": len(did),
    }
  }


# ---------------------------------------------------------------- for people


def _lines(source: str, part: Mapping[str, Any], name: str) -> str:
  if not part["n"]:
    return f"{source}: no prompt has a verdict under every {name}\n"
  best = [f"best {each}" for each in part["points"][0].get("closed_form", ())]
  grid = [["source", name, *SHARES, *MEANS, *best]]
  for point in part["points"]:
    cells = [*point["actions"].values(), *(point[each] for each in MEANS)]
    cells += point.get("closed_form", {}).values()
    grid.append([source, f"{point[name]:g}", *(f"{each:.3f}" for each in cells)])
  shown = ", ".join(
    f"{key} {resampling.spanned(part[key], part[f'{key}_interval'], '.2f')}"
    for key in ("monotone", "moved", "elasticity")
    if part[key] is not None
  )
  said = f"{source}: {shown}, {part['n']} prompts"
  if flip := part.get("flip"):
    low, high = flip["within_one_interval"]
    own = "never" if flip["policy"] is None else f"{flip['policy']:.4g}"
    said += (
      f"; asking to answering at {own} ({flip['flipped']} of {flip['n']}), closed form "
      f"{flip['closed_form']:.4g}, within one step {flip['within_one']:.2f} "
      f"[{low:.2f}, {high:.2f}]"
    )
  return "\n".join([*aligned(grid), said]) + "\n"
