"""What `gtalign steer` shows people: both matrices of a question, or a line for each of many."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from gtalign_jax.evaluate.steering import follows, holds
from gtalign_jax.evaluate.tables import aligned
from gtalign_jax.game.resampling import spanned
from gtalign_jax.types import ACTIONS, CELLS

RATES = ("follow", "carry", "hold")


def line(row: Mapping[str, Any], names: Sequence[str]) -> str:
  """`ID  CHOICE as written; NAME: new choice, whether the model went with it; …`.

  Policies of which the same is to be said stand together.
  """
  if not row["policies"]:
    return f"{row['id']}  no payoffs to edit ({', '.join(row['reasons'])})"
  said = [f"{row['id']}  {row['policies'][0]['choice']} as written"]
  each = zip(map(_verdict, row["policies"]), names, strict=True)
  for verdict, group in itertools.groupby(each, key=lambda pair: pair[0]):
    of = [name for _, name in group]
    said.append(f"{of[0]}{f' to {of[-1]}' if of[1:] else ''}: {verdict}")
  return "; ".join(said)


def _verdict(result: Mapping[str, Any]) -> str:
  after = result["edited_named"] or "nothing"
  if result["choice"] == result["edited_choice"]:
    return "same choice" + ("" if holds(result) else f", but {after} named")
  if not follows(result):
    return f"{result['edited_choice']}, not followed ({after})"
  before = ", as named before" if result["named"] == result["edited_choice"] else ", followed"
  return result["edited_choice"] + before


def table(found: Mapping[str, Any], names: Sequence[str]) -> str:
  """What `steering.measured` found: a line for each policy, and what they come to."""
  grid = [["", "changed", *RATES, *ACTIONS, "tokens"]]
  grid.append(["as written", *["-"] * (1 + len(RATES)), *_behaviour(found["as_written"])])
  for name, each in zip(names, found["policies"], strict=True):
    rates = [spanned(each[rate], each[f"{rate}_interval"], ".2f") for rate in RATES]
    grid.append([name, str(each["changed"]), *rates, *_behaviour(each)])
  lines = ["", *aligned(grid)]
  rates = [f"{rate} {spanned(found[rate], found[f'{rate}_interval'], '.2f')}" for rate in RATES]
  lines.append(
    f"all: {', '.join(rates)}; {found['n']} edits of {found['prompts']} prompts that "
    "the model might follow"
  )
  if found["elasticity"] is not None:
    shown = spanned(found["elasticity"], found["elasticity_interval"], ".2f")
    lines.append(f"elasticity of the tokens {shown}, {found['elasticity_prompts']} prompts")
  if "flip" in found:
    lines += _flips(found["flip"])
  if found["unreadable"]:
    lines.append(f"{found['unreadable']} of {found['questions']} questions have no payoffs to edit")
  return "\n".join(lines) + "\n"


def _flips(flip: Mapping[str, Any]) -> list[str]:
  lines = []
  for way, each in flip.items():
    lines.append(
      f"asking turns into answering by the closed form ({way}): {each['records']} records"
    )
    for name, words in (("policy", "the policy"), ("rule", "the rule on the policy's matrix")):
      of = each[name]
      near = spanned(of["within_one"], of["within_one_interval"], ".2f")
      steps = "" if of["steps"] is None else f", by {of['steps']:+.1f} steps"
      lines.append(f"  {words}: within one step {near}; {of['n']} flip{steps}")
  return lines


def _behaviour(each: Mapping[str, Any]) -> list[str]:
  shares = [spanned(each["actions"][a], each["actions_interval"][a], ".2f") for a in ACTIONS]
  return [*shares, spanned(each["tokens"], each["tokens_interval"], ".1f")]


def matrices(result: Mapping[str, Any]) -> str:
  """One result of `steer`: both matrices side by side, changed cells marked, and the responses."""
  lines = [f"pricing {result['pricing']}, question {result['user_type'] or 'of no declared type'}"]
  lines.append(f"{'':9}{'as written':^17}{'edited':^17}")
  lines.append(f"{'cell':9}" + f"{'LLM':>7}{'user':>7}   " * 2)
  for cell in CELLS:
    pairs = (result["payoff"][cell], result["edited"][cell])
    mark = "*" if pairs[0] != pairs[1] else ""
    lines.append(f"{cell:9}" + "".join(f"{p['LLM']:7.1f}{p['user']:7.1f}   " for p in pairs) + mark)
  for key in ("choice", "named"):
    before, after = result[key] or "-", result[f"edited_{key}"] or "-"
    lines.append(f"{key:9}{before:>14}   {after:>14}" + ("   *" if before != after else ""))
  lines.append(f"the model: {_verdict(result)}")
  for label, prefix in (("as written", ""), ("edited", "edited_")):
    error = result[prefix + "parse_error"]
    said = result[prefix + "response"] or ""
    # a model may write escape sequences
    shown = "".join(char if char.isprintable() else " " for char in said)
    lines.append(f"{label}: " + (f"({error}) " if error else "") + shown)
  return "\n".join(line.rstrip() for line in lines) + "\n"
