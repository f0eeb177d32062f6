"""`gtalign steer` as an offline job: its rows, and what they come to (docs/steering.md)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.data import concierge
from gtalign_jax.data.concierge_game import Count
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.evaluate import flips, partial
from gtalign_jax.evaluate.compare import RESAMPLES
from gtalign_jax.evaluate.offline import Job
from gtalign_jax.game import demand, measures, pricing, resampling
from gtalign_jax.game.pricing import Pricing
from gtalign_jax.progress import Advance
from gtalign_jax.rollout import steer
from gtalign_jax.rollout.steer import Question
from gtalign_jax.types import ACTIONS, action_of

Row = Mapping[str, Any]
NONE = "none"  # an action that cannot be told


class Plan(NamedTuple):
  """policies: that edit each opening. tries: openings sampled of a question, at most.

  swept: the policy whose price is swept, and prices: what it is for each of the policies; else the
  prices are what the user pays for a token.
  """

  policies: list[Pricing]
  tries: int
  prices: list[float]
  swept: Pricing | None = None

  def names(self) -> list[str]:
    """What the policies are called, in tables and lines."""
    if self.swept is None:
      return [each.name for each in self.policies]
    return [f"price {each:g}" for each in self.prices]


def plan(policies: Sequence[Pricing], tries: int, prices: Sequence[float] = ()) -> Plan:
  """prices: of a sweep of the one policy. Raises BadInput where that policy has no price."""
  if not prices:
    return Plan(list(policies), tries, [each.price[1] for each in policies])
  swept = policies[0]
  return Plan([pricing.at_price(swept, each) for each in prices], tries, list(prices), swept)


# ---------------------------------------------------------------- the rows


def write(
  job: Job, asked: Plan, encoded: Encoded, out: Path, advance: Advance, overwrite: bool
) -> list[dict]:
  """Writes a row for each prompt to `out`, resumable; errors as of `partial.write`."""
  named = partial.job(job.config, job.options.named(), encoded, False)
  named |= {"the pricing": [pricing.table(each) for each in asked.policies], "tries": asked.tries}
  chunks = functools.partial(rows, job, asked, encoded)
  return partial.write(named, 1, len(encoded.ids), chunks, out, advance, overwrite)


def rows(
  job: Job, asked: Plan, encoded: Encoded, first: int = 0, number: int = 0
) -> Iterator[list[dict]]:
  """Rows of some prompts at a time, from prompt number `first` on.

  number: which the draws of prompt 0 are derived from; those of the others follow. So no two
  prompts draw the same, and a prompt draws the same whatever is steered together with it.
  """
  stops, rewards = job.config.rollout.stop, job.config.rewards
  sampler = steer.sampler(job.engine, job.params, job.key, stops, len(asked.policies))
  count = functools.cache(lambda text: len(job.tokenizer.encode(text, add_special_tokens=False)))
  for start in range(first, len(encoded.ids), job.chunk):
    records = encoded.records[start : start + job.chunk]
    questions = [
      Question(
        encoded.ids[n],
        number + n,
        [flips.expecting(each, record, count) for each in asked.policies],
      )
      for n, record in enumerate(records, start)
    ]
    steered = steer.steer(
      job.tokenizer, sampler.complete, questions, rewards, asked.tries, sampler.longest
    )
    yield [_row(*each, asked, rewards, count) for each in zip(records, steered, strict=True)]


def _row(
  record: Record, found: steer.Steered, asked: Plan, rewards: Any, count: Count
) -> dict[str, Any]:
  prices = [{"price": each} if asked.swept else {} for each in asked.prices]
  row: dict[str, Any] = {
    "id": record.id,
    "data_source": record.data_source,
    "question": record.messages[-1]["content"],
    "reasons": found.reasons,
    "policies": [result | price for result, price in zip(found.results, prices)],
  }
  if asked.swept and record.data_source == concierge.SOURCE:
    row["closed_form"] = flips.closed_form(record, asked.swept, asked.prices, rewards, count)
  return row


# ---------------------------------------------------------------- what they come to


def measured(rows: Sequence[Row], asked: Plan) -> dict[str, Any]:
  """The JSON of `gtalign steer --data` (docs/steering.md); shares have Wilson intervals."""
  read = [row for row in rows if row["policies"]]
  every = [(n, each) for n, row in enumerate(read) for each in row["policies"]]
  tokens_NK = [[each["edited_response_tokens"] for each in row["policies"]] for row in read]
  out: dict[str, Any] = {
    "questions": len(rows),
    "unreadable": len(rows) - len(read),
    "as_written": _behaviour([row["policies"][0] for row in read], ""),
    "policies": [
      {"pricing": policy.name, "price": price}
      | _behaviour([row["policies"][k] for row in read], "edited_")
      | _edits([(n, row["policies"][k]) for n, row in enumerate(read)])
      for k, (policy, price) in enumerate(zip(asked.policies, asked.prices, strict=True))
    ],
  }
  out |= _edits(every) | demand.elasticity(asked.prices, np.array(tokens_NK, float), RESAMPLES)
  known = [row["closed_form"]["sum"]["actions"] for row in read if "closed_form" in row]
  if known:
    out["flip"] = flips.found(read, asked.prices)
    for each, actions in zip(out["policies"], zip(*known), strict=True):
      each["closed_form"] = {a: actions.count(a) / len(actions) for a in ACTIONS}
  return out


def _behaviour(results: Sequence[Row], prefix: str) -> dict[str, Any]:
  """What the responses did, and how long they are. prefix: "edited_" or of the chain as written."""
  did = [each[f"{prefix}action"] or NONE for each in results]
  shares = {each: did.count(each) / len(did) if did else None for each in (*ACTIONS, NONE)}
  lengths = [each[f"{prefix}response_tokens"] for each in results]
  known = np.array([each for each in lengths if each is not None], float)
  mean = resampling.bootstrap({"": known}, RESAMPLES)[""] if len(known) else None
  return {
    "actions": shares,
    "actions_interval": {
      name: None if share is None else list(measures.wilson(share, len(did)))
      for name, share in shares.items()
    },
    "tokens": mean and mean["mean"],
    "tokens_interval": mean and [mean["low"], mean["high"]],
  }


def _edits(results: Sequence[tuple[int, Row]]) -> dict[str, Any]:
  """follow, carry and hold of (question, result); n, prompts, and `changed`.

  follow, carry: where the edit changes the rule's choice, but not to what the chain had named or
  done anyway. hold: where it changes the payoffs alone.
  """
  changed = [each for each in results if each[1]["choice"] != each[1]["edited_choice"]]
  swaps = [
    (n, each)
    for n, each in changed
    if each["named"] != each["edited_choice"] and each["action"] != action_of(each["edited_choice"])
  ]
  stays = [
    (n, each)
    for n, each in results
    if each["choice"] == each["edited_choice"] and each["payoff"] != each["edited"]
  ]
  found = measures.intervention(
    [follows(each) for _, each in swaps],
    [each["edited_action"] == action_of(each["edited_choice"]) for _, each in swaps],
    [n for n, _ in swaps],
    [holds(each) for _, each in stays],
    [n for n, _ in stays],
  )
  return found | {"changed": len(changed)}


def follows(result: Row) -> bool:
  """Whether the chain names the choice on its edited payoffs."""
  return result["edited_named"] == result["edited_choice"]


def holds(result: Row) -> bool:
  """Whether the chain names the action that it had named."""
  before, after = action_of(result["named"]), action_of(result["edited_named"])
  return before is not None and after == before
