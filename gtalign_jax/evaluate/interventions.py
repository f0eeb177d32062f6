"""What edits of the matrix did, over the rows of `gtalign eval --intervene` and `--force`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from gtalign_jax.evaluate.compare import RESAMPLES
from gtalign_jax.evaluate.tables import aligned
from gtalign_jax.game import measures, resampling, reward
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards.summary import intervened, prompt_of
from gtalign_jax.types import ACTIONS, ROLES, USER_TYPES

Row = Mapping[str, Any]
T = TypeVar("T", bound=Mapping[str, Any])
SHARES = ("follow", "carry", "hold", "effect")


def found(rows: Sequence[Row], rewards: RewardConfig) -> tuple[dict[str, Any], str]:
  """(keys of INTERFACES `eval --intervene` and `--force`, the same for people), where asked for."""
  out: dict[str, Any] = {}
  said = ""
  if any("intervention" in row for row in rows):
    parts = {name: intervened(part) for name, part in by_source(rows).items()}
    whole = intervened(rows)
    out |= whole | {"sources": parts}
    said += _shares(parts | {"all": whole})
  if any("forced" in row for row in rows):
    worth = {name: realised(part) for name, part in by_source(rows).items()}
    lost = regret(rows, rewards)
    out |= {"realised": worth} | lost
    said += _worth(worth) + _lost(lost)
  return out, said


def by_source(rows: Sequence[T]) -> dict[str, list[T]]:
  """The rows of each source, sources by name."""
  names = sorted({row["data_source"] for row in rows})
  return {name: [row for row in rows if row["data_source"] == name] for name in names}


def _plays(row: Row) -> dict[int, Row]:
  """What the actions came to that were carried out and have a verdict, by index of ACTIONS."""
  return {
    a: play
    for a, name in enumerate(ACTIONS)
    if (play := (row["forced"] or {}).get(name))
    and play["action"] == name
    and None not in (play["LLM"], play["user"])
  }


def realised(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
  """{USER_TYPE: {ACTION: {"LLM", "user", "n"}}}: mean 10 R - 5 of each action that was forced.

  By the label's type, else the declared one. Plays whose first response did another action count
  nowhere: what they came to says nothing of this one.
  """
  types = [row.get("type_label") or row["user_type"] for row in rows]
  flat = [
    (USER_TYPES.index(kind) if kind else -1, a, [play[role] for role in ROLES])
    for row, kind in zip(rows, types, strict=True)
    for a, play in _plays(row).items()
  ]
  came = measures.realised(
    np.array([u for u, _, _ in flat], int),
    np.array([a for _, a, _ in flat], int),
    np.array([pair for _, _, pair in flat], float),
  )
  out: dict[str, dict[str, dict[str, Any]]] = {}
  for u, a in zip(*np.nonzero(came.n_UA)):
    pair = dict(zip(ROLES, came.mean_UAR[u, a].tolist()))
    out.setdefault(USER_TYPES[u], {})[ACTIONS[a]] = pair | {"n": int(came.n_UA[u, a])}
  return out


def regret(rows: Sequence[Row], rewards: RewardConfig) -> dict[str, Any]:
  """Mean over prompts of the largest W of an action less W of the one that was taken unedited.

  The W of an action is that of its mean utilities over the samples. Of prompts all of whose actions
  were played; regret_prompts counts them. Samples of a prompt are averaged.
  """
  prompts: dict[str, list[Row]] = {}
  for row in rows:
    prompts.setdefault(prompt_of(row["id"]), []).append(row)
  values = []
  for group in prompts.values():
    plays = [_plays(row) for row in group]
    each = [[[p[a]["user"], p[a]["LLM"]] for p in plays if a in p] for a in range(len(ACTIONS))]
    if all(each):
      user_A, llm_A = np.array([np.mean(pairs, axis=0) for pairs in each]).T
      alpha = group[0].get("alpha", rewards.alpha)
      welfare_A, _ = reward.worth(user_A, llm_A, rewards, rewards.variant, alpha)
      taken = [ACTIONS.index(row["action"]) if row["action"] else -1 for row in group]
      values.append(measures.regret([welfare_A] * len(group), taken).mean())
  out: dict[str, Any] = {"regret": None, "regret_interval": None, "regret_prompts": len(values)}
  if values:
    mean = resampling.bootstrap({"regret": np.array(values)}, RESAMPLES)["regret"]
    out |= {"regret": mean["mean"], "regret_interval": [mean["low"], mean["high"]]}
  return out


# ---------------------------------------------------------------- for people


def _shares(parts: Mapping[str, dict[str, Any]]) -> str:
  grid = [["source", *SHARES, "chains", "prompts"]]
  for name, part in parts.items():
    cells = [resampling.spanned(part[s], part[f"{s}_interval"], ".2f") for s in SHARES]
    counts = [str(part[key]) for key in ("n", "prompts")]
    grid.append([name, *cells, *counts])
  return "\n".join(["", *aligned(grid)]) + "\n"


def _worth(worth: Mapping[str, dict[str, dict[str, Any]]]) -> str:
  grid = [["source", "type", *ACTIONS]]
  for name, by_type in worth.items():
    for kind, by_action in by_type.items():
      plays = [by_action.get(action) for action in ACTIONS]
      cells = ["{LLM:.1f} {user:.1f} (n {n})".format(**p) if p else "-" for p in plays]
      grid.append([name, kind, *cells])
  return "\n".join(["", "played out: LLM and user, on the matrices' scale", *aligned(grid)]) + "\n"


def _lost(lost: Mapping[str, Any]) -> str:
  if lost["regret"] is None:
    return "regret -: no prompt has a play of each action\n"
  shown = resampling.spanned(lost["regret"], lost["regret_interval"])
  return f"regret {shown}, {lost['regret_prompts']} prompts\n"
