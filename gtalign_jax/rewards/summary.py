"""Scored rows as metrics (names: FORMULAS section 8, docs/metrics.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gtalign_jax.game import measures
from gtalign_jax.rewards import parts
from gtalign_jax.rewards.chain import ERRORS
from gtalign_jax.rewards.conversation import ENDED
from gtalign_jax.types import ACTIONS, FORMS, GAME, ROLES, USER_TYPES, has_payoff

PARTS = {
  "user": "user_reward",
  "llm": "llm_reward",
  "welfare": "utility",
  "format": "format",
  "decision": "payoff_reward",
  "answer": "answer_reward",
}


def summarise(
  rows: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
  """Means over a batch, and the same for each data_source as `…/<source>`.

  rows: with data_source. scored: of `score.score_rows`. Everything is over valid rows but
  judge/invalid_frac, the share of all rows that are not; action_frac and pareto_frac are shares of
  the parsed rows that name a cell, dilemma_frac and equilibrium_gap of the parsed rows; those of
  `_measures` look at the rows of a prompt together (id `<prompt>#<sample>`). NaN where nothing is
  left to average; names of conversations, of edits, of realised payoffs and of a known truth are
  there only where rows have some, and names of the matrix only where the form of the chain has one.
  """
  out = means(scored)
  sources = [row["data_source"] for row in rows]
  for name in sorted(set(sources)):
    part = [each for source, each in zip(sources, scored, strict=True) if source == name]
    out |= {f"{key}/{name}": value for key, value in means(part).items()}
  return out


def means(scored: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """`summarise` of one source, or of all as one."""
  form = next((each.get("form", GAME) for each in scored), GAME)  # rows have one form
  plays = has_payoff(form)
  # a row without verdict counts nowhere, and one without a matrix has no game
  valid = [each for each in scored if each["valid"]]
  parsed = [each for each in valid if each["parsed"]]
  out = {
    f"rewards/{part}/mean": _mean(valid, key)
    for part, key in PARTS.items()
    if plays or part != "decision"
  }
  if any("calibration" in each for each in scored):
    out["rewards/calibration/mean"] = _mean(valid, "calibration")
  if any("outcome_welfare" in each for each in scored):  # corrected mode, of this version
    out["rewards/outcome/mean"] = _mean(valid, "outcome_welfare")
  out["judge/invalid_frac"] = _share(len(scored) - len(valid), len(scored))
  out["chain/parse_rate"] = _share(len(parsed), len(valid))
  for reason in ERRORS:
    if plays or not reason.startswith("payoff"):
      failed = sum(each["parse_error"] == reason for each in valid)
      out[f"chain/fail/{reason}"] = _share(failed, len(valid))
  if plays:
    out |= _decisions(valid, parsed, any("choice" in each for each in scored))
  out |= _conversations(scored) | _interventions(scored)
  out |= _truth(valid, plays) | _types(parsed, "thinking" in FORMS[form])
  # paper mode calls rows without verdict valid; what they realised is nobody's judgement
  judged = [each for each in parsed if each.get("judge_score") is not None]
  return out | (_measures(parsed, judged) if plays else _realised(judged))


def _decisions(
  valid: Sequence[Mapping[str, Any]], parsed: Sequence[Mapping[str, Any]], corrected: bool
) -> dict[str, float]:
  """What chains choose by their matrix."""
  naming = [each for each in parsed if each["named_cell"]]  # one that names no cell has no action
  out = {}
  if corrected:
    out["game/choice_consistent"] = _share(sum(each["choice"] == 1 for each in valid), len(valid))
    out["game/carried_out"] = _mean(valid, "carried_out")
  for action in ACTIONS:
    # of either user type: the share of actions is what training moves
    named = sum(each["named_cell"].endswith(action) for each in naming)
    out[f"game/action_frac/{action}"] = _share(named, len(naming))
  out["game/pareto_frac"] = _share(sum(bool(each["pareto"]) for each in naming), len(naming))
  out["game/dilemma_frac"] = _share(sum(bool(each["dilemma"]) for each in parsed), len(parsed))
  out["game/equilibrium_gap"] = _mean(parsed, "equilibrium_gap")
  return out


def _conversations(scored: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Of all conversations, the invalid ones too; {} without any."""
  talks = [each for each in scored if each.get("ended")]
  if not talks:
    return {}
  out = {"conversation/turns/mean": _mean(talks, "n_turns")}
  for how in ENDED:
    ended = sum(each["ended"] == how for each in talks)
    out[f"conversation/{how}_frac"] = _share(ended, len(talks))
  return out


def intervened(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """`measures.intervention` of the rows that were edited (column `intervention`)."""
  edited = [(prompt_of(row["id"]), row) for row in rows if row.get("intervention")]
  number = {prompt: n for n, prompt in enumerate(dict.fromkeys(prompt for prompt, _ in edited))}
  found = [(number[prompt], parts.edits(row)) for prompt, row in edited]
  held = [(each, of) for of, edit in found for each in edit["hold"]]
  return measures.intervention(
    [edit["follow"][0] for _, edit in found],
    [edit["carry"][0] for _, edit in found],
    [of for of, _ in found],
    [each for each, _ in held],
    [of for _, of in held],
  )


def _interventions(scored: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Of all rows, those without verdict too; {} where no row was meant to be edited."""
  if not any("intervention" in each for each in scored):
    return {}
  found = intervened(scored)
  return {f"game/{name}": found[name] for name in ("follow", "carry", "hold", "effect")}


def _truth(valid: Sequence[Mapping[str, Any]], plays: bool) -> dict[str, float]:
  """Of the rows whose game has a known solution; {} without any."""
  known = [each for each in valid if "regret" in each]
  if not known:
    return {}
  out = {"game/regret": _mean(known, "regret")}
  for role in map(str.lower, ROLES) if plays else ():
    out[f"game/true_calibration_error/{role}"] = _mean(known, f"true_error_{role}")
  return out


def _types(parsed: Sequence[Mapping[str, Any]], declares: bool) -> dict[str, float]:
  """What chains and responses make of questions whose label says whether they are definite.

  declares: whether chains have a block that says the type.
  """
  found = [parts.types(each) for each in parsed]
  names = [name for name in parts.types({}) if declares or name != "type_accuracy"]
  return {
    f"game/{name}": _share(*(sum(each[name][side] for each in found) for side in (0, 1)))
    for name in names
  }


def _measures(
  parsed: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
  """Collapse and calibration of the matrices (game/measures.py). judged: those with a verdict."""
  # get: rows that an older version has written lack the column
  games, judged = ([each for each in part if each.get("payoff")] for part in (parsed, judged))
  rows, stated = matrices(games), [each["sums"] for each in games if each.get("sums")]
  found = calibrate(judged)
  out = {
    "game/distinct_frac": measures.distinct(rows),
    "game/top_matrix_frac": measures.top_matrix(rows),
    "game/payoff_icc": measures.icc(rows),
    "game/sums_right": _share(sum(each[0] for each in stated), sum(each[1] for each in stated)),
  }
  for role, error, order in zip(ROLES, found.error_R.tolist(), found.order_R.tolist()):
    out[f"game/calibration_error/{role.lower()}"] = error
    out[f"game/calibration_order/{role.lower()}"] = order
  return out | _realised(judged)


def _realised(judged: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Mean payoffs that came out, by type (the label's, else the declared one) and first action."""
  found = realised(judged)
  return {
    f"game/realised/{USER_TYPES[u]}/{ACTIONS[a]}/{role.lower()}": float(found.mean_UAR[u, a, r])
    for u, a in zip(*np.nonzero(found.n_UA))
    for r, role in enumerate(ROLES)
  }


def realised(judged: Sequence[Mapping[str, Any]]) -> measures.Realised:
  """`measures.realised` of scored rows with a verdict; the label's type goes before the chain's."""
  types = [each.get("type_label") or each["user_type"] for each in judged]
  return measures.realised(
    np.array([_index(USER_TYPES, each) for each in types], np.int64),
    np.array([_index(ACTIONS, each["action"]) for each in judged], np.int64),
    _utilities(judged),
  )


def matrices(scored: Sequence[Mapping[str, Any]]) -> measures.Rows:
  """The matrices of scored rows, which all have one, by prompt."""
  number: dict[str, int] = {}
  # setdefault: prompts are numbered as they come
  prompts = [number.setdefault(prompt_of(each["id"]), len(number)) for each in scored]
  payoff_NUAR = np.array([each["payoff"] for each in scored], np.float64).reshape(-1, 2, 3, 2)
  return measures.Rows(payoff_NUAR, np.array(prompts, np.int64))


def prompt_of(row_id: Any) -> str:
  """The prompt of a row with the id `<prompt>#<sample>`; another id stands for itself."""
  prompt, _, sample = str(row_id).rpartition("#")
  return prompt if prompt and sample.isdecimal() else str(row_id)


def calibrate(judged: Sequence[Mapping[str, Any]]) -> measures.Calibration:
  """Calibration of scored rows that have a matrix and a verdict."""
  return measures.calibrate(
    matrices(judged),
    np.array([_index(USER_TYPES, each["user_type"]) for each in judged], np.int64),
    np.array([_index(ACTIONS, each["action"]) for each in judged], np.int64),
    _utilities(judged),
  )


def _utilities(judged: Sequence[Mapping[str, Any]]) -> np.ndarray:
  """utility_NR, (L, U) of scored rows."""
  return np.array([parts.utility(each) for each in judged], np.float64).reshape(-1, len(ROLES))


def _index(names: Sequence[str], name: str | None) -> int:
  return -1 if name is None else names.index(name)


def _share(count: float, of: float) -> float:
  return count / of if of else math.nan  # not 0: nothing was there to count


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
  values = [row[key] for row in rows if row[key] is not None]
  # fsum: the mean must not depend on the order in which processes hand in their rows
  return math.fsum(values) / len(values) if values else math.nan
